/* TLS connections: OpenSSL's results turned into bytes, wants and an end. */
#include "tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "tls_private.h"
#include "xalloc.h"

enum { FILE_BYTES = 65536 };

struct tls {
	SSL *ssl;
	struct tls_server *server;
	bool noted;  /* the end of its handshake was told */
	bool broken; /* OpenSSL forbids SSL_shutdown() after a fatal error */
};

struct tls *
tls_accept(struct tls_server *s, int fd)
{
	struct tls *t = xcalloc(1, sizeof(*t));

	t->server = s;
	t->ssl = SSL_new(s->identities[0].ctx);
	if (t->ssl == NULL || SSL_set_fd(t->ssl, fd) != 1)
		panic("cannot make a TLS connection: %s", tls_reason());
	SSL_set_accept_state(t->ssl);
	return t;
}

/* Tells the end of the handshake, when it has come. */
static void
note_handshake(struct tls *t, bool failed)
{
	struct tls_handshake h = {.done = SSL_is_init_finished(t->ssl)};

	if (t->noted || !(h.done || failed))
		return;
	t->noted = true;
	if (t->server->watch == NULL)
		return;
	h.tls13 = h.done && SSL_version(t->ssl) == TLS1_3_VERSION;
	h.resumed = h.done && SSL_session_reused(t->ssl) == 1;
	t->server->watch(t->server->watch_arg, &h);
}

void
tls_free(struct tls **t)
{
	if (*t == NULL)
		return;
	note_handshake(*t, true);
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
		log_debug("TLS: %s", tls_reason());
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
	if (SSL_read_ex(t->ssl, p, n, &got) == 1) {
		note_handshake(t, false);
		return (ssize_t)got;
	}
	return outcome(t, SSL_get_error(t->ssl, 0), errno);
}

/* What a call that sent nothing means. */
static ssize_t
not_sent(struct tls *t, int saved)
{
	ssize_t why = outcome(t, SSL_get_error(t->ssl, 0), saved);

	if (why != 0)
		return why;
	t->broken = true; /* nothing was taken and nothing will be */
	return TLS_BROKEN;
}

ssize_t
tls_write(struct tls *t, const void *p, size_t n)
{
	size_t put = 0;

	if (t->broken)
		return TLS_BROKEN;
	if (n == 0)
		return 0;
	ERR_clear_error();
	errno = 0;
	if (SSL_write_ex(t->ssl, p, n, &put) == 1)
		return (ssize_t)put;
	return not_sent(t, errno);
}

/* One block of the file. OpenSSL takes a record of 16 KiB at a time. */
static ssize_t
write_block(struct tls *t, const unsigned char *block, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t put = tls_write(t, block + done, n - done);

		if (put <= 0)
			return done > 0 && put != TLS_BROKEN ? (ssize_t)done : put;
		done += (size_t)put;
	}
	return (ssize_t)done;
}

static ssize_t
send_by_kernel(struct tls *t, int fd, uint64_t offset, size_t n)
{
	ossl_ssize_t sent;

	ERR_clear_error();
	errno = 0;
	sent = SSL_sendfile(t->ssl, fd, (off_t)offset, n, 0);
	if (sent > 0)
		return sent;
	if (sent == 0 || errno == EIO)
		return TLS_NO_FILE;
	return not_sent(t, errno);
}

/* mmap was slower than pread. A block is read again when the socket took a part of it. */
ssize_t
tls_send_file(struct tls *t, int fd, uint64_t offset, size_t n)
{
	static unsigned char block[FILE_BYTES];
	ssize_t got;

	if (t->broken)
		return TLS_BROKEN;
	if (BIO_get_ktls_send(SSL_get_wbio(t->ssl)))
		return send_by_kernel(t, fd, offset, n);
	do
		got = pread(fd, block, n < sizeof(block) ? n : sizeof(block), (off_t)offset);
	while (got < 0 && errno == EINTR);
	return got <= 0 ? TLS_NO_FILE : write_block(t, block, (size_t)got);
}

bool
tls_peer_is_verified(const struct tls *t)
{
	return SSL_get0_peer_certificate(t->ssl) != NULL &&
	    SSL_get_verify_result(t->ssl) == X509_V_OK;
}

bool
tls_pending(const struct tls *t)
{
	return SSL_pending(t->ssl) > 0;
}
