/* Server side TLS: settings of the context, and OpenSSL's results turned into bytes, wants and an
 * end. The session ticket keys are made with the context, before the fork, so a client resumes at
 * any listener. */
#include "tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "xalloc.h"

struct tls_server {
	SSL_CTX *ctx;
};

struct tls {
	SSL *ssl;
	bool broken; /* OpenSSL forbids SSL_shutdown() after a fatal error */
};

/* --- the context ----------------------------------------------------------------------------- */

/* The first error in the queue is the nearest to the cause. Static text. */
static const char *
first_reason(void)
{
	unsigned long code = ERR_get_error();
	const char *reason =
	    ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);

	ERR_clear_error();
	return reason == NULL ? "unknown error" : reason;
}

static int
choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen,
    const unsigned char *offered, unsigned int length, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";
	unsigned char *chosen;

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto(&chosen, outlen, ours, sizeof(ours) - 1, offered, length) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* A daemon has nobody to ask: an encrypted key is an error, not a prompt. */
static int
no_passphrase(char *to, int size, int writing, void *arg)
{
	bool *asked = arg;

	(void)to;
	(void)size;
	(void)writing;
	*asked = true;
	return -1;
}

static SSL_CTX *
new_context(void)
{
	static const unsigned char name[] = "registry-cache";
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1 ||
	    SSL_CTX_set_session_id_context(ctx, name, sizeof(name) - 1) != 1)
		panic("cannot make a TLS context: %s", first_reason());
	/* Clients often close without close_notify; lengths tell what is complete, so that is an
	 * end like any. */
	SSL_CTX_set_options(ctx,
	    SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
		SSL_OP_PRIORITIZE_CHACHA | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(ctx,
	    SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* Tickets only: what one process remembers is of no use to the next. */
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, NULL);
	return ctx;
}

/* OpenSSL's words for a file that cannot be opened are of no help. New text, NULL when it can be
 * read. */
static char *
unreadable(const char *what, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return xasprintf("%s %s: %s", what, path, strerror(errno));
	close(fd);
	return NULL;
}

static char *
load_certificate(SSL_CTX *ctx, const char *path)
{
	char *error = unreadable("certificate", path);

	if (error == NULL && SSL_CTX_use_certificate_chain_file(ctx, path) != 1)
		error = xasprintf("certificate %s: %s", path, first_reason());
	return error;
}

/* Why the key was not taken, where OpenSSL's own words would not help. Static text. */
static const char *
key_reason(bool asked)
{
	if (asked)
		return "it is encrypted, and nobody is there to give the passphrase";
	/* No decoder knew what this is. */
	if (ERR_GET_REASON(ERR_peek_error()) == ERR_R_UNSUPPORTED)
		return "it holds no private key in PEM";
	return first_reason();
}

static char *
load_key(SSL_CTX *ctx, const char *path, const char *cert_path)
{
	char *error = unreadable("key", path);
	bool asked = false;

	if (error != NULL)
		return error;
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, &asked);
	if (SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM) != 1)
		error = xasprintf(
		    "key %s (for certificate %s): %s", path, cert_path, key_reason(asked));
	SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
	return error;
}

struct tls_server *
tls_server_new(const char *cert_path, const char *key_path, char **error)
{
	struct tls_server *s = xcalloc(1, sizeof(*s));

	ERR_clear_error();
	s->ctx = new_context();
	*error = load_certificate(s->ctx, cert_path);
	if (*error == NULL)
		*error = load_key(s->ctx, key_path, cert_path);
	if (*error != NULL)
		tls_server_free(&s);
	return s;
}

void
tls_server_free(struct tls_server **s)
{
	if (*s == NULL)
		return;
	SSL_CTX_free((*s)->ctx);
	free(*s);
	*s = NULL;
}

/* --- a connection ---------------------------------------------------------------------------- */

struct tls *
tls_accept(struct tls_server *s, int fd)
{
	struct tls *t = xcalloc(1, sizeof(*t));

	t->ssl = SSL_new(s->ctx);
	if (t->ssl == NULL || SSL_set_fd(t->ssl, fd) != 1)
		panic("cannot make a TLS connection: %s", first_reason());
	SSL_set_accept_state(t->ssl);
	return t;
}

void
tls_free(struct tls **t)
{
	if (*t == NULL)
		return;
	if (!(*t)->broken && SSL_is_init_finished((*t)->ssl))
		SSL_shutdown((*t)->ssl);
	ERR_clear_error();
	SSL_free((*t)->ssl);
	free(*t);
	*t = NULL;
}

/* What a call that moved no bytes means. `saved` is the errno that it left. */
static ssize_t
outcome(struct tls *t, int error, int saved)
{
	switch (error) {
	case SSL_ERROR_WANT_READ:
		return TLS_WANT_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_WANT_WRITE;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		log_debug("TLS: %s", saved != 0 ? strerror(saved) : "the connection ended");
		break;
	default:
		log_debug("TLS: %s", first_reason());
	}
	t->broken = true;
	return TLS_BROKEN;
}

ssize_t
tls_read(struct tls *t, void *p, size_t n)
{
	size_t got = 0;

	if (t->broken)
		return TLS_BROKEN;
	ERR_clear_error();
	errno = 0;
	if (SSL_read_ex(t->ssl, p, n, &got) == 1)
		return (ssize_t)got;
	return outcome(t, SSL_get_error(t->ssl, 0), errno);
}

ssize_t
tls_write(struct tls *t, const void *p, size_t n)
{
	size_t put = 0;
	ssize_t why;

	if (t->broken)
		return TLS_BROKEN;
	if (n == 0)
		return 0;
	ERR_clear_error();
	errno = 0;
	if (SSL_write_ex(t->ssl, p, n, &put) == 1)
		return (ssize_t)put;
	why = outcome(t, SSL_get_error(t->ssl, 0), errno);
	if (why != 0)
		return why;
	t->broken = true; /* nothing was taken and nothing will be */
	return TLS_BROKEN;
}

bool
tls_pending(const struct tls *t)
{
	return SSL_pending(t->ssl) > 0;
}
