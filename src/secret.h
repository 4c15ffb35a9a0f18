/* Secrets: keyed hashes (HMAC-SHA-256), which are what is kept of a client's credential, so that nothing
 * can be learnt from it without the key, which dies with the run; and memory and files that hold
 * secrets themselves. */
#ifndef SECRET_H
#define SECRET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SECRET_BYTES = 32 };

struct secret;

/* The key is copied. Owned by the caller. */
struct secret *secret_new(const uint8_t key[SECRET_BYTES]);
void secret_free(struct secret **s);
/* The hash of `n` texts in this order. NULL and "" differ, and so do "ab" "c" and "a" "bc". */
void secret_mac(
    struct secret *s, const char *const *texts, size_t n, uint8_t out[SECRET_BYTES]);

/* --- secret_memory.c -------------------------------------------------------------------------- */

/* Zeroed pages of their own that no core dump has, nor the swap where the limit of locked memory allows. Owned by
 * the caller: secret_drop(). For what lives long: each takes a page at least. */
void *secret_alloc(size_t size);
/* Overwrites it and gives it back. NULL is allowed. */
void secret_drop(void *p);
/* Reads a file of at most `max` bytes into such memory, with a NUL after its *n bytes. It must be a
 * regular file with none of the mode bits `forbidden`. NULL: *error says what is wrong with it
 * (owned by the caller). */
char *secret_read_file(const char *path, mode_t forbidden, size_t max, size_t *n, char **error);

#endif
