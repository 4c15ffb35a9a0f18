/* What the files of the tls module share: tls_server.c (settings), tls.c (connections), tls_certificate.c (files,
 * names), tls_ticket.c (resumption). */
#ifndef TLS_PRIVATE_H
#define TLS_PRIVATE_H

#include <openssl/ssl.h>

#include "tls.h"

/* A certificate, its key, and whom it is for. */
struct tls_identity {
	SSL_CTX *ctx;
	char **names; /* DNS names, may begin with "*." */
	size_t nnames;
};

struct tls_server {
	struct tls_identity *identities; /* the first is the default */
	size_t n;
	const struct shm *shm;        /* NULL: tickets are of this server only */
	struct tls_settings settings; /* its texts are the server's own */
	void (*watch)(void *arg, const struct tls_handshake *h); /* NULL: nobody */
	void *watch_arg;
};

/* The first error in OpenSSL's queue, the nearest to the cause. Static text. */
const char *tls_reason(void);
/* OpenSSL's words for a file that cannot be opened are of no help. New text, NULL when it can be
 * read. */
char *tls_unreadable(const char *what, const char *path);

/* Reads both into `id`, which has its context. NULL, or what is wrong (owned by the caller). */
char *tls_identity_load(struct tls_identity *id, const char *cert_path, const char *key_path);
void tls_identity_free(struct tls_identity *id);
/* Chooses the identity by the name that the client gives. */
void tls_choose_by_name(struct tls_server *s);

/* For SSL_CTX_set_tlsext_ticket_key_evp_cb(); the context's app data is its struct tls_server. */
int tls_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
    EVP_MAC_CTX *mac, int making);

#endif
