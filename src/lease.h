/* Leases: which listener fetches which digest. Policy on top of the index.
 *
 * The life of a lease:
 *   (none)    nobody fetches the digest
 *   live      lease_take() said LEASE_LEAD to a listener; others are told LEASE_FOLLOW
 *   (object)  its owner published: lease_publish() puts the object in and the lease out, in one
 *             transaction
 *   (none)    its owner gave it up: lease_drop()
 *   dead      its owner's generation is closed, its fill has ended without publishing, or its
 *             deadline has passed without progress: the next lease_take() inherits it, gc drops
 *             it otherwise
 */
#ifndef LEASE_H
#define LEASE_H

#include "index.h"
#include "shm.h"

/* Who asks: a listener in its present generation. */
struct lease_owner {
	unsigned listener;
	uint64_t generation;
};

enum lease_outcome {
	LEASE_OBJECT, /* it is in the index: answer.object */
	LEASE_FOLLOW, /* another fill is live: answer.lease is its lease */
	LEASE_LEAD,   /* lease_take: it is ours, answer.lease; lease_peek: nobody has it */
	LEASE_ERROR,  /* the index failed (logged) */
};

struct lease_answer {
	enum lease_outcome outcome;
	struct index_object object;
	struct index_lease lease;
	/* LEASE_LEAD only: a dead lease was replaced, and its part file parts/<digest>.<dead.id>
	 * may be gone on with. `dead_for_sure`: its owner's process is gone or has let go, so
	 * nobody writes to that file any more. */
	bool inherited;
	bool dead_for_sure;
	struct index_lease dead;
};

/* How long, in milliseconds, a live owner may make no progress before its lease is free. */
enum { LEASE_STALL_MS = 90000 };

/* In one write transaction: finds the object, finds a live lease, or takes the lease for
 * `owner` with the fill `ref`, which the owner has claimed. */
enum lease_outcome lease_take(struct index *ix, struct shm *shm, const struct digest *d,
    const struct lease_owner *owner, struct fill_ref ref, struct lease_answer *a);
/* The same question in a read transaction; takes nothing. */
enum lease_outcome lease_peek(
    struct index *ix, struct shm *shm, const struct digest *d, struct lease_answer *a);
/* Object in, lease `id` out. INDEX_MISS: the lease is not ours any more and nothing was changed. */
enum index_result lease_publish(
    struct index *ix, const struct digest *d, uint64_t id, const struct index_object *o);
/* Lease `id` out, if it is still the one recorded. */
enum index_result lease_drop(struct index *ix, const struct digest *d, uint64_t id);
/* Whether its owner is at work: it lives, runs this very fill, and the deadline has not passed
 * or it made progress within LEASE_STALL_MS. `now_ms` is clock_ms(). */
bool lease_live(const struct shm *shm, const struct index_lease *l, uint64_t now_ms);

/* gc: drops up to `max` leases that are dead and calls `dropped` (may be NULL) for each, after
 * the drop. Returns how many, or -1 when the index failed. A lease whose owner died less than
 * `grace_ms` ago stays, so that a follower can take it over (its fill slot tells; 0: none
 * stays). */
int lease_collect(struct index *ix, struct shm *shm, unsigned max, uint64_t grace_ms,
    void (*dropped)(const struct digest *d, const struct index_lease *l, void *arg), void *arg);

#endif
