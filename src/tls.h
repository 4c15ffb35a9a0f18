/* Server side TLS (OpenSSL 3): one context a process, one session a connection, non-blocking. No
 * sockets are opened or closed here. */
#ifndef TLS_H
#define TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct tls_server; /* certificate and settings */
struct tls;        /* one connection */

/* Reads the PEM chain and key. NULL: *error says what is wrong with which file (owned by the
 * caller). TLS 1.2 and 1.3, ALPN http/1.1, SSL_MODE_RELEASE_BUFFERS, partial and moving writes, no
 * renegotiation, no compression. Made in the master as root, used by children after fork. */
struct tls_server *tls_server_new(const char *cert_path, const char *key_path, char **error);
void tls_server_free(struct tls_server **s);

/* Borrows fd; the handshake runs in the first reads. */
struct tls *tls_accept(struct tls_server *s, int fd);
/* Sends close_notify if it can without blocking. */
void tls_free(struct tls **t);

/* Besides bytes ≥ 0; 0 from tls_read: the end. */
enum { TLS_WANT_READ = -1, TLS_WANT_WRITE = -2, TLS_BROKEN = -3 };
ssize_t tls_read(struct tls *t, void *p, size_t n);
/* May take only some of the bytes. After TLS_WANT_… the same bytes are to be offered again,
 * wherever they lie, and no fewer. */
ssize_t tls_write(struct tls *t, const void *p, size_t n);
bool tls_pending(const struct tls *t); /* decrypted bytes wait that no event will announce */

#endif
