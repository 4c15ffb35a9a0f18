/* Keyed hashes, by OpenSSL. */
#include "secret.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/params.h>

#include "log.h"
#include "xalloc.h"

struct secret {
	EVP_MAC_CTX *mac; /* keyed once: each hash begins from there */
};

struct secret *
secret_new(const uint8_t key[SECRET_BYTES])
{
	struct secret *s = xcalloc(1, sizeof(*s));
	char sha256[] = "SHA256";
	const OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_utf8_string("digest", sha256, 0), OSSL_PARAM_construct_end()};
	EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);

	s->mac = hmac == NULL ? NULL : EVP_MAC_CTX_new(hmac);
	if (s->mac == NULL || EVP_MAC_init(s->mac, key, SECRET_BYTES, params) != 1)
		fatal("OpenSSL gives no HMAC-SHA-256");
	EVP_MAC_free(hmac);
	return s;
}

void
secret_free(struct secret **s)
{
	if (*s == NULL)
		return;
	EVP_MAC_CTX_free((*s)->mac);
	free(*s);
	*s = NULL;
}

static bool
add(EVP_MAC_CTX *mac, const char *text)
{
	const unsigned char there = text != NULL;

	return EVP_MAC_update(mac, &there, 1) == 1 &&
	    (text == NULL ||
		EVP_MAC_update(mac, (const unsigned char *)text, strlen(text) + 1) == 1);
}

void
secret_mac(struct secret *s, const char *const *texts, size_t n, uint8_t out[SECRET_BYTES])
{
	bool ok = EVP_MAC_init(s->mac, NULL, 0, NULL) == 1;
	size_t got = 0;

	for (size_t i = 0; ok && i < n; i++)
		ok = add(s->mac, texts[i]);
	if (!ok || EVP_MAC_final(s->mac, out, &got, SECRET_BYTES) != 1 || got != SECRET_BYTES)
		panic("HMAC failed");
}
