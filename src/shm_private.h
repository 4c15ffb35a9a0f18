/* The layout of the shared segment, for shm.c and shm_fill.c only. Everything that changes is
 * atomic; what one process writes often lies on cache lines of its own. */
#ifndef SHM_PRIVATE_H
#define SHM_PRIVATE_H

#include <stdatomic.h>
#include <stddef.h>

#include "shm.h"

enum {
	SHM_CACHE_LINE = 64,
	SHM_MAX_CHILDREN = SHM_MAX_LISTENERS + 1,
	SHM_ADDRESSES = 4096, /* counts of connections by address; a power of two */
};

struct shm_child {
	_Alignas(SHM_CACHE_LINE) _Atomic uint64_t generation;
	_Atomic uint64_t heartbeat_ms;
	_Atomic uint64_t waiting_since; /* its oldest waiter for a fill slot (clock_ms); 0: none */
	_Atomic uint32_t state;
	_Atomic uint32_t bodies;
	_Atomic uint32_t connections;
	_Alignas(SHM_CACHE_LINE) _Atomic uint64_t counters[COUNT_MAX];
};

struct shm_slot {
	_Alignas(
	    SHM_CACHE_LINE) _Atomic uint64_t word; /* state, owner, sequence number: shm_fill.c */
	_Atomic uint64_t armed;                    /* a bit a listener that wants to be woken */
	_Atomic uint64_t bytes;
	_Atomic int64_t size;
	_Atomic uint32_t status;
	_Atomic uint32_t verified;
	_Atomic uint32_t source;
	_Atomic uint64_t progress_ms;
	_Atomic uint64_t ended_ms;
	_Atomic uint64_t ended_order; /* which end this was, counted over all slots */
	struct digest digest;         /* for whoever looks at the segment with a debugger */
};

enum { SHM_MAGIC = 0x52436163, SHM_VERSION = 1 }; /* of a layout that is changed by hand */

/* What another program needs to know to go on with this segment; its layout never changes. */
struct shm_header {
	uint32_t magic, version;
	uint32_t segment_size, slot_size, counters; /* bytes, bytes, how many: of the rest's layout */
	uint32_t listeners, fills;
	int32_t wake_fds[SHM_MAX_LISTENERS];
};

struct shm_segment {
	struct shm_header header; /* written once */
	_Alignas(SHM_CACHE_LINE) _Atomic uint32_t high; /* one more than the highest listener ever opened */
	_Atomic uint32_t fill_limit;                    /* slots from this one on are not claimed */
	_Alignas(SHM_CACHE_LINE) _Atomic uint64_t last_generation;
	_Atomic uint64_t body_waiters; /* a bit a listener that was refused a place for a body */
	_Atomic uint64_t ends;         /* of fills, ever: the source of ended_order */
	struct shm_child children[SHM_MAX_CHILDREN];
	_Atomic uint32_t addresses[SHM_MAX_LISTENERS][SHM_ADDRESSES]; /* pages are touched on first use only */
	struct shm_slot slots[]; /* as many as shm->fills */
};

/* A process's own handle; the pointers and descriptors are the same in all that the master
 * forked. */
struct shm {
	struct shm_segment *seg;
	size_t length; /* bytes mapped */
	int fd;        /* memfd of the segment */
	unsigned listeners, fills;
	int wake_fds[SHM_MAX_LISTENERS];
};

/* How many listeners' records may be in use: what loops over listeners goes so far. */
unsigned shm_high(const struct shm *s);
/* This listener's record is in use. Every function that is given a listener's number begins so. */
void shm_note(const struct shm *s, unsigned listener);

/* shm_fill.c: ends every fill that `owner` still runs as FILL_ABANDONED, and gives up its place
 * in the queue for slots. Wakes nobody. */
void shm_fill_abandon_all(struct shm *s, unsigned owner);
/* Makes the slots of a new segment ready. */
void shm_fill_init(struct shm *s);

#endif
