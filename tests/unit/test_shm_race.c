/* Shared memory with many processes at once: no wake-up is lost, nothing leaks, whoever is
 * killed wherever. */
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "clock.h"
#include "scratch.h"
#include "shm.h"
#include "suites.h"

enum { LISTENERS = 5, FOLLOWERS = LISTENERS - 1, WAIT_MS = 2000 };

/* What the processes of a test share besides the segment. Listener 0 leads, the others follow. */
struct stage {
	struct shm *shm;
	_Atomic uint32_t slot;
	_Atomic uint64_t seq; /* 0: the leader has not said which fill it is */
	_Atomic uint64_t seen[LISTENERS];
	_Atomic bool killed;
	_Atomic unsigned holder[SHM_MAX_FILLS]; /* listener + 1 */
	_Atomic unsigned in_flight;
	_Atomic unsigned finished;
	unsigned next; /* the number of the child that is being spawned */
};

static struct stage *
set_stage(unsigned listeners, unsigned fills)
{
	struct stage *st = scratch_shared(sizeof(*st));

	st->shm = shm_create(listeners, fills);
	CU_ASSERT_PTR_NOT_NULL_FATAL(st->shm);
	for (unsigned i = 0; i < listeners; i++)
		shm_child_open(st->shm, i);
	return st;
}

static void
clear_stage(struct stage *st)
{
	shm_destroy(&st->shm);
	scratch_unshare(st, sizeof(*st));
}

/* False: nothing came in time. */
static bool
wait_woken(struct stage *st, unsigned listener)
{
	struct pollfd p = {.fd = shm_wake_fd(st->shm, listener), .events = POLLIN};

	return poll(&p, 1, WAIT_MS) == 1;
}

/* --- leader and followers -------------------------------------------------------------------- */

static struct fill_ref
begin_leading(struct stage *st)
{
	struct digest d = scratch_digest(0);
	struct fill_ref r;

	MUST(shm_fill_claim(st->shm, 0, &d, clock_ms(), &r));
	atomic_store(&st->slot, r.slot);
	atomic_store(&st->seq, r.seq);
	for (unsigned i = 1; i < LISTENERS; i++)
		shm_wake(st->shm, i);
	return r;
}

/* Every follower must come to know, though no further change wakes it. */
static void
wait_seen(struct stage *st, uint64_t bytes)
{
	uint64_t end = clock_ms() + WAIT_MS;

	for (unsigned i = 1; i < LISTENERS; i++)
		while (atomic_load(&st->seen[i]) < bytes) {
			MUST(clock_ms() < end);
			sched_yield();
		}
}

static uint64_t
lead_some(struct stage *st, struct fill_ref r, uint64_t bytes)
{
	bytes += 1 + (uint64_t)rand() % 100000;
	shm_fill_progress(st->shm, r, bytes);
	if (rand() % 4 == 0)
		wait_seen(st, bytes);
	if (rand() % 4 == 0)
		scratch_jitter(200);
	return bytes;
}

static int
lead_to_the_end(void *arg)
{
	struct stage *st = arg;
	struct fill_ref r = begin_leading(st);
	uint64_t bytes = 0;

	for (int i = 0; i < 300; i++)
		bytes = lead_some(st, r, bytes);
	shm_fill_set_size(st->shm, r, (int64_t)bytes, 200);
	shm_fill_verified(st->shm, r);
	shm_fill_end(st->shm, r, FILL_DONE);
	return 0;
}

static int
lead_for_ever(void *arg)
{
	struct stage *st = arg;
	uint64_t bytes = 0;
	struct fill_ref r;

	scratch_jitter(500);
	r = begin_leading(st);
	while (!atomic_load(&st->killed))
		bytes = lead_some(st, r, bytes);
	return 1;
}

/* Whether the fill has ended. What is seen never goes back. */
static bool
look(struct stage *st, unsigned me, struct fill_view *v)
{
	struct fill_ref r = {atomic_load(&st->slot), atomic_load(&st->seq)};

	if (r.seq == 0)
		return atomic_load(&st->killed);
	if (!shm_fill_read(st->shm, r, v))
		return true;
	MUST(v->bytes >= atomic_load(&st->seen[me]));
	atomic_store(&st->seen[me], v->bytes);
	return v->state != FILL_RUNNING;
}

/* As a listener does it: drain, look, arm, look again, sleep. */
static int
follow(void *arg)
{
	struct stage *st = arg;
	unsigned me = st->next;
	struct fill_view v = {0};

	atomic_fetch_add(&st->finished, 1); /* it has read its number */
	for (;;) {
		uint64_t before;

		shm_wake_drain(st->shm, me);
		if (look(st, me, &v))
			break;
		before = atomic_load(&st->seen[me]);
		if (atomic_load(&st->seq) != 0)
			shm_fill_arm(st->shm, (struct fill_ref){st->slot, st->seq}, me);
		if (look(st, me, &v))
			break;
		if (atomic_load(&st->seen[me]) == before)
			MUST(wait_woken(st, me));
	}
	if (v.state == FILL_DONE)
		MUST(v.verified && v.bytes == (uint64_t)v.size);
	return v.state == FILL_DONE ? 0 : 2;
}

static void
spawn_followers(struct stage *st, pid_t pids[FOLLOWERS])
{
	for (unsigned i = 0; i < FOLLOWERS; i++) {
		st->next = i + 1;
		pids[i] = scratch_spawn(follow, st);
		while (atomic_load(&st->finished) <= i)
			sched_yield();
	}
}

static void
no_wake_up_is_lost(void)
{
	for (int round = 0; round < 20; round++) {
		struct stage *st = set_stage(LISTENERS, 2);
		pid_t followers[FOLLOWERS], leader;

		spawn_followers(st, followers);
		leader = scratch_spawn(lead_to_the_end, st);
		for (int i = 0; i < FOLLOWERS; i++)
			CU_ASSERT_EQUAL(scratch_reap(followers[i]), 0);
		CU_ASSERT_EQUAL(scratch_reap(leader), 0);
		CU_ASSERT_EQUAL(shm_fills_running(st->shm), 0);
		clear_stage(st);
	}
}

/* In half of the rounds the slot is claimed again at once, so that followers see a changed
 * sequence. */
static void
followers_of_a_killed_leader_all_learn_of_it(void)
{
	for (int round = 0; round < 100; round++) {
		struct stage *st = set_stage(LISTENERS, 1);
		struct digest d = scratch_digest(1);
		pid_t followers[FOLLOWERS], leader;
		struct fill_ref r;

		spawn_followers(st, followers);
		leader = scratch_spawn(lead_for_ever, st);
		scratch_jitter(3000);
		scratch_kill(leader);
		atomic_store(&st->killed, true);
		shm_child_closed(st->shm, 0);
		CU_ASSERT_EQUAL(shm_fills_running(st->shm), 0);
		if (round % 2 == 0)
			CU_ASSERT_TRUE(shm_fill_claim(st->shm, 1, &d, 1, &r));
		for (int i = 0; i < FOLLOWERS; i++)
			CU_ASSERT_EQUAL(scratch_reap(followers[i]), 2);
		clear_stage(st);
	}
}

/* --- the queue for slots --------------------------------------------------------------------- */

enum { CLAIMERS = 6, SLOTS = 2, CLAIMS = 300 };

static struct fill_ref
claim_in_turn(struct stage *st, unsigned me)
{
	struct digest d = scratch_digest(me);
	uint64_t since = clock_ms();
	struct fill_ref r;

	for (;;) {
		shm_wake_drain(st->shm, me);
		if (shm_fill_claim(st->shm, me, &d, since, &r))
			return r;
		MUST(wait_woken(st, me));
	}
}

static int
claim_again_and_again(void *arg)
{
	struct stage *st = arg;
	unsigned me = st->next;

	atomic_fetch_add(&st->finished, 1);
	for (int i = 0; i < CLAIMS; i++) {
		struct fill_ref r = claim_in_turn(st, me);
		unsigned nobody = 0;

		MUST(atomic_compare_exchange_strong(&st->holder[r.slot], &nobody, me + 1));
		if (rand() % 8 == 0)
			scratch_jitter(100);
		atomic_store(&st->holder[r.slot], 0);
		shm_fill_end(st->shm, r, FILL_DONE);
	}
	return 0;
}

static pid_t
spawn_numbered(struct stage *st, unsigned number, int (*run)(void *arg))
{
	unsigned started = atomic_load(&st->finished);
	pid_t pid;

	st->next = number;
	pid = scratch_spawn(run, st);
	while (atomic_load(&st->finished) == started)
		sched_yield();
	return pid;
}

/* What the master does, and the test's own notes put right. */
static void
bury(struct stage *st, unsigned number, pid_t pid)
{
	scratch_kill(pid);
	for (unsigned i = 0; i < SLOTS; i++) {
		unsigned dead = number + 1;

		atomic_compare_exchange_strong(&st->holder[i], &dead, 0);
	}
	shm_child_closed(st->shm, number);
	shm_child_open(st->shm, number);
}

static void
run_claimers(int kills)
{
	struct stage *st = set_stage(CLAIMERS, SLOTS);
	pid_t pids[CLAIMERS];

	for (unsigned i = 0; i < CLAIMERS; i++)
		pids[i] = spawn_numbered(st, i, claim_again_and_again);
	for (int i = 0; i < kills; i++) {
		unsigned victim = (unsigned)rand() % CLAIMERS;

		scratch_jitter(3000);
		bury(st, victim, pids[victim]);
		pids[victim] = spawn_numbered(st, victim, claim_again_and_again);
	}
	for (unsigned i = 0; i < CLAIMERS; i++)
		CU_ASSERT_EQUAL(scratch_reap(pids[i]), 0);
	CU_ASSERT_EQUAL(shm_fills_running(st->shm), 0);
	clear_stage(st);
}

static void
everybody_gets_its_turn_and_no_slot_has_two_owners(void)
{
	run_claimers(0);
}

static void
kills_lose_no_slot_and_no_place_in_the_queue(void)
{
	run_claimers(100);
}

/* --- client bodies --------------------------------------------------------------------------- */

enum { SENDERS = 5, BODY_LIMIT = 2, BODIES = 5000 };

static int
send_bodies(void *arg)
{
	struct stage *st = arg;
	unsigned me = st->next;

	atomic_fetch_add(&st->finished, 1);
	for (int i = 0; i < BODIES; i++) {
		for (;;) {
			shm_wake_drain(st->shm, me);
			if (shm_body_begin(st->shm, me, BODY_LIMIT))
				break;
			MUST(wait_woken(st, me));
		}
		MUST(atomic_fetch_add(&st->in_flight, 1) < BODY_LIMIT);
		if (rand() % 64 == 0)
			scratch_jitter(100);
		atomic_fetch_sub(&st->in_flight, 1);
		shm_body_end(st->shm, me);
	}
	return 0;
}

/* Without ever sleeping, so that the processes meet inside shm_body_begin(). */
static int
snatch_bodies(void *arg)
{
	struct stage *st = arg;
	unsigned me = st->next, got = 0;

	atomic_fetch_add(&st->finished, 1);
	while (atomic_load(&st->finished) < SENDERS)
		sched_yield();
	while (got < 20000) {
		if (!shm_body_begin(st->shm, me, 1))
			continue;
		MUST(atomic_fetch_add(&st->in_flight, 1) == 0);
		atomic_fetch_sub(&st->in_flight, 1);
		shm_body_end(st->shm, me);
		got++;
	}
	return 0;
}

static void
the_limit_of_bodies_holds_when_all_snatch(void)
{
	struct stage *st = set_stage(SENDERS, 1);
	pid_t pids[SENDERS];

	for (unsigned i = 0; i < SENDERS; i++)
		pids[i] = spawn_numbered(st, i, snatch_bodies);
	for (unsigned i = 0; i < SENDERS; i++)
		CU_ASSERT_EQUAL(scratch_reap(pids[i]), 0);
	clear_stage(st);
}

static void
the_limit_of_bodies_holds_and_nobody_waits_for_ever(void)
{
	struct stage *st = set_stage(SENDERS, 1);
	pid_t pids[SENDERS];

	for (unsigned i = 0; i < SENDERS; i++)
		pids[i] = spawn_numbered(st, i, send_bodies);
	for (unsigned i = 0; i < SENDERS; i++)
		CU_ASSERT_EQUAL(scratch_reap(pids[i]), 0);
	for (int i = 0; i < BODY_LIMIT; i++)
		CU_ASSERT_TRUE(shm_body_begin(st->shm, 0, BODY_LIMIT));
	CU_ASSERT_FALSE(shm_body_begin(st->shm, 0, BODY_LIMIT));
	clear_stage(st);
}

void
suite_shm_race(void)
{
	CU_pSuite suite = CU_add_suite("shm_race", NULL, NULL);

	CU_add_test(suite, "no wake-up is lost", no_wake_up_is_lost);
	CU_add_test(suite, "followers of a killed leader all learn of it",
	    followers_of_a_killed_leader_all_learn_of_it);
	CU_add_test(suite, "everybody gets its turn and no slot has two owners",
	    everybody_gets_its_turn_and_no_slot_has_two_owners);
	CU_add_test(suite, "kills lose no slot and no place in the queue",
	    kills_lose_no_slot_and_no_place_in_the_queue);
	CU_add_test(suite, "the limit of bodies holds and nobody waits for ever",
	    the_limit_of_bodies_holds_and_nobody_waits_for_ever);
	CU_add_test(suite, "the limit of bodies holds when all snatch",
	    the_limit_of_bodies_holds_when_all_snatch);
}
