/* Server side TLS (OpenSSL 3): one server a process, one session a connection, non-blocking. No
 * sockets are opened or closed here. */
#ifndef TLS_H
#define TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct shm;
struct tls_server; /* certificates and settings */
struct tls;        /* one connection */

/* Borrowed for the call. NULL texts: as OpenSSL has it. */
struct tls_settings {
	const char *min_version;  /* "1.2" (also NULL) or "1.3" */
	const char *ciphers;      /* of TLS 1.2, as in ciphers(1) */
	const char *ciphersuites; /* of TLS 1.3 */
	const char *groups;       /* for the exchange of keys */
	uint64_t session_ms;      /* how long a session may be resumed; 0: as OpenSSL has it */
	bool kernel;              /* the kernel encrypts, where it can */
};

/* NULL: *error says what is wrong (owned by the caller). ALPN http/1.1, SSL_MODE_RELEASE_BUFFERS, partial and moving writes,
 * no renegotiation, no compression. Made in the master as root, used by children after fork. */
struct tls_server *tls_server_new(const struct tls_settings *settings, char **error);
/* Reads a PEM chain and its key. The first that is added is shown to clients that name no host, or
 * one that no certificate is for. False: *error says what is wrong with which file (owned by the
 * caller). */
bool tls_server_add(struct tls_server *s, const char *cert_path, const char *key_path, char **error)
    __attribute__((warn_unused_result));
/* After the last tls_server_add(): asks clients for a certificate that leads to one of the PEM file
 * `ca_path`; with `require` there is no connection without one. Sessions that began with another
 * file, or another `require`, are not resumed. False: *error says what is wrong with the file (owned
 * by the caller). */
bool tls_server_ask_clients(struct tls_server *s, const char *ca_path, bool require, char **error)
    __attribute__((warn_unused_result));
/* Session tickets are made with the keys of `shm` (shm_tickets.h), which is borrowed. Without this
 * they are of this server only. */
void tls_server_share_tickets(struct tls_server *s, const struct shm *shm);
void tls_server_free(struct tls_server **s);

/* How a handshake ended. */
struct tls_handshake {
	bool done;    /* else the connection ended before, and the rest is not known */
	bool tls13;   /* TLS 1.3, else 1.2 */
	bool resumed; /* a session that was begun in another connection */
};
/* From now on, in this process, `each` is called for every connection, once. */
void tls_server_watch(struct tls_server *s,
    void (*each)(void *arg, const struct tls_handshake *h), void *arg);

/* Can OpenSSL and this kernel do kTLS? */
bool tls_kernel_can(void);

/* Borrows fd; the handshake runs in the first reads. */
struct tls *tls_accept(struct tls_server *s, int fd);
/* Sends close_notify if it can without blocking. */
void tls_free(struct tls **t);

/* Besides bytes ≥ 0; 0 from tls_read: the end. */
enum { TLS_WANT_READ = -1, TLS_WANT_WRITE = -2, TLS_BROKEN = -3, TLS_NO_FILE = -4 };
ssize_t tls_read(struct tls *t, void *p, size_t n);
/* May take only some of the bytes. After TLS_WANT_… the same bytes are to be offered again,
 * wherever they lie, and no fewer. */
ssize_t tls_write(struct tls *t, const void *p, size_t n);
/* The same for `n` > 0 bytes of a file; TLS_NO_FILE: they cannot be read. By sendfile where the kernel
 * encrypts. */
ssize_t tls_send_file(struct tls *t, int fd, uint64_t offset, size_t n);
/* Has the client shown a certificate (it was verified, then)? */
bool tls_peer_is_verified(const struct tls *t);
bool tls_pending(const struct tls *t); /* decrypted bytes wait that no event will announce */

#endif
