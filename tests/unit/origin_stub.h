/* A small real HTTP/1.1 server for tests: a child process, one more for each connection, on a port
 * that the kernel picked. A handler in C answers each request; what it saw is kept in shared memory
 * for the test to look at.
 */
#ifndef ORIGIN_STUB_H
#define ORIGIN_STUB_H

#include <stdbool.h>
#include <stddef.h>

struct origin;      /* the server, as the test sees it */
struct origin_conn; /* one connection, as the handler sees it */

struct origin_request {
	const char *head; /* all of it, as it came */
	char method[16];
	char target[1024];
	unsigned nth;        /* on this connection, from 0 */
	unsigned connection; /* from 0 */
	unsigned other_port; /* what the test gave to origin_set_other_port() */
};

/* Answers one request. The connection stays open when it returns, unless origin_close() was
 * called. */
typedef void origin_handler(struct origin_conn *c, const struct origin_request *r);

/* Owned by the caller. Aborts the test program when there is no server to be had. */
struct origin *origin_start(origin_handler *handler);
/* The same over TLS, with a certificate and key from PEM files. */
struct origin *origin_start_tls(
    origin_handler *handler, const char *cert_path, const char *key_path);
void origin_stop(struct origin **o);
/* Writes a new self-signed certificate for "localhost" and 127.0.0.1, and its key. */
void origin_make_certificate(const char *cert_path, const char *key_path);

unsigned origin_port(const struct origin *o);
const char *origin_host(const struct origin *o); /* "127.0.0.1:port" */
unsigned origin_requests(const struct origin *o);
unsigned origin_connections(const struct origin *o);
/* The head of the nth request (from 0), "" when there was none. */
const char *origin_head(const struct origin *o, unsigned nth);
/* How many lines "name: …" the nth request's head has; `value` (when not NULL) must be the whole
 * value. */
unsigned origin_saw(const struct origin *o, unsigned nth, const char *name, const char *value);
/* Tells the handlers a port, in origin_request.other_port: of a second server, to redirect to. */
void origin_set_other_port(struct origin *o, unsigned port);
/* Lets one handler that waits in origin_wait() go on. */
void origin_let_go(struct origin *o);
/* A number that handlers leave for the test. */
long origin_noted(const struct origin *o);

/* For handlers. */
void origin_send(struct origin_conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void origin_write(struct origin_conn *c, const void *p, size_t n);
/* Writes `n` bytes of a pattern that starts at `from`: origin_pattern() tells them. False: the
 * peer is gone. */
bool origin_write_pattern(struct origin_conn *c, size_t from, size_t n);
unsigned char origin_pattern(size_t at);
/* Reads the request's body (Content-Length or chunked) to its end; returns its length, -1 when
 * it broke off. */
long origin_read_body(struct origin_conn *c, const struct origin_request *r);
/* A sum over the bytes of the body that was read last, as origin_sum_of() makes it of a text. */
unsigned origin_body_sum(const struct origin_conn *c);
unsigned origin_sum_of(const char *text);
/* Reads up to `n` bytes of what comes next; returns how many. */
size_t origin_read(struct origin_conn *c, void *p, size_t n);
void origin_wait(struct origin_conn *c);
void origin_note(struct origin_conn *c, long value);
void origin_close(struct origin_conn *c); /* after this answer */
void origin_reset(struct origin_conn *c); /* at once, with a TCP reset */

#endif
