/* Leases with many processes: one leads each digest, and a kill at any point leaves no lease
 * alive and no digest without either lease or object. The parent never has the index open while
 * it forks. */
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "clock.h"
#include "lease.h"
#include "scratch.h"
#include "suites.h"

enum { PROCESSES = 6, DIGESTS = 300, SLOTS = 512 };

struct stage {
	char *folder;
	struct shm *shm;
	unsigned next;
	_Atomic unsigned started;
	_Atomic bool go;
	_Atomic unsigned leads[DIGESTS];
	_Atomic unsigned taken; /* digests below that have been taken at least once */
};

static struct stage *
set_stage(void)
{
	struct stage *st = scratch_shared(sizeof(*st));

	st->folder = scratch_folder();
	st->shm = shm_create(PROCESSES, SLOTS);
	CU_ASSERT_PTR_NOT_NULL_FATAL(st->shm);
	for (unsigned i = 0; i < PROCESSES; i++)
		shm_child_open(st->shm, i);
	return st;
}

static void
clear_stage(struct stage *st)
{
	shm_destroy(&st->shm);
	scratch_remove(&st->folder);
	scratch_unshare(st, sizeof(*st));
}

static pid_t
spawn_numbered(struct stage *st, unsigned number, int (*run)(void *arg))
{
	unsigned started = atomic_load(&st->started);
	pid_t pid;

	st->next = number;
	pid = scratch_spawn(run, st);
	while (atomic_load(&st->started) == started)
		sched_yield();
	return pid;
}

/* --- one leads ------------------------------------------------------------------------------- */

static enum lease_outcome
take(struct stage *st, struct index *ix, unsigned me, const struct digest *d,
    struct lease_answer *a, struct fill_ref *ref)
{
	struct lease_owner owner = {me, shm_child_generation(st->shm, me)};
	enum lease_outcome outcome;

	MUST(shm_fill_claim(st->shm, me, d, clock_ms(), ref));
	outcome = lease_take(ix, st->shm, d, &owner, *ref, a);
	MUST(outcome != LEASE_ERROR);
	if (outcome != LEASE_LEAD)
		shm_fill_end(st->shm, *ref, FILL_FAILED);
	return outcome;
}

static int
race_for_leases(void *arg)
{
	struct stage *st = arg;
	unsigned me = st->next;
	struct index *ix;

	atomic_fetch_add(&st->started, 1);
	ix = index_open(st->folder);
	MUST(ix != NULL);
	while (!atomic_load(&st->go))
		sched_yield();
	for (unsigned i = 0; i < DIGESTS; i++) {
		struct digest d = scratch_digest(i);
		struct index_object o = {.kind = OBJECT_BLOB, .size = i};
		struct lease_answer a;
		struct fill_ref ref;

		if (take(st, ix, me, &d, &a, &ref) != LEASE_LEAD)
			continue;
		MUST(!a.inherited);
		atomic_fetch_add(&st->leads[i], 1);
		if (rand() % 2 == 0)
			continue; /* the fill goes on to the end of the test */
		MUST(lease_publish(ix, &d, a.lease.id, &o) == INDEX_OK);
		shm_fill_end(st->shm, ref, FILL_DONE);
	}
	index_close(&ix);
	return 0;
}

/* Nobody's generation is closed before all have ended: fills that were left running are live. */
static void
exactly_one_leads_each_digest(void)
{
	struct stage *st = set_stage();
	pid_t pids[PROCESSES];

	for (unsigned i = 0; i < PROCESSES; i++)
		pids[i] = spawn_numbered(st, i, race_for_leases);
	atomic_store(&st->go, true);
	for (unsigned i = 0; i < PROCESSES; i++)
		CU_ASSERT_EQUAL(scratch_reap(pids[i]), 0);
	for (unsigned i = 0; i < DIGESTS; i++)
		CU_ASSERT_EQUAL(st->leads[i], 1);
	clear_stage(st);
}

/* --- kills ----------------------------------------------------------------------------------- */

/* Takes and publishes digest after digest. An object's size is the id of the lease that it was
 * fetched under. */
static int
fetch_for_ever(void *arg)
{
	struct stage *st = arg;
	unsigned me = st->next;
	struct index *ix;

	atomic_fetch_add(&st->started, 1);
	ix = index_open(st->folder);
	MUST(ix != NULL);
	while (!atomic_load(&st->go)) {
		unsigned n = atomic_load(&st->taken) % DIGESTS;
		struct digest d = scratch_digest(n);
		struct index_object o = {.kind = OBJECT_BLOB};
		struct lease_answer a;
		struct fill_ref ref;
		enum lease_outcome outcome = take(st, ix, me, &d, &a, &ref);

		if (outcome == LEASE_FOLLOW)
			continue;
		if (outcome == LEASE_OBJECT) {
			unsigned next = n + 1;

			if (next < DIGESTS)
				atomic_compare_exchange_strong(&st->taken, &n, next);
			continue;
		}
		o.size = a.lease.id;
		MUST(lease_publish(ix, &d, a.lease.id, &o) == INDEX_OK);
		shm_fill_end(st->shm, ref, FILL_DONE);
	}
	return 1;
}

struct findings {
	struct stage *st;
	unsigned live;
};

static bool
find_live(const struct digest *d, const struct index_lease *l, void *arg)
{
	struct findings *f = arg;

	(void)d;
	if (lease_live(f->st->shm, l, clock_ms()))
		f->live++;
	return true;
}

/* Every digest that was ever passed is an object; none is an object and still leased under the
 * same id. */
static int
check_after_kill(void *arg)
{
	struct stage *st = arg;
	uint64_t begin = clock_ms();
	struct index *ix = index_open(st->folder);
	struct findings f = {.st = st};
	unsigned taken = atomic_load(&st->taken);

	MUST(ix != NULL);
	MUST(index_each_lease(ix, find_live, &f) == INDEX_OK && f.live == 0);
	for (unsigned i = 0; i <= taken && i < DIGESTS; i++) {
		struct digest d = scratch_digest(i);
		struct index_entry e;

		MUST(index_look(ix, &d, &e) == INDEX_OK);
		MUST(i == taken || e.has_object);
		MUST(!e.has_object || !e.has_lease || e.lease.id != e.object.size);
	}
	index_reader_check(ix);
	index_close(&ix);
	MUST(clock_ms() - begin < 2000);
	return 0;
}

/* Two at a time: one is killed at a random point, and the other must get on, or the check finds
 * it stuck. */
static void
after_a_kill_no_lease_stays_live_and_nothing_is_lost(void)
{
	struct stage *st = set_stage();

	for (int round = 0; round < 120; round++) {
		pid_t pids[2];

		for (unsigned i = 0; i < 2; i++)
			pids[i] = spawn_numbered(st, i, fetch_for_ever);
		scratch_jitter(5000);
		for (unsigned i = 0; i < 2; i++) {
			scratch_kill(pids[i]);
			shm_child_closed(st->shm, i);
			shm_child_open(st->shm, i);
		}
		CU_ASSERT_EQUAL(scratch_run(check_after_kill, st), 0);
		if (atomic_load(&st->taken) >= DIGESTS - 1) { /* all are there: begin again */
			scratch_remove(&st->folder);
			st->folder = scratch_folder();
			atomic_store(&st->taken, 0);
		}
	}
	clear_stage(st);
}

/* The leader is killed; a follower takes over, under another id, and finishes. */
static int
lead_and_hang(void *arg)
{
	struct stage *st = arg;
	unsigned me = st->next;
	struct index *ix = index_open(st->folder);
	struct digest d = scratch_digest(1);
	struct lease_answer a;
	struct fill_ref ref;

	MUST(ix != NULL && take(st, ix, me, &d, &a, &ref) == LEASE_LEAD);
	atomic_fetch_add(&st->started, 1);
	pause();
	return 1;
}

static int
take_over(void *arg)
{
	struct stage *st = arg;
	struct index *ix = index_open(st->folder);
	struct digest d = scratch_digest(1);
	struct index_object o = {.kind = OBJECT_BLOB, .size = 3};
	struct lease_answer a;
	struct fill_ref ref;

	MUST(ix != NULL && take(st, ix, 1, &d, &a, &ref) == LEASE_LEAD);
	MUST(a.inherited && a.dead_for_sure && a.dead.listener == 0 && a.dead.id != a.lease.id);
	MUST(lease_publish(ix, &d, a.dead.id, &o) == INDEX_MISS);
	MUST(lease_publish(ix, &d, a.lease.id, &o) == INDEX_OK);
	index_close(&ix);
	return 0;
}

static void
a_killed_leaders_lease_is_taken_over(void)
{
	struct stage *st = set_stage();
	pid_t leader = spawn_numbered(st, 0, lead_and_hang);

	scratch_kill(leader);
	shm_child_closed(st->shm, 0);
	CU_ASSERT_EQUAL(scratch_run(take_over, st), 0);
	clear_stage(st);
}

void
suite_lease_race(void)
{
	CU_pSuite suite = CU_add_suite("lease_race", NULL, NULL);

	CU_add_test(suite, "exactly one leads each digest", exactly_one_leads_each_digest);
	CU_add_test(suite, "after a kill no lease stays live and nothing is lost",
	    after_a_kill_no_lease_stays_live_and_nothing_is_lost);
	CU_add_test(
	    suite, "a killed leader's lease is taken over", a_killed_leaders_lease_is_taken_over);
}
