/* Session tickets (RFC 5077, RFC 8446 section 4.6.1) with the keys that all listeners share. Sealed
 * as RFC 5077 section 4 recommends: AES-256-CBC and HMAC-SHA-256. */
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <string.h>

#include "shm_tickets.h"
#include "tls_private.h"

/* What OpenSSL takes of the callback. */
enum { TICKET_FAILED = -1, TICKET_UNKNOWN = 0, TICKET_GOOD = 1, TICKET_RENEW = 2 };

static bool
set_mac(EVP_MAC_CTX *mac, struct shm_ticket_key *key)
{
	static char digest[] = "SHA256";
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof(key->mac)),
	    OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
	    OSSL_PARAM_construct_end(),
	};

	return EVP_MAC_CTX_set_params(mac, params) == 1;
}

static int
seal(const struct shm *shm, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
    EVP_MAC_CTX *mac)
{
	struct shm_ticket_key key;
	bool done;

	if (!shm_ticket_key(shm, 0, &key))
		return TICKET_FAILED;
	memcpy(name, key.name, sizeof(key.name));
	done = RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1 &&
	    EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1 &&
	    set_mac(mac, &key);
	OPENSSL_cleanse(&key, sizeof(key));
	return done ? TICKET_GOOD : TICKET_FAILED;
}

/* One that is sealed with an older key is good, and replaced. */
static int
open_seal(const struct shm *shm, const unsigned char *name, unsigned char *iv,
    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
	int result = TICKET_UNKNOWN;
	struct shm_ticket_key key;

	for (unsigned age = 0; result == TICKET_UNKNOWN && shm_ticket_key(shm, age, &key); age++) {
		if (memcmp(name, key.name, sizeof(key.name)) != 0)
			continue;
		result = age == 0 ? TICKET_GOOD : TICKET_RENEW;
		if (EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) != 1 ||
		    !set_mac(mac, &key))
			result = TICKET_FAILED;
	}
	OPENSSL_cleanse(&key, sizeof(key));
	return result;
}

int
tls_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
    EVP_MAC_CTX *mac, int making)
{
	const struct tls_server *s = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	return making ? seal(s->shm, name, iv, cipher, mac)
		      : open_seal(s->shm, name, iv, cipher, mac);
}
