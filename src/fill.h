/* Fills: one fetch of one object from upstream into a part file, for any number of clients on any
 * number of listeners. Each listener has one struct fill a digest, which either leads (this
 * process fetches) or follows (it reads another's part file).
 *
 * The life of a fill in one listener (fill_phase_name):
 *
 *   phase     meaning                                            goes to
 *   QUEUED    wants a slot of the fill table (server.workers)    ADOPT, REHASH, FETCH; ENDED: busy, again
 *   ADOPT     hashes an object file that has no record           ENDED: done; FETCH when it is corrupt
 *   REHASH    hashes the prefix inherited from a dead leader     FETCH; ENDED: done when it was all there
 *   FETCH     a transfer runs, or waits to be tried again        DECODE; ENDED: any
 *   DECODE    decodes what an upstream encoded                   ENDED: done, wrong digest, uncached
 *   FOLLOW    reads what another listener writes                 ENDED: any
 *   ENDED     out of the table; lives until its last client left
 *
 * A client is told by its `changed` function, from the event loop, that fill_look() has news:
 * more bytes, the size, or how it ended. It may then leave, join another fill, or close its
 * connection.
 */
#ifndef FILL_H
#define FILL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "digest.h"
#include "index.h"
#include "lease.h"

struct event_base;
struct fill;
struct fill_client;
struct fills;
struct refusal;
struct store;
struct registries;
struct registry_call;

/* The last block of an object, in bytes, that nobody is given before the digest is known to be
 * right. */
enum { FILL_HELD_BACK = 65536 };

struct fills_config {
	struct event_base *base;
	struct shm *shm;
	struct index *index; /* NULL: there is none, nothing is cached */
	struct store *store; /* likewise */
	struct registries *registries;
	struct lease_owner owner;
	uint64_t queue_timeout_ms; /* how long a fill may wait for a slot */
	uint64_t retry_ms;         /* how long a fill is tried again without a byte of progress */
};

/* Owned by the caller. */
struct fills *fills_new(const struct fills_config *config);
/* Lets go of every fill: what is being fetched is abandoned, so that another listener may go on
 * with it. */
void fills_free(struct fills **fs);
/* The store and the index were opened after all (NULL: still not). */
void fills_set_store(struct fills *fs, struct store *store, struct index *index);
/* How many fills wait for a slot, and how many clients read what another's credentials fetch. */
void fills_count(const struct fills *fs, uint64_t *queued, uint64_t *followers);
/* Another process changed the fill table: looks at what is followed and at the queue. */
void fills_wake(struct fills *fs);

/* What a client wants, and by which right. Everything is borrowed and copied. */
struct fill_want {
	const struct digest *digest;
	enum object_kind kind;
	const char *scheme, *host, *target; /* of a GET upstream, should this client's fill lead */
	unsigned registry, first_host; /* as in struct upstream_request */
	uint64_t deadline_ms; /* likewise, but for the time that it waits for its turn */
	const char *authorization, *accept; /* NULL: none */
	unsigned client; /* turns_client(): whose turn it takes, should it lead */
	bool checked; /* the upstream has said that this client may have the object */
	const char *unproven; /* the upstream's name, when it has to deliver the object itself before its
				 word is taken (index_put_proof); NULL: it need not */
};

enum fill_join {
	FILL_JOINED,        /* *client is set; `changed` will be called at least once */
	FILL_JOIN_OBJECT,   /* it is in the index: look again */
	FILL_JOIN_CHECK,    /* somebody else fetches it: check this client first, then join as checked */
	FILL_JOIN_UNCACHED, /* the cache cannot keep it now: pass the request through */
};

typedef void fill_changed_fn(void *arg);

/* An unchecked client leads with its own credentials and is given no byte before the upstream
 * answered them with success. The client is owned by the caller (fill_leave). */
enum fill_join fill_join(struct fills *fs, const struct fill_want *want, fill_changed_fn *changed, void *arg,
    struct fill_client **client) __attribute__((warn_unused_result));
/* The fill goes on without it. *client becomes NULL; nothing happens when it is NULL. */
void fill_leave(struct fill_client **client);

enum fill_end {
	FILL_END_NONE,     /* it goes on */
	FILL_END_DONE,     /* all bytes are there and right */
	FILL_END_AGAIN,    /* this fill is over, for a reason that need not concern this client: join again */
	FILL_END_REFUSED,  /* the upstream refused; fill_refusal() */
	FILL_END_BUSY,     /* no slot within the time: 503 with Retry-After */
	FILL_END_UPSTREAM, /* no answer, or a transfer that broke and could not be gone on with: 502 */
	FILL_END_TIMEOUT,  /* no answer in time: 504 */
	FILL_END_DIGEST,   /* the bytes were wrong: 502 */
	FILL_END_UNCACHED, /* the cache cannot keep it (disk full, too large): pass through */
};
const char *fill_end_name(enum fill_end e);

struct fill_status {
	enum fill_end end;
	bool leading;
	bool own;          /* leading, and every byte came from its own upstream */
	bool resumed;      /* gone on with by Range, or taken over, at least once */
	int64_t size;      /* bytes of the whole object, -1: not known yet */
	uint64_t readable; /* bytes, from the start, that this client may be given now */
	int fd;            /* where to read them; borrowed, stays open until fill_leave(); -1 while readable is 0 */
	dev_t device;      /* which file that is: a client that was given bytes of another */
	ino_t inode;       /* file must not be given the rest of this one */
	const char *media_type; /* "" when not known; borrowed until the next turn */
	const char *why;        /* likewise: how it failed; "" when not known */
};
void fill_look(const struct fill_client *client, struct fill_status *status);
/* After FILL_END_UNCACHED: the leader's transfer, for its origin to go on with. Its head said
 * 200, size and media type are fill_look()'s; it is paused and no byte of its body was taken. The
 * caller's from now on; NULL: there is none. */
struct registry_call *fill_take_call(struct fill_client *client);
/* What the upstream told the leader's origin besides, once the answer's head is there; the
 * caller's from now on; NULL: nothing, or already taken. */
struct notes *fill_take_notes(struct fill_client *client);
/* After FILL_END_REFUSED: borrowed until fill_leave(). */
const struct refusal *fill_refusal(const struct fill_client *client);

#endif
