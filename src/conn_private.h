/* What the files of the conn module share: conn.c (events, life), conn_send.c (output), conn_limit.c
 * (bandwidth, and who goes when it is full). Nobody else includes this. */
#ifndef CONN_PRIVATE_H
#define CONN_PRIVATE_H

#include <sys/queue.h>

#include <event2/event_struct.h>

#include "conn.h"
#include "shm_rate.h"

struct secret;

enum { CONN_READ_BYTES = 65536 };

struct conn {
	LIST_ENTRY(conn) link;
	TAILQ_ENTRY(conn) wait; /* of conns.waiting, while it is IDLE or READING */
	TAILQ_ENTRY(conn) pace; /* of conns.paced */
	struct conns *set;
	struct tls *tls;
	void *user;
	struct buf in, out;
	size_t seen;      /* bytes of `in` that hold no request: its user's */
	size_t out_first; /* bytes of `out` that go before the file range */
	uint64_t file_offset, file_left;
	uint64_t phase_since, moved; /* clock_ms: when the phase began, when a byte last went out */
	uint64_t paced_until;        /* clock_us */
	const char *finish_reason;   /* set: close when all is sent */
	int fd, file_fd;
	uint8_t phase;
	bool reading, write_armed, kicked, shut, waits, paced, has_key, secure;
	struct event read_event, write_event;
	uint8_t key[SHM_RATE_KEY]; /* its client's, once it was asked for */
	char address[CONN_ADDRESS_SIZE];
};

LIST_HEAD(conn_list, conn);
TAILQ_HEAD(conn_queue, conn);

struct conns {
	struct event_base *base;
	struct conn_hooks hooks;
	struct conn_limits limits;
	struct conn_list open, closed;
	struct conn_queue waiting; /* for a request, who has waited longest first */
	struct conn_queue paced;   /* may not be sent anything now */
	struct event *sweep, *reap, *pacer;
	struct secret *secret; /* makes clients' keys; NULL: nobody asks for them */
	struct shm_rate bandwidth;
	unsigned count;
	void *user;
	unsigned char scratch[CONN_READ_BYTES];
};

/* conn.c */
void conn_want_write(struct conn *c, bool on);

/* conn_limit.c */
void conn_limits_init(struct conns *s);
void conn_limits_free(struct conns *s);
/* Its phase has changed, or it is new. */
void conn_note_phase(struct conn *c);
/* It is closed. */
void conn_forget(struct conn *c);
/* How many of `n` bytes it may be sent now. 0: none, and it goes on by itself when it may. */
size_t conn_may_send(struct conn *c, size_t n);
void conn_was_sent(struct conn *c, size_t n);

#endif
