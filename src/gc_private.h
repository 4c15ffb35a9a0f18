/* What the gc*.c files share: the process's state, and the two tables that its work is made of.
 *
 * A job (gc.c) runs by itself, now and then, and says when it wants to run again. A step
 * (gc_pass.c) is a part of the pass, which begins every gc.interval: the steps of the table run
 * one after the other. Both do one bounded bite at a time, and the loop has its turn in between. */
#ifndef GC_PRIVATE_H
#define GC_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "digest.h"
#include "shm.h"

struct child;
struct child_start;
struct event;
struct event_base;
struct gc;
struct gc_clean;
struct gc_expire;
struct gc_adopt;
struct gc_metrics;
struct gc_scrub;
struct index;
struct index_prune;
struct store;

enum {
	GC_BATCH = 100, /* records or files in a bite that deletes: other writers wait 0.4 ms for that */
	GC_MAX_JOBS = 16,
	GC_CHECK_MS = 10000, /* how often reader slots are looked at, and a missing index is tried again */
};

struct gc_job {
	const char *name;
	unsigned first_ms;         /* after the start of the process */
	bool without_index;        /* runs also when there is no index; others wait for one */
	uint64_t (*run)(struct gc *g); /* one bite; returns how many ms later it wants to run again */
};

struct gc_timer {
	struct gc *gc;
	const struct gc_job *job;
	struct event *event;
};

enum gc_bite { GC_DONE, GC_MORE };

struct gc_step {
	const char *name;
	void (*begin)(struct gc *g);        /* NULL: nothing to make ready */
	enum gc_bite (*bite)(struct gc *g); /* GC_MORE: to be called again, after a pause */
	void (*end)(struct gc *g);          /* NULL: nothing to free; called also when the pass breaks off */
};

/* One pass over everything. */
struct gc_pass {
	bool running;
	unsigned step;     /* its number in the table … */
	bool begun;        /* … and whether that step's begin() was called */
	uint64_t began_ms; /* clock_ms */
	uint64_t busy_us;  /* CPU time of its bites */
	uint64_t expired;  /* objects removed by age or disuse */
	uint64_t strangers, wrong, lost, orphans; /* files that are none, of another size; records
						     without a file, files without a record */
	uint64_t forgotten; /* names and proofs that were of no use */
};

/* An object to be removed, as it was when it was chosen. */
struct gc_victim {
	struct digest digest;
	uint8_t kind;      /* enum object_kind - 1 */
	bool even_if_used; /* else one that was used since stays */
	int64_t fetched_at, last_used;
};

struct gc_removed {
	uint64_t objects, bytes; /* bytes of blocks */
	unsigned failed;         /* files that could not be removed */
	int64_t last_used;       /* of the last one, in milliseconds */
};

/* Objects chosen to be evicted. */
struct gc_evict {
	bool running;             /* goes on to 95 % of the limit */
	bool walking, fruitless;
	uint64_t not_before_ms;   /* clock_ms: objects could not be removed */
	unsigned bucket;          /* where the walk is */
	struct gc_victim *chosen; /* a heap while it walks, then sorted, coldest first */
	size_t n, size, next;
	uint64_t objects, bytes;  /* evicted since it was logged last … */
	int64_t age;              /* … and for how long the last of them had been unused, seconds */
	uint64_t logged_ms;
	uint64_t free_soon;       /* bytes evicted that the file system does not call free yet, … */
	uint64_t free_then;       /* … what it called free when it did not, … */
	uint64_t free_soon_until; /* … and how long they are waited for, clock_ms */
};

struct gc_account {
	unsigned bucket;  /* the next one to be counted, while the account is not known */
	uint64_t index;   /* bytes of its blocks, as they are in the account */
};

struct gc {
	const struct child_start *start;
	struct event_base *base;
	struct child *child;
	struct store *store; /* NULL: cannot be opened */
	struct index *ix;    /* NULL: nothing is cached; tried again every GC_CHECK_MS */
	bool first;          /* no listener lives: the index may be dropped, all leases are dead */
	struct gc_timer timers[GC_MAX_JOBS];
	struct event *end;   /* waits for the last listener to go */
	struct event *wake;  /* a leader lacks room */
	uint64_t generations[SHM_MAX_LISTENERS]; /* as they were last seen */
	bool was_clean; /* the last run ended cleanly, and nothing has followed on it */
	struct gc_pass pass;
	struct gc_metrics *metrics; /* NULL: they are not served */
	struct gc_scrub *scrub; /* NULL: not begun */
	struct gc_expire *expire; /* NULL: that step does not run */
	struct gc_clean *clean;   /* likewise */
	struct index_prune *prune; /* likewise */
	bool rebuild;           /* the index was made afresh: files have no records yet */
	struct gc_adopt *adopt; /* NULL: not begun, or done */
	int64_t clock_offset;      /* clock_wall_ms() - clock_ms(), when it was looked at last … */
	uint64_t clock_looked_ms;  /* … clock_ms; 0: never */
	struct gc_sync *sync; /* NULL: none is under way */
	struct gc_evict evict;
	struct gc_account account;
};

/* gc_recover.c: whatever comes of it, the listeners may start. */
void gc_start_up(struct gc *g);
/* Opens store and index; true when both can be used. */
bool gc_recover(struct gc *g);
/* When no listener lives: drops all leases and parts. */
void gc_drop_fills(struct gc *g);

/* gc_parts.c: jobs. */
uint64_t gc_collect_leases(struct gc *g); /* of dead owners, with their parts */
uint64_t gc_remove_strays(struct gc *g);  /* parts without a lease */
/* Whatever it is, at most `*budget` entries of a folder: what is left of one goes with the strays. */
bool gc_remove_part(struct gc *g, const char *name, unsigned *budget);
enum gc_bite gc_remove_strays_once(struct gc *g); /* the same, as a step of the pass */

/* gc_clock.c: before each job. When the wall clock was set, the times of use go with it. */
void gc_follow_clock(struct gc *g);

/* gc_sync.c: begins to bring to the disk what the index is now, unless that is under way. */
void gc_sync_begin(struct gc *g);
/* False: it is under way. *synced: it has come to its end, and well. */
bool gc_sync_ended(struct gc *g, bool *synced);
/* Waits for its end, with heartbeats. */
bool gc_sync_wait(struct gc *g);

/* gc_scrub.c: a job. Hashes objects again that were not for a time. */
uint64_t gc_scrub(struct gc *g);
void gc_end_scrub(struct gc *g);
/* The pause, in ms, after a bite that read `bytes` and took `took_ms`, so that no more than `rate`
 * bytes are read a second; at least 1. *owed_us carries what is less than a millisecond. */
uint64_t gc_rate_pause(uint64_t *owed_us, uint64_t rate, uint64_t bytes, uint64_t took_ms);

/* gc_adopt.c: a job. While g->rebuild, files without a record are hashed and get one. */
uint64_t gc_adopt(struct gc *g);
void gc_end_adopt(struct gc *g);

/* gc_expire.c: a step. */
void gc_expire_begin(struct gc *g);
enum gc_bite gc_expire(struct gc *g);
void gc_expire_end(struct gc *g);
void gc_expire_shift(struct gc *g, int64_t by_ms); /* the clock was set */

/* gc_clean.c: a step. */
void gc_clean_begin(struct gc *g);
enum gc_bite gc_clean(struct gc *g);
void gc_clean_end(struct gc *g);

/* gc_prune.c: a step. */
void gc_prune_begin(struct gc *g);
enum gc_bite gc_prune(struct gc *g);
void gc_prune_end(struct gc *g);

/* gc_account.c: the account is known, or begun to be made. */
void gc_account_begin(struct gc *g);
/* At a clean end: for the next start. */
void gc_account_save(struct gc *g);
void gc_account_index(struct gc *g); /* how much the index takes: cheap */
void gc_account_adrift(struct gc *g);
uint64_t gc_account(struct gc *g); /* a job */

/* gc_evict.c */
uint64_t gc_evict(struct gc *g); /* a job */
void gc_evict_free(struct gc *g);

/* gc_remove.c: removes up to GC_BATCH objects, if they are as they were. False: the index failed. */
bool gc_remove(struct gc *g, const struct gc_victim *victims, unsigned n, struct gc_removed *sum);

/* gc_metrics.c: serves metrics and health, when the master opened sockets for that. */
void gc_metrics_begin(struct gc *g);
/* Ends the process when what was asked is answered, within about a second. May not return. */
void gc_metrics_leave(struct gc *g);
void gc_metrics_end(struct gc *g);

/* gc_pass.c: a job. */
uint64_t gc_run_pass(struct gc *g);
/* Ends a pass that is running, at the end of the process. */
void gc_break_off_pass(struct gc *g);

#endif
