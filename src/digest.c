/* Digests: text form, key form, and the hash (OpenSSL's EVP, which uses the CPU's SHA
 * extensions). */
#include "digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "log.h"
#include "xalloc.h"

struct hasher {
	EVP_MD_CTX *ctx;
	enum digest_algo algo;
};

static const struct {
	const char *name;
	uint8_t len;
} algos[] = {
	[DIGEST_SHA256] = {"sha256", 32},
	[DIGEST_SHA512] = {"sha512", 64},
};

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
is_algo_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("+._-", c) != NULL;
}

static bool
is_encoded_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	    strchr("=_-", c) != NULL;
}

/* The grammar for algorithms that we do not know (image-spec descriptor.md, "Digests"). */
static enum digest_parse
parse_unknown(const char *s, size_t algo_len, size_t n)
{
	if (algo_len == 0 || algo_len + 1 >= n)
		return DIGEST_BAD;
	for (size_t i = 0; i < algo_len; i++)
		if (s[i] == '\0' || !is_algo_char(s[i]))
			return DIGEST_BAD;
	for (size_t i = algo_len + 1; i < n; i++)
		if (s[i] == '\0' || !is_encoded_char(s[i]))
			return DIGEST_BAD;
	return DIGEST_UNKNOWN;
}

static enum digest_parse
parse_hex(const char *hex, size_t n, struct digest *d)
{
	if (n != 2 * (size_t)d->len)
		return DIGEST_BAD;
	for (size_t i = 0; i < d->len; i++) {
		int hi = hex_value(hex[2 * i]), lo = hex_value(hex[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return DIGEST_BAD;
		d->bytes[i] = (uint8_t)(hi << 4 | lo);
	}
	return DIGEST_OK;
}

enum digest_parse
digest_parse(const char *s, size_t n, struct digest *d)
{
	const char *colon = memchr(s, ':', n);
	size_t algo_len;
	enum digest_parse result;

	*d = (struct digest){0};
	if (colon == NULL)
		return DIGEST_BAD;
	algo_len = (size_t)(colon - s);
	for (uint8_t a = DIGEST_SHA256; a <= DIGEST_SHA512; a++) {
		if (strlen(algos[a].name) != algo_len || memcmp(algos[a].name, s, algo_len) != 0)
			continue;
		d->algo = a;
		d->len = algos[a].len;
		result = parse_hex(colon + 1, n - algo_len - 1, d);
		if (result != DIGEST_OK)
			*d = (struct digest){0};
		return result;
	}
	return parse_unknown(s, algo_len, n);
}

const char *
digest_algo_name(uint8_t algo)
{
	return algo == DIGEST_SHA256 || algo == DIGEST_SHA512 ? algos[algo].name : "none";
}

char *
digest_hex(const struct digest *d, char out[DIGEST_STR_SIZE])
{
	static const char hex[] = "0123456789abcdef";
	size_t i;

	for (i = 0; i < d->len; i++) {
		out[2 * i] = hex[d->bytes[i] >> 4];
		out[2 * i + 1] = hex[d->bytes[i] & 15];
	}
	out[2 * i] = '\0';
	return out;
}

char *
digest_str(const struct digest *d, char out[DIGEST_STR_SIZE])
{
	size_t n = (size_t)snprintf(out, DIGEST_STR_SIZE, "%s:", digest_algo_name(d->algo));

	digest_hex(d, out + n);
	return out;
}

bool
digest_equal(const struct digest *a, const struct digest *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

size_t
digest_key(const struct digest *d, uint8_t key[DIGEST_KEY_MAX])
{
	key[0] = d->algo;
	memcpy(key + 1, d->bytes, d->len);
	return 1 + (size_t)d->len;
}

bool
digest_from_key(const uint8_t *key, size_t len, struct digest *d)
{
	*d = (struct digest){0};
	if (len < 1 || (key[0] != DIGEST_SHA256 && key[0] != DIGEST_SHA512))
		return false;
	if (len != 1 + (size_t)algos[key[0]].len)
		return false;
	d->algo = key[0];
	d->len = algos[key[0]].len;
	memcpy(d->bytes, key + 1, d->len);
	return true;
}

struct hasher *
hasher_new(enum digest_algo algo)
{
	struct hasher *h = xcalloc(1, sizeof(*h));
	const EVP_MD *md = algo == DIGEST_SHA256 ? EVP_sha256() : EVP_sha512();

	h->algo = algo;
	h->ctx = EVP_MD_CTX_new();
	if (h->ctx == NULL || EVP_DigestInit_ex(h->ctx, md, NULL) != 1)
		panic("cannot start a %s hash", digest_algo_name((uint8_t)algo));
	return h;
}

void
hasher_update(struct hasher *h, const void *p, size_t n)
{
	if (EVP_DigestUpdate(h->ctx, p, n) != 1)
		panic("hash update failed");
}

void
hasher_final(struct hasher *h, struct digest *d)
{
	*d = (struct digest){.algo = (uint8_t)h->algo, .len = algos[h->algo].len};
	if (EVP_DigestFinal_ex(h->ctx, d->bytes, NULL) != 1)
		panic("hash end failed");
}

bool
hasher_is(const struct hasher *h, const struct digest *d)
{
	struct hasher copy = {EVP_MD_CTX_new(), h->algo};
	struct digest now;

	if (copy.ctx == NULL || EVP_MD_CTX_copy_ex(copy.ctx, h->ctx) != 1)
		panic("cannot copy a hash");
	hasher_final(&copy, &now);
	EVP_MD_CTX_free(copy.ctx);
	return digest_equal(&now, d);
}

void
hasher_free(struct hasher **h)
{
	if (*h == NULL)
		return;
	EVP_MD_CTX_free((*h)->ctx);
	free(*h);
	*h = NULL;
}
