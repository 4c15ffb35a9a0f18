/* Serves /metrics, /healthz and /readyz on sockets that somebody else opened: GET and HEAD, nothing
 * else. Whoever asks is a stranger: heads are limited in size and time, so is the number of
 * connections, and a new one takes the place of the one that has been silent longest.
 *
 * A connection: waits for a head (METRICS_HEAD_MS), is answered at once, and waits for another
 * (METRICS_IDLE_MS); the answer must go out within METRICS_HEAD_MS without a byte taken. */
#ifndef METRICS_SERVER_H
#define METRICS_SERVER_H

#include "metrics_text.h"

struct event_base;
struct metrics_server;

enum {
	METRICS_CONNECTIONS = 32,
	METRICS_MAX_HEAD = 8192,
	METRICS_HEAD_MS = 10000,
	METRICS_IDLE_MS = 120000,
};

struct metrics_ops {
	/* Appends the text of all metrics. */
	void (*write)(void *arg, enum metrics_format format, struct buf *out);
	/* NULL: alive, ready. Else why not, a text of whole lines; valid until the next call. */
	const char *(*not_alive)(void *arg);
	const char *(*not_ready)(void *arg);
};

/* Listens on the `n` sockets (non-blocking), which are borrowed. Owned by the caller. */
struct metrics_server *metrics_server_new(struct event_base *base, const int *fds, unsigned n,
    const struct metrics_ops *ops, void *arg);
void metrics_server_free(struct metrics_server **m);
/* No more connections; those that are open end with their next answer, or soon without one. */
void metrics_server_drain(struct metrics_server *m);
unsigned metrics_server_open(const struct metrics_server *m);

#endif
