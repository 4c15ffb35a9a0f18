/* A client connection: a socket with {plain, TLS} operations, what was received, what is to be
 * sent. Knows no HTTP. Output is memory, then a range of a file (sendfile), then memory again; a
 * turn of the loop sends at most CONN_TURN_BYTES of a file, so that one fast client does not hold
 * the loop.
 *
 * phase         set by          limit of time                                      what happens then
 * CONN_IDLE     its user        keep_alive_ms since the phase began                closed
 * CONN_READING  its user        io_timeout_ms since the phase began, for all of it closed
 * CONN_BUSY     its user        none: the user has a timer of its own              -
 * (any of them, with output pending)  io_timeout_ms without a byte taken           closed
 * CONN_LINGER   conn_finish()   2 s: the client may still read what it was sent    closed
 * CONN_CLOSED   conn_close()    freed when the loop comes round, never at once     -
 */
#ifndef CONN_H
#define CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "buf.h"

struct conn;
struct event_base;
struct shm;
struct sockaddr;
struct tls;

/* As much as nginx sends of a file at a time (sendfile_max_chunk). 256 KiB cost about a tenth
 * more CPU a byte in bench/compare, more than 2 MiB gained nothing. */
enum { CONN_TURN_BYTES = 2 << 20, CONN_ADDRESS_SIZE = 64 };

enum conn_phase { CONN_IDLE, CONN_READING, CONN_BUSY, CONN_LINGER, CONN_CLOSED };
const char *conn_phase_name(enum conn_phase p);

/* A reason (compared by its address). */
extern const char conn_file_unreadable[];

/* All run from the event loop; each may close the connection. */
struct conn_hooks {
	void (*input)(struct conn *c);   /* bytes came: conn_input() */
	void (*drained)(struct conn *c); /* all output was handed to the kernel */
	/* conn_file_unreadable: what was to be sent could not be read. */
	void (*gone)(struct conn *c, const char *reason); /* it was closed: forget it. Called once. */
};

/* All connections of one listener. */
struct conns;

struct conn_limits {
	uint64_t keep_alive_ms, io_timeout_ms;
	size_t input_bytes; /* received and not yet consumed; more is left in the socket */
	struct shm *shm;    /* for what all listeners count together; NULL: without */
	uint64_t bandwidth; /* bytes a second to one client, by its address; 0: no limit */
};

/* Owned by the caller. */
struct conns *conns_new(struct event_base *base, const struct conn_hooks *hooks, const struct conn_limits *limits);
/* Closes what is open. */
void conns_free(struct conns **s);
unsigned conns_open(const struct conns *s);
/* Calls `each` for every open connection; it may close the one it is given. */
void conns_each(struct conns *s, void (*each)(struct conn *c, void *arg), void *arg);

/* From now on no connection may be idle for longer than this. */
void conns_limit_idle(struct conns *s, uint64_t keep_alive_ms);

/* There is no room for more: closes the connection that has waited longest for a request. False:
 * none has waited for long enough to be closed. */
bool conns_evict(struct conns *s) __attribute__((warn_unused_result));

/* Takes fd and tls (NULL: plain). Owned by `s` until it is closed. */
struct conn *conn_new(struct conns *s, int fd, struct tls *tls, const struct sockaddr *peer);
/* Its client speaks TLS to a load balancer that we believe. */
void conn_set_secure(struct conn *c);
/* The client speaks TLS: to us, or to that load balancer. */
bool conn_is_secure(const struct conn *c);
/* Closes now; `reason` is a static text for the log. The struct stays readable until the loop
 * comes round. */
void conn_close(struct conn *c, const char *reason);
/* Sends what is queued, then shuts down and waits a little for the client to close. */
void conn_finish(struct conn *c, const char *reason);

void conn_set_phase(struct conn *c, enum conn_phase p);
enum conn_phase conn_get_phase(const struct conn *c);
/* A socket's address as text, without its port; "unix" for a Unix socket's. */
void conn_address_text(const struct sockaddr *peer, char text[CONN_ADDRESS_SIZE]);
/* The client's address as text, without its port. */
const char *conn_address(const struct conn *c);
/* NULL: plain. Borrowed. */
const struct tls *conn_tls(const struct conn *c);

/* The client as a key of shm_rate.h; all zero when the set has no shm. */
const uint8_t *conn_client(struct conn *c);

/* The user's note of how many bytes of the input it has looked at in vain; 0 after
 * conn_consumed(). */
size_t conn_seen(const struct conn *c);
void conn_set_seen(struct conn *c, size_t n);
/* What was received; the user consumes it (buf_consume), then says so, so that reading may go
 * on. */
struct buf *conn_input(struct conn *c);
void conn_consumed(struct conn *c);

/* Queued, not sent: conn_flush() sends. */
void conn_send(struct conn *c, const void *p, size_t n);
/* Memory to append to, before (or, when a file range is queued, after) what is queued. */
struct buf *conn_output(struct conn *c);
/* `n` bytes of `fd` from `offset`; the descriptor is borrowed until they are sent or the
 * connection is gone. Only when no other file range is queued. The bytes must be there: a short
 * file closes the connection. */
void conn_send_file(struct conn *c, int fd, uint64_t offset, uint64_t n);
/* Calls hooks->drained from the next turn of the loop: there is more to do than fits into one. */
void conn_kick(struct conn *c);
/* Sends what can be sent. Returns true when nothing is left; else hooks->drained tells later.
 * False also when it was closed. */
bool conn_flush(struct conn *c);
bool conn_has_output(const struct conn *c);
/* A file range is queued: no second one may be, and its descriptor is still needed. */
bool conn_sends_file(const struct conn *c);

/* The user's own pointers. */
void conn_set_user(struct conn *c, void *user);
void *conn_user(const struct conn *c);
void *conns_user(const struct conn *c);
void conns_set_user(struct conns *s, void *user);

#endif
