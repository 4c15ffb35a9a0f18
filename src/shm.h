/* What the processes of one cache share in memory: the fill table, a record a child
 * (generation, heartbeat, readiness), counters, and the eventfds that wake listeners. Counters
 * only: bytes of objects go through files.
 *
 * Made by the master before it forks; every child inherits the mapping and all eventfds. All
 * operations are atomic and never block; a process may die between any two of them.
 *
 * The life of a fill slot (one atomic word: state, owner, sequence number):
 *
 *   state           who moves it here                     what others may do
 *   FILL_FREE       never used                            a listener may claim it
 *   FILL_RUNNING    a listener: shm_fill_claim()          read, arm
 *   FILL_DONE       its owner: the object is published    read until it is claimed again
 *   FILL_FAILED     its owner: the fill ended in error    as FILL_DONE
 *   FILL_ABANDONED  the master, when the owner died, or   as FILL_DONE; a follower may take
 *                   the owner, when it can not go on but  the fill over
 *                   its part file may be gone on with
 *
 * Every state but FILL_RUNNING may be claimed again at any time, which raises the sequence
 * number: who holds an old struct fill_ref sees that from shm_fill_read() and asks the index
 * what became of the digest. The table has as many slots as fills may be in flight in the whole
 * cache (server.workers). */
#ifndef SHM_H
#define SHM_H

#include <stdbool.h>
#include <stdint.h>

#include "digest.h"

enum { SHM_MAX_LISTENERS = 64, SHM_MAX_FILLS = 4096 };

enum fill_state { FILL_FREE, FILL_RUNNING, FILL_DONE, FILL_FAILED, FILL_ABANDONED };
const char *fill_state_name(enum fill_state s);

enum child_state { CHILD_NONE, CHILD_STARTING, CHILD_READY, CHILD_DRAINING, CHILD_DEAD };
const char *child_state_name(enum child_state s);

/* Counters, one set a child slot; they survive the child's death. */
enum shm_counter {
	COUNT_REQUESTS,        /* client requests begun */
	COUNT_HITS,            /* objects served from the store */
	COUNT_FILLS,           /* fills led */
	COUNT_FOLLOWS,         /* requests that followed another's fill */
	COUNT_PASSED,          /* requests passed through by their nature */
	COUNT_UNCACHED,        /* objects passed through because the cache could not keep them */
	COUNT_CHECKS,          /* checks sent upstream */
	COUNT_CHECKS_SHARED,   /* checks that joined one in flight */
	COUNT_DENIED,          /* requests that the upstream refused */
	COUNT_RESUMES,         /* transfers gone on with by Range */
	COUNT_TAKEOVERS,       /* fills taken over from another listener */
	COUNT_ADOPTED,         /* object files without a record, hashed and adopted */
	COUNT_DIGEST_FAILURES, /* bodies whose hash was wrong */
	COUNT_STORE_ERRORS,    /* disk full, read-only, I/O errors */
	COUNT_INDEX_ERRORS,    /* LMDB errors */
	COUNT_CONNECTIONS,     /* client connections accepted */
	COUNT_REFUSED,         /* client connections refused because there are too many, or for their PROXY head */
	COUNT_BYTES_SENT,      /* body bytes sent to clients */
	COUNT_BYTES_FETCHED,   /* body bytes fetched by fills */
	COUNT_LIMITS,          /* 429s of registries */
	COUNT_LIMITED,         /* requests to registries that such a limit kept here */
	COUNT_CORRUPT,         /* stored objects whose bytes were not those of their digest any more */
	COUNT_SCRUBBED,        /* objects hashed again by the scrub, and right */
	COUNT_BYTES_SCRUBBED,  /* bytes that it read */
	COUNT_NO_ROOM,         /* objects passed through because the disk limits left no room */
	COUNT_EVICTED,         /* objects removed to keep the disk limits … */
	COUNT_BYTES_EVICTED,   /* … and their bytes on disk */
	COUNT_EXPIRED_AGE,     /* objects removed because of maxAge … */
	COUNT_EXPIRED_UNUSED,  /* … and of maxUnused */
	COUNT_BYTES_EXPIRED,
	COUNT_CLEANED,         /* files and records removed because they did not belong */
	COUNT_TOO_MANY,        /* requests answered 429 because their client begins too many */
	COUNT_CROWDED_OUT,     /* connections without a request closed for others' sake */
	COUNT_STRANGERS,       /* requests without the user and password, or certificate, that the cache wants */
	COUNT_HOSTS_DOWN,      /* hosts of registries that were found not to answer any more */
	COUNT_HOSTS_UP,        /* those of them that were found to answer again */
	COUNT_KEPT_FROM_DOWN,  /* requests that were not sent to a host because it is down */
	COUNT_NEXT_HOSTS,      /* requests that went on to a registry's next host */
	COUNT_RANGED,          /* ranges fetched beside their fill, and passed through … */
	COUNT_BYTES_RANGED,    /* … and their bytes */
	COUNT_TOKENS,          /* tokens asked of realms */
	COUNT_HELD_REFUSED,    /* requests that a registry refused to a credential of the cache's */
	COUNT_GRACE,           /* requests served unchecked while the registry could not answer */
	COUNT_MAX
};
const char *shm_counter_name(enum shm_counter c);

struct shm;

/* A fill of a certain moment. Copy it freely. seq 0: none. */
struct fill_ref {
	uint32_t slot;
	uint64_t seq;
};

/* What shm_fill_read() saw, all of one sequence number. */
struct fill_view {
	enum fill_state state;
	unsigned owner;    /* listener */
	int64_t size;      /* bytes; -1: not known yet */
	uint64_t bytes;    /* bytes in the part file that may be read */
	bool verified;     /* the whole object is in the file and its digest is right */
	uint32_t status;   /* upstream's HTTP status; 0: none yet */
	uint32_t source;   /* a hash of the upstream that it fetches from; 0: not said */
	uint64_t ended_ms; /* when it left FILL_RUNNING (clock_ms); 0: it has not */
};

/* Maps the segment and makes one eventfd a listener. listeners in 1…SHM_MAX_LISTENERS, fills in
 * 1…SHM_MAX_FILLS. The gc child is child number `listeners`. NULL with errno. Owned by the
 * caller. */
struct shm *shm_create(unsigned listeners, unsigned fills);
/* Goes on with the segment of the program that this one replaced by exec: `fd` is what its shm_fd()
 * was, and it kept that and the eventfds open. NULL with errno: EPROTO when that program's segment
 * has another layout; then nothing of it is mapped, closed or changed. Owned by the caller. */
struct shm *shm_adopt(int fd);
int shm_fd(const struct shm *s); /* borrowed */
/* How many fills may be in flight from now on: 1 to what was said to shm_create(). Those that are in
 * flight go on. */
void shm_set_fill_limit(struct shm *s, unsigned fills);
void shm_destroy(struct shm **s);

unsigned shm_listeners(const struct shm *s);
unsigned shm_gc(const struct shm *s); /* the gc's child number */
unsigned shm_fills(const struct shm *s);
/* SECRET_BYTES random bytes, made with the segment: a key for what is kept of credentials. */
const uint8_t *shm_key(const struct shm *s);

/* --- children -------------------------------------------------------------------------------- */

/* Master, before the fork: opens a new generation, never 0 and never used before on this
 * machine since it booted (it is made from the boot clock), so that a lease of an earlier run
 * is never taken for a live one. */
uint64_t shm_child_open(struct shm *s, unsigned child);
/* Master, after it reaped the child: closes its generation, makes its running fills FILL_ABANDONED,
 * clears its body count and its place in the queue for slots, and wakes every listener. */
void shm_child_closed(struct shm *s, unsigned child);
/* 0: closed, or there is no such child (the number may come from a record of an earlier run). */
uint64_t shm_child_generation(const struct shm *s, unsigned child);
void shm_child_set_state(struct shm *s, unsigned child, enum child_state state);
enum child_state shm_child_state(const struct shm *s, unsigned child);
/* The child: I am alive, at `now_ms` (clock_ms). The master reads it. */
void shm_heartbeat(struct shm *s, unsigned child, uint64_t now_ms);
uint64_t shm_last_heartbeat(const struct shm *s, unsigned child);

/* --- wake-ups -------------------------------------------------------------------------------- */

/* The eventfd (non-blocking, close-on-exec) that becomes readable when `listener` is woken; gc has
 * one too. */
int shm_wake_fd(const struct shm *s, unsigned listener);
void shm_wake(struct shm *s, unsigned listener);
/* Empties the eventfd; call it before looking at what changed. */
void shm_wake_drain(struct shm *s, unsigned listener);

/* --- fills ----------------------------------------------------------------------------------- */

/* Takes a free slot for a new fill by `listener`, with size -1 and bytes 0; of several the one
 * that ended longest ago. `since_ms` is when its caller began to wait (clock_ms): one free slot
 * is kept for every other listener with an older waiter, so that slots go to the oldest. False:
 * none to be had now; the listener is woken when that may have changed. Its place in the queue
 * is that of its oldest failed claim, kept until that claim succeeds or shm_fill_unwait() says
 * what the oldest is now. */
bool shm_fill_claim(struct shm *s, unsigned listener, const struct digest *d, uint64_t since_ms,
    struct fill_ref *out) __attribute__((warn_unused_result));
/* Tells the queue what this listener's oldest waiter is (0: nobody waits any more). */
void shm_fill_unwait(struct shm *s, unsigned listener, uint64_t oldest_ms);

/* The owner. Size in bytes (-1: not known), status as HTTP gives it. Wakes. */
void shm_fill_set_size(struct shm *s, struct fill_ref r, int64_t size, unsigned status);
/* The owner: which upstream it fetches from, as a hash, for followers that come from another one.
 * Wakes nobody. */
void shm_fill_set_source(struct shm *s, struct fill_ref r, uint32_t source);
/* The owner: `bytes` of the part file are written (release). Wakes every listener that armed
 * the slot. */
void shm_fill_progress(struct shm *s, struct fill_ref r, uint64_t bytes);
/* The owner: the hash is right, the tail may be read. Wakes. */
void shm_fill_verified(struct shm *s, struct fill_ref r);
/* The owner: ends its fill as `state` (FILL_DONE, FILL_FAILED, FILL_ABANDONED). Wakes
 * followers, and the listener that waits longest for a slot. Nothing happens when the slot is
 * not this fill's any more. */
void shm_fill_end(struct shm *s, struct fill_ref r, enum fill_state state);

/* False: the slot was claimed again (or `r` is none); *v is zeroed then. */
bool shm_fill_read(const struct shm *s, struct fill_ref r, struct fill_view *v)
    __attribute__((warn_unused_result));
/* Asks for one wake-up at the slot's next change. Read again after arming, and before sleeping
 * (seq_cst). */
void shm_fill_arm(struct shm *s, struct fill_ref r, unsigned listener);
/* When the owner last made progress (clock_ms); 0 when the slot is not this fill's any more. */
uint64_t shm_fill_last_progress(const struct shm *s, struct fill_ref r);
/* How many slots are FILL_RUNNING. */
unsigned shm_fills_running(const struct shm *s);

/* --- client bodies in flight (server.streamers) ---------------------------------------------- */

/* Takes one of `limit` places (0: no limit) for a body that this listener sends. False: none is
 * free; the listener is woken when one becomes free. */
bool shm_body_begin(struct shm *s, unsigned listener, unsigned limit)
    __attribute__((warn_unused_result));
void shm_body_end(struct shm *s, unsigned listener);

/* --- client connections of the whole cache --------------------------------------------------- */

/* Adds `delta` to this listener's open connections; returns those of all listeners. */
unsigned shm_connections_add(struct shm *s, unsigned listener, int delta);

unsigned shm_connections(const struct shm *s);

/* The same for one client address (text; of IPv6 its /64): the open connections of all listeners from it.
 * Addresses share a few thousand counts, so a rare other address may be counted with it. */
unsigned shm_address_add(struct shm *s, unsigned listener, const char *address, int delta);

/* --- a sick disk ----------------------------------------------------------------------------- */

/* Something could not be read: until then (clock_ms) objects are not looked for in the store. */
void shm_rest_store(struct shm *s, uint64_t until_ms);
bool shm_store_rests(const struct shm *s, uint64_t now_ms);

/* --- counters -------------------------------------------------------------------------------- */
void shm_count(struct shm *s, unsigned child, enum shm_counter c, uint64_t n);
/* The sum over all children. */
uint64_t shm_counter_sum(const struct shm *s, enum shm_counter c);

#endif
