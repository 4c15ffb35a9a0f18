/* Digests as the OCI image spec writes them (descriptor.md, "Digests"), and the hash that checks
 * them. */
#ifndef DIGEST_H
#define DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum digest_algo { DIGEST_NONE, DIGEST_SHA256, DIGEST_SHA512 };

enum {
	DIGEST_MAX_BYTES = 64,
	DIGEST_STR_SIZE = 7 + 2 * DIGEST_MAX_BYTES + 1, /* "sha512:" + hex + NUL */
	DIGEST_KEY_MAX = 1 + DIGEST_MAX_BYTES,
};

/* A value: copy it freely. Unused bytes are zero, so that memcmp() compares. */
struct digest {
	uint8_t algo; /* enum digest_algo */
	uint8_t len;  /* bytes used: 32 or 64 */
	uint8_t bytes[DIGEST_MAX_BYTES];
};

enum digest_parse {
	DIGEST_OK,
	DIGEST_UNKNOWN, /* well-formed by the grammar, but of an algorithm that we do not know */
	DIGEST_BAD,     /* not a digest, or of the wrong length, or upper-case hex */
};

/* Reads `n` bytes ("sha256:<64 lower-case hex>"). On anything but DIGEST_OK *d is zeroed. */
enum digest_parse digest_parse(const char *s, size_t n, struct digest *d) __attribute__((warn_unused_result));
/* Writes the text form; returns `out`. */
char *digest_str(const struct digest *d, char out[DIGEST_STR_SIZE]);
/* Writes the hex alone; returns `out`. */
char *digest_hex(const struct digest *d, char out[DIGEST_STR_SIZE]);
const char *digest_algo_name(uint8_t algo);
bool digest_equal(const struct digest *a, const struct digest *b);
/* Binary key: algorithm byte, then the hash. Returns its length. */
size_t digest_key(const struct digest *d, uint8_t key[DIGEST_KEY_MAX]);
bool digest_from_key(const uint8_t *key, size_t len, struct digest *d) __attribute__((warn_unused_result));

struct hasher;

/* A new hash of this algorithm, owned by the caller (hasher_free). */
struct hasher *hasher_new(enum digest_algo algo);
void hasher_update(struct hasher *h, const void *p, size_t n);
/* Ends the hash and stores its digest; only hasher_free() may follow. */
void hasher_final(struct hasher *h, struct digest *d);
/* Is the digest of all bytes so far `d`? The hash may go on. */
bool hasher_is(const struct hasher *h, const struct digest *d);
void hasher_free(struct hasher **h);

#endif
