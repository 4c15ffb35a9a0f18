/* The layout of the shared segment, for shm*.c only. Everything that changes is
 * atomic; what one process writes often lies on cache lines of its own. */
#ifndef SHM_PRIVATE_H
#define SHM_PRIVATE_H

#include <stdatomic.h>
#include <stddef.h>

#include "secret.h"
#include "shm.h"
#include "shm_metrics.h"
#include "shm_table.h"
#include "shm_disk.h"
#include "shm_rate.h"
#include "shm_tickets.h"

enum {
	SHM_CACHE_LINE = 64,
	SHM_MAX_CHILDREN = SHM_MAX_LISTENERS + 1,
	SHM_ADDRESSES = 4096, /* counts of connections by address; a power of two */
	SHM_BREAKER_BUCKETS = 512, SHM_BREAKER_WORDS = 44,
	SHM_TICKET_WORDS = 10,
	SHM_RATE_BUCKETS = 2048, /* of 8 clients each */
	SHM_HEALTH_BUCKETS = 64,
	SHM_METRIC_WORDS = sizeof(struct metric_counts) / sizeof(uint64_t),
	SHM_TOKEN_BUCKETS = 64, SHM_TOKEN_WORDS = 1538, SHM_CLAIM_WORDS = 2,
	SHM_GRANT_BUCKETS = 4096, SHM_GRANT_WORDS = 9, SHM_REVOKED = 16384,
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
	_Atomic uint64_t reserved;    /* bytes of blocks that its part may use: shm_disk.c */
	_Atomic uint64_t wanted;      /* bytes more that its leader waits for */
	_Atomic uint32_t allocated;   /* the file system has set them aside */
	struct digest digest;         /* for whoever looks at the segment with a debugger */
};

/* shm_metrics.c's: an upstream … */
struct shm_metric_name {
	_Alignas(SHM_CACHE_LINE) _Atomic uint32_t tag;
	_Atomic uint64_t up;
	_Atomic int64_t quota_remaining, quota_limit;
	char text[METRIC_NAME_SIZE]; /* written once, before the tag */
};

/* … and struct metric_cache. */
struct shm_metric_cache {
	_Alignas(SHM_CACHE_LINE) _Atomic uint64_t started_at;
	_Atomic uint64_t wanted, master_beat_ms, reloads, failed_reloads, reloaded_at;
	_Atomic uint64_t deaths[2][METRIC_DEATHS];
	_Atomic uint64_t pass_ended_at, pass_took_ms;
};

enum { SHM_MAGIC = 0x52436163, SHM_VERSION = 8 }; /* of a layout that is changed by hand */

/* What another program needs to know to go on with this segment; its layout never changes. */
struct shm_header {
	uint32_t magic, version;
	uint32_t segment_size, slot_size, counters; /* bytes, bytes, how many: of the rest's layout */
	uint32_t listeners, fills;
	int32_t wake_fds[SHM_MAX_LISTENERS];
};

/* The account of disk space, but for what is in the slots. */
struct shm_disk {
	_Alignas(SHM_CACHE_LINE) _Atomic uint64_t limit, min_free;
	_Atomic uint64_t adrift, overhead;
	_Atomic int64_t evicted_age; /* seconds and 1 */
	_Atomic uint32_t known;
	_Atomic uint64_t buckets[SHM_DISK_KINDS][SHM_DISK_BUCKETS]; /* objects and blocks */
};

/* Keys of session tickets: shm_tickets.c. */
struct shm_ticket_slot {
	_Atomic uint64_t version; /* odd: it is being overwritten */
	_Atomic uint64_t words[SHM_TICKET_WORDS];
};

struct shm_tickets {
	_Atomic uint64_t made; /* how many, ever; the newest is in slot (made - 1) % SHM_TICKET_KEYS */
	uint64_t newest_ms;    /* when it was made: the master's */
	struct shm_ticket_slot slots[SHM_TICKET_KEYS];
};

struct shm_segment {
	struct shm_header header; /* written once */
	_Alignas(SHM_CACHE_LINE) _Atomic uint32_t high; /* one more than the highest listener ever opened */
	_Atomic uint32_t fill_limit;                    /* slots from this one on are not claimed */
	_Atomic uint32_t slots_high; /* one more than the highest slot ever claimed */
	int32_t gc_wake_fd;          /* written once */
	_Alignas(SHM_CACHE_LINE) _Atomic uint64_t last_generation;
	_Atomic uint64_t body_waiters; /* a bit a listener that was refused a place for a body */
	_Atomic uint64_t ends;         /* of fills, ever: the source of ended_order */
	_Atomic uint64_t rest_until;   /* clock_ms: the store is not read before */
	struct shm_disk disk;
	struct shm_child children[SHM_MAX_CHILDREN];
	_Alignas(SHM_CACHE_LINE) uint8_t key[SECRET_BYTES]; /* written once */
	struct shm_tickets tickets;
	_Atomic uint64_t rates[RATE_KINDS][SHM_TABLE_SIZE(SHM_RATE_BUCKETS, 0)];
	_Atomic uint64_t breakers[SHM_TABLE_SIZE(SHM_BREAKER_BUCKETS, SHM_BREAKER_WORDS)];
	_Atomic uint64_t health[SHM_TABLE_SIZE(SHM_HEALTH_BUCKETS, 0)];
	struct shm_metric_cache metric_cache;
	struct shm_metric_name metric_names[METRIC_UPSTREAMS];
	_Atomic uint64_t metric_registries[SHM_MAX_CHILDREN][METRIC_UPSTREAMS];
	/* Of a child, pages are touched as far as there are upstreams. */
	_Alignas(SHM_CACHE_LINE) _Atomic uint64_t metrics[SHM_MAX_CHILDREN][SHM_METRIC_WORDS];
	_Atomic uint64_t tokens[SHM_TABLE_SIZE(SHM_TOKEN_BUCKETS, SHM_TOKEN_WORDS)];
	_Atomic uint64_t token_claims[SHM_TABLE_SIZE(SHM_TOKEN_BUCKETS, SHM_CLAIM_WORDS)];
	_Atomic uint64_t grants[SHM_TABLE_SIZE(SHM_GRANT_BUCKETS, SHM_GRANT_WORDS)];
	_Atomic uint64_t revoked[SHM_REVOKED]; /* times */
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
	int wake_fds[SHM_MAX_CHILDREN]; /* a listener's by its number, gc's by its own */
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
/* Is the slot this fill's, and FILL_RUNNING? */
bool shm_fill_is_running(const struct shm *s, struct fill_ref r);
/* The listener that claimed the slot last. */
unsigned shm_fill_owner(const struct shm *s, unsigned slot);

/* shm_disk.c: the slot is about to be ended; its reservation goes, or is adrift when its part stays. */
void shm_disk_slot_ends(struct shm *s, struct shm_slot *f, bool part_stays);
/* shm_metrics.c: a new segment was made; a child has ended. */
void shm_metric_init(struct shm *s);
void shm_metric_closed(struct shm *s, unsigned child);

#endif
