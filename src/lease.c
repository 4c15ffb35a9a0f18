/* Leases: deciding, inside one transaction of the index, whether a digest is there, is being
 * fetched, or is ours to fetch; and telling a live lease from a dead one by what its owner
 * shows in shared memory. */
#include "lease.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "xalloc.h"

/* --- live or dead ---------------------------------------------------------------------------- */

/* What the owner shows of the lease's own fill. False: it is gone, or has let go. */
static bool
owner_runs(const struct shm *shm, const struct index_lease *l)
{
	struct fill_ref ref = {l->slot, l->seq};
	struct fill_view v;

	if (l->generation == 0 || shm_child_generation(shm, l->listener) != l->generation)
		return false;
	return shm_fill_read(shm, ref, &v) && v.state == FILL_RUNNING && v.owner == l->listener;
}

static bool
stalled(const struct shm *shm, const struct index_lease *l, uint64_t now_ms)
{
	struct fill_ref ref = {l->slot, l->seq};

	return now_ms > l->deadline && now_ms > shm_fill_last_progress(shm, ref) + LEASE_STALL_MS;
}

bool
lease_live(const struct shm *shm, const struct index_lease *l, uint64_t now_ms)
{
	return owner_runs(shm, l) && !stalled(shm, l, now_ms);
}

/* --- taking ---------------------------------------------------------------------------------- */

struct taking {
	const struct shm *shm;
	uint64_t now_ms;
	struct index_lease mine;
	struct lease_answer *answer;
};

/* What the record and the shared memory say. Changes nothing. */
static void
judge(const struct taking *t, const struct index_entry *e)
{
	struct lease_answer *a = t->answer;

	memset(a, 0, sizeof(*a));
	a->outcome = LEASE_LEAD;
	if (e->has_object) {
		a->outcome = LEASE_OBJECT;
		a->object = e->object;
	} else if (e->has_lease && lease_live(t->shm, &e->lease, t->now_ms)) {
		a->outcome = LEASE_FOLLOW;
		a->lease = e->lease;
	} else if (e->has_lease) {
		a->inherited = true;
		a->dead = e->lease;
		a->dead_for_sure = !owner_runs(t->shm, &e->lease);
	}
}

static void
decide_take(struct index_entry *e, void *arg)
{
	struct taking *t = arg;

	judge(t, e);
	if (t->answer->outcome != LEASE_LEAD)
		return;
	t->answer->lease = t->mine;
	e->has_lease = true;
	e->lease = t->mine;
}

/* 64 random bits: an id must never come twice for one digest, whatever process or run it is
 * from. */
static uint64_t
new_id(void)
{
	uint64_t id = 0;

	while (id == 0)
		if (getentropy(&id, sizeof(id)) != 0)
			fatal("no random numbers: %m");
	return id;
}

static enum lease_outcome
failed(struct lease_answer *a)
{
	memset(a, 0, sizeof(*a));
	a->outcome = LEASE_ERROR;
	return LEASE_ERROR;
}

enum lease_outcome
lease_take(struct index *ix, struct shm *shm, const struct digest *d,
    const struct lease_owner *owner, struct fill_ref ref, struct lease_answer *a)
{
	struct taking t = {.shm = shm, .now_ms = clock_ms(), .answer = a};

	t.mine.listener = owner->listener;
	t.mine.generation = owner->generation;
	t.mine.id = new_id();
	t.mine.slot = ref.slot;
	t.mine.seq = ref.seq;
	t.mine.deadline = t.now_ms + LEASE_STALL_MS;
	if (index_update(ix, d, decide_take, &t) != INDEX_OK)
		return failed(a);
	return a->outcome;
}

enum lease_outcome
lease_peek(struct index *ix, struct shm *shm, const struct digest *d, struct lease_answer *a)
{
	struct taking t = {.shm = shm, .now_ms = clock_ms(), .answer = a};
	struct index_entry e;

	if (index_look(ix, d, &e) != INDEX_OK)
		return failed(a);
	judge(&t, &e);
	return a->outcome;
}

/* --- ending ---------------------------------------------------------------------------------- */

struct ending {
	uint64_t id;
	const struct index_object *object; /* NULL: the lease is dropped */
	const struct shm *shm;             /* not NULL: only if the lease is dead at `now_ms` */
	uint64_t now_ms;
	bool done;
};

static void
decide_end(struct index_entry *e, void *arg)
{
	struct ending *end = arg;

	end->done = e->has_lease && e->lease.id == end->id &&
	    (end->shm == NULL || !lease_live(end->shm, &e->lease, end->now_ms));
	if (!end->done)
		return;
	e->has_lease = false;
	if (end->object == NULL)
		return;
	e->has_object = true;
	e->object = *end->object;
}

static enum index_result
end_lease(struct index *ix, const struct digest *d, struct ending *end)
{
	enum index_result result = index_update(ix, d, decide_end, end);

	return result == INDEX_OK && !end->done ? INDEX_MISS : result;
}

enum index_result
lease_publish(struct index *ix, const struct digest *d, uint64_t id, const struct index_object *o)
{
	return end_lease(ix, d, &(struct ending){.id = id, .object = o});
}

enum index_result
lease_drop(struct index *ix, const struct digest *d, uint64_t id)
{
	return end_lease(ix, d, &(struct ending){.id = id});
}

/* --- collecting ------------------------------------------------------------------------------ */

struct dead_lease {
	struct digest digest;
	struct index_lease lease;
};

struct collecting {
	const struct shm *shm;
	uint64_t now_ms, grace_ms;
	unsigned max, count;
	struct dead_lease *dead;
};

/* A fill that was abandoned a moment ago: its followers are about to take it over. */
static bool
in_grace(const struct collecting *c, const struct index_lease *l)
{
	struct fill_ref ref = {l->slot, l->seq};
	struct fill_view v;

	return shm_fill_read(c->shm, ref, &v) && v.state == FILL_ABANDONED &&
	    c->now_ms < v.ended_ms + c->grace_ms;
}

static bool
note_dead(const struct digest *d, const struct index_lease *l, void *arg)
{
	struct collecting *c = arg;

	if (!lease_live(c->shm, l, c->now_ms) && !in_grace(c, l))
		c->dead[c->count++] = (struct dead_lease){*d, *l};
	return c->count < c->max;
}

/* Each in a transaction of its own, so that nobody waits for long. What was taken anew
 * meanwhile stays. */
static int
drop_dead(struct index *ix, const struct collecting *c,
    void (*dropped)(const struct digest *d, const struct index_lease *l, void *arg), void *arg)
{
	int count = 0;

	for (unsigned i = 0; i < c->count; i++) {
		const struct dead_lease *dead = &c->dead[i];
		struct ending end = {.id = dead->lease.id, .shm = c->shm, .now_ms = c->now_ms};
		enum index_result result = end_lease(ix, &dead->digest, &end);

		if (result == INDEX_ERROR)
			return -1;
		if (result == INDEX_MISS)
			continue;
		count++;
		if (dropped != NULL)
			dropped(&dead->digest, &dead->lease, arg);
	}
	return count;
}

int
lease_collect(struct index *ix, struct shm *shm, unsigned max, uint64_t grace_ms,
    void (*dropped)(const struct digest *d, const struct index_lease *l, void *arg), void *arg)
{
	struct collecting c = {.shm = shm, .now_ms = clock_ms(), .grace_ms = grace_ms, .max = max};
	int count = -1;

	if (max == 0)
		return 0;
	c.dead = xcalloc(max, sizeof(*c.dead));
	if (index_each_lease(ix, note_dead, &c) == INDEX_OK)
		count = drop_dead(ix, &c, dropped, arg);
	free(c.dead);
	return count;
}
