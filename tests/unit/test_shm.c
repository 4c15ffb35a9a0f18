/* Shared memory: one process at a time (what each call does), and many at once with kills
 * (test_shm_race.c). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "clock.h"
#include "scratch.h"
#include "shm.h"
#include "suites.h"

static struct shm *
create(unsigned listeners, unsigned fills)
{
	struct shm *s = shm_create(listeners, fills);

	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	for (unsigned i = 0; i <= listeners; i++)
		shm_child_open(s, i);
	return s;
}

/* Whether `listener` has been woken since it was asked last. */
static bool
woken(struct shm *s, unsigned listener)
{
	struct pollfd p = {.fd = shm_wake_fd(s, listener), .events = POLLIN};
	bool yes = poll(&p, 1, 0) == 1;

	shm_wake_drain(s, listener);
	return yes;
}

static bool
claim(struct shm *s, unsigned listener, uint64_t since, struct fill_ref *r)
{
	struct digest d = scratch_digest(listener);

	return shm_fill_claim(s, listener, &d, since, r);
}

static struct fill_view
view(struct shm *s, struct fill_ref r)
{
	struct fill_view v;

	CU_ASSERT_TRUE(shm_fill_read(s, r, &v));
	return v;
}

/* --- the segment and its children ------------------------------------------------------------ */

/* As a program finds it that another one became by exec. */
static void
a_segment_is_adopted_by_its_descriptor(void)
{
	struct shm *s = shm_create(4, 8), *again;
	int fd = dup(shm_fd(s));

	shm_count(s, 1, COUNT_REQUESTS, 7);
	again = shm_adopt(fd);
	CU_ASSERT_PTR_NOT_NULL_FATAL(again);
	CU_ASSERT_EQUAL(shm_listeners(again), 4);
	CU_ASSERT_EQUAL(shm_fills(again), 8);
	CU_ASSERT_EQUAL(shm_wake_fd(again, 3), shm_wake_fd(s, 3));
	CU_ASSERT_EQUAL(shm_counter_sum(again, COUNT_REQUESTS), 7);
	shm_count(again, 2, COUNT_REQUESTS, 1);
	CU_ASSERT_EQUAL(shm_counter_sum(s, COUNT_REQUESTS), 8);
	shm_destroy(&again);
	shm_destroy(&s); /* its eventfds are closed already: the same numbers */
}

static void
a_segment_of_another_layout_is_refused(void)
{
	struct shm *s = shm_create(1, 1);
	uint32_t other = 0;
	int fd = shm_fd(s), null = open("/dev/null", O_RDONLY);

	CU_ASSERT_EQUAL(pwrite(fd, &other, sizeof(other), sizeof(uint32_t)), sizeof(other));
	errno = 0;
	CU_ASSERT_PTR_NULL(shm_adopt(fd));
	CU_ASSERT_EQUAL(errno, EPROTO);
	CU_ASSERT_PTR_NULL(shm_adopt(null));
	close(null);
	CU_ASSERT_PTR_NULL(shm_adopt(-1));
	CU_ASSERT_EQUAL(errno, EBADF);
	shm_destroy(&s);
}

static void
the_limit_of_fills_can_change(void)
{
	struct digest d = {.algo = DIGEST_SHA256};
	struct shm *s = shm_create(1, 3);
	struct fill_ref first, second, third;

	shm_set_fill_limit(s, 1);
	CU_ASSERT_TRUE(shm_fill_claim(s, 0, &d, 1, &first));
	CU_ASSERT_FALSE(shm_fill_claim(s, 0, &d, 1, &second));
	shm_set_fill_limit(s, 3);
	CU_ASSERT_TRUE(shm_fill_claim(s, 0, &d, 1, &second));
	CU_ASSERT_TRUE(shm_fill_claim(s, 0, &d, 1, &third));
	shm_set_fill_limit(s, 1);
	shm_fill_end(s, second, FILL_DONE);
	CU_ASSERT_FALSE(shm_fill_claim(s, 0, &d, 1, &second));
	shm_fill_end(s, first, FILL_DONE);
	CU_ASSERT_TRUE(shm_fill_claim(s, 0, &d, 1, &first));
	shm_destroy(&s);
}

static void
create_refuses_sizes_out_of_range(void)
{
	const unsigned bad[][2] = {
	    {0, 1}, {1, 0}, {SHM_MAX_LISTENERS + 1, 1}, {1, SHM_MAX_FILLS + 1}};
	struct shm *s;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		errno = 0;
		CU_ASSERT_PTR_NULL(shm_create(bad[i][0], bad[i][1]));
		CU_ASSERT_EQUAL(errno, EINVAL);
	}
	s = shm_create(SHM_MAX_LISTENERS, SHM_MAX_FILLS);
	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	CU_ASSERT_EQUAL(shm_listeners(s), SHM_MAX_LISTENERS);
	CU_ASSERT_EQUAL(shm_gc(s), SHM_MAX_LISTENERS);
	CU_ASSERT_EQUAL(shm_fills(s), SHM_MAX_FILLS);
	shm_destroy(&s);
	CU_ASSERT_PTR_NULL(s);
}

static void
every_state_and_counter_has_a_name_of_its_own(void)
{
	CU_ASSERT_STRING_EQUAL(fill_state_name(FILL_ABANDONED), "abandoned");
	CU_ASSERT_STRING_EQUAL(child_state_name(CHILD_DRAINING), "draining");
	for (int i = 0; i < COUNT_MAX; i++) {
		CU_ASSERT_PTR_NOT_NULL_FATAL(shm_counter_name((enum shm_counter)i));
		for (int j = 0; j < i; j++)
			CU_ASSERT_STRING_NOT_EQUAL(shm_counter_name((enum shm_counter)i),
			    shm_counter_name((enum shm_counter)j));
	}
}

static void
generations_are_never_zero_and_never_come_again(void)
{
	struct shm *s = create(2, 1), *later;
	uint64_t last = shm_child_generation(s, 2);

	for (int i = 0; i < 1000; i++) {
		uint64_t g = shm_child_open(s, 1);

		CU_ASSERT_TRUE(g > last);
		CU_ASSERT_EQUAL(shm_child_generation(s, 1), g);
		last = g;
	}
	later = create(1, 1);
	CU_ASSERT_TRUE(shm_child_generation(later, 0) > last);
	shm_child_closed(s, 1);
	CU_ASSERT_EQUAL(shm_child_generation(s, 1), 0);
	CU_ASSERT_NOT_EQUAL(shm_child_generation(s, 0), 0);
	CU_ASSERT_EQUAL(shm_child_generation(s, 3), 0);
	CU_ASSERT_EQUAL(shm_child_generation(s, UINT32_MAX), 0);
	shm_destroy(&s);
	shm_destroy(&later);
}

static void
a_childs_state_and_heartbeat_are_its_own(void)
{
	struct shm *s = create(2, 1);

	CU_ASSERT_EQUAL(shm_child_state(s, 0), CHILD_STARTING);
	shm_child_set_state(s, 0, CHILD_READY);
	shm_heartbeat(s, 0, 4711);
	CU_ASSERT_EQUAL(shm_child_state(s, 0), CHILD_READY);
	CU_ASSERT_EQUAL(shm_last_heartbeat(s, 0), 4711);
	CU_ASSERT_EQUAL(shm_child_state(s, 1), CHILD_STARTING);
	CU_ASSERT_EQUAL(shm_last_heartbeat(s, 1), 0);
	shm_child_closed(s, 0);
	CU_ASSERT_EQUAL(shm_child_state(s, 0), CHILD_DEAD);
	shm_child_open(s, 0);
	CU_ASSERT_EQUAL(shm_last_heartbeat(s, 0), 0);
	shm_destroy(&s);
}

static void
counters_add_up_and_survive_the_child(void)
{
	struct shm *s = create(2, 1);

	shm_count(s, 0, COUNT_BYTES_SENT, 5);
	shm_count(s, 1, COUNT_BYTES_SENT, 7);
	shm_count(s, shm_gc(s), COUNT_BYTES_SENT, 11);
	shm_child_closed(s, 1);
	CU_ASSERT_EQUAL(shm_counter_sum(s, COUNT_BYTES_SENT), 23);
	CU_ASSERT_EQUAL(shm_counter_sum(s, COUNT_HITS), 0);
	shm_destroy(&s);
}

static void
connections_of_a_dead_listener_are_gone(void)
{
	struct shm *s = create(2, 1);

	CU_ASSERT_EQUAL(shm_connections_add(s, 0, 1), 1);
	CU_ASSERT_EQUAL(shm_connections_add(s, 1, 3), 4);
	CU_ASSERT_EQUAL(shm_connections_add(s, 1, -1), 3);
	shm_child_closed(s, 1);
	CU_ASSERT_EQUAL(shm_connections_add(s, 0, -1), 0);
	shm_destroy(&s);
}

/* --- fills ----------------------------------------------------------------------------------- */

static void
a_claimed_fill_starts_empty(void)
{
	struct shm *s = create(2, 1);
	struct fill_ref r;
	struct fill_view v;
	uint64_t before = clock_ms();

	CU_ASSERT_TRUE_FATAL(claim(s, 1, before, &r));
	CU_ASSERT_NOT_EQUAL(r.seq, 0);
	v = view(s, r);
	CU_ASSERT_EQUAL(v.state, FILL_RUNNING);
	CU_ASSERT_EQUAL(v.owner, 1);
	CU_ASSERT_EQUAL(v.size, -1);
	CU_ASSERT_EQUAL(v.bytes, 0);
	CU_ASSERT_FALSE(v.verified);
	CU_ASSERT_EQUAL(v.status, 0);
	CU_ASSERT_EQUAL(v.ended_ms, 0);
	CU_ASSERT_TRUE(shm_fill_last_progress(s, r) >= before);
	CU_ASSERT_EQUAL(shm_fills_running(s), 1);
	shm_destroy(&s);
}

static void
a_fill_shows_what_its_owner_says(void)
{
	struct shm *s = create(1, 1);
	struct fill_ref r;
	struct fill_view v;

	CU_ASSERT_TRUE_FATAL(claim(s, 0, 1, &r));
	shm_fill_set_size(s, r, 1000, 206);
	shm_fill_progress(s, r, 600);
	v = view(s, r);
	CU_ASSERT_EQUAL(v.size, 1000);
	CU_ASSERT_EQUAL(v.status, 206);
	CU_ASSERT_EQUAL(v.bytes, 600);
	shm_fill_progress(s, r, 1000);
	shm_fill_verified(s, r);
	shm_fill_end(s, r, FILL_DONE);
	v = view(s, r);
	CU_ASSERT_EQUAL(v.state, FILL_DONE);
	CU_ASSERT_EQUAL(v.bytes, 1000);
	CU_ASSERT_TRUE(v.verified);
	CU_ASSERT_TRUE(v.ended_ms != 0);
	CU_ASSERT_EQUAL(shm_fills_running(s), 0);
	shm_destroy(&s);
}

static void
an_old_reference_sees_nothing_and_changes_nothing(void)
{
	struct shm *s = create(2, 1);
	struct fill_ref old, now, none = {0}, wild = {SHM_MAX_FILLS, 5};
	struct fill_view v;

	CU_ASSERT_TRUE_FATAL(claim(s, 0, 1, &old));
	shm_fill_end(s, old, FILL_FAILED);
	CU_ASSERT_TRUE_FATAL(claim(s, 1, 1, &now));
	CU_ASSERT_EQUAL(now.slot, old.slot);
	CU_ASSERT_NOT_EQUAL(now.seq, old.seq);
	shm_fill_set_size(s, old, 7, 200);
	shm_fill_progress(s, old, 7);
	shm_fill_verified(s, old);
	shm_fill_end(s, old, FILL_DONE);
	v = view(s, now);
	CU_ASSERT_EQUAL(v.state, FILL_RUNNING);
	CU_ASSERT_EQUAL(v.size, -1);
	CU_ASSERT_EQUAL(v.bytes, 0);
	CU_ASSERT_FALSE(v.verified);
	CU_ASSERT_FALSE(shm_fill_read(s, old, &v));
	CU_ASSERT_FALSE(shm_fill_read(s, none, &v));
	CU_ASSERT_FALSE(shm_fill_read(s, wild, &v));
	CU_ASSERT_EQUAL(v.size, 0);
	CU_ASSERT_EQUAL(shm_fill_last_progress(s, old), 0);
	CU_ASSERT_EQUAL(shm_fill_last_progress(s, wild), 0);
	shm_fill_arm(s, wild, 0);
	shm_destroy(&s);
}

static void
a_later_run_never_uses_a_reference_of_an_earlier_one(void)
{
	struct shm *early = create(1, 1), *late;
	struct fill_ref a, b;
	struct fill_view v;

	CU_ASSERT_TRUE_FATAL(claim(early, 0, 1, &a));
	while (clock_ms() <= a.seq)
		continue;
	late = create(1, 1);
	CU_ASSERT_TRUE_FATAL(claim(late, 0, 1, &b));
	CU_ASSERT_FALSE(shm_fill_read(late, a, &v));
	shm_destroy(&early);
	shm_destroy(&late);
}

static void
a_claim_takes_the_slot_that_ended_longest_ago(void)
{
	enum { SLOTS = 5 };
	static const unsigned order[SLOTS] = {3, 0, 4, 1, 2};
	struct shm *s = create(1, SLOTS);
	struct fill_ref r[SLOTS], again;

	for (unsigned i = 0; i < SLOTS; i++)
		CU_ASSERT_TRUE_FATAL(claim(s, 0, 1, &r[i]));
	CU_ASSERT_FALSE(claim(s, 0, 1, &again));
	CU_ASSERT_EQUAL(again.seq, 0);
	for (unsigned i = 0; i < SLOTS; i++)
		shm_fill_end(s, r[order[i]], FILL_DONE);
	for (unsigned i = 0; i < SLOTS; i++) {
		CU_ASSERT_TRUE_FATAL(claim(s, 0, 1, &again));
		CU_ASSERT_EQUAL(again.slot, r[order[i]].slot);
	}
	shm_destroy(&s);
}

static void
a_change_wakes_who_armed_and_only_once(void)
{
	struct shm *s = create(3, 1);
	struct fill_ref r;

	CU_ASSERT_TRUE_FATAL(claim(s, 0, 1, &r));
	shm_fill_arm(s, r, 1);
	shm_fill_progress(s, r, 1);
	CU_ASSERT_TRUE(woken(s, 1));
	CU_ASSERT_FALSE(woken(s, 2));
	shm_fill_progress(s, r, 2);
	CU_ASSERT_FALSE(woken(s, 1));
	shm_fill_arm(s, r, 1);
	shm_fill_set_size(s, r, 2, 200);
	CU_ASSERT_TRUE(woken(s, 1));
	shm_fill_arm(s, r, 2);
	shm_fill_verified(s, r);
	CU_ASSERT_TRUE(woken(s, 2));
	shm_fill_arm(s, r, 1);
	shm_fill_arm(s, r, 2);
	shm_fill_end(s, r, FILL_DONE);
	CU_ASSERT_TRUE(woken(s, 1));
	CU_ASSERT_TRUE(woken(s, 2));
	CU_ASSERT_FALSE(woken(s, 0));
	shm_destroy(&s);
}

static void
a_dead_childs_fills_are_abandoned_and_everybody_woken(void)
{
	struct shm *s = create(3, 4);
	struct fill_ref mine, done, other;
	struct fill_view v;
	uint64_t before = clock_ms();

	CU_ASSERT_TRUE_FATAL(claim(s, 1, 1, &mine));
	CU_ASSERT_TRUE_FATAL(claim(s, 1, 1, &done));
	CU_ASSERT_TRUE_FATAL(claim(s, 2, 1, &other));
	shm_fill_progress(s, mine, 42);
	shm_fill_end(s, done, FILL_DONE);
	shm_child_closed(s, 1);
	v = view(s, mine);
	CU_ASSERT_EQUAL(v.state, FILL_ABANDONED);
	CU_ASSERT_EQUAL(v.bytes, 42);
	CU_ASSERT_TRUE(v.ended_ms >= before);
	CU_ASSERT_EQUAL(view(s, done).state, FILL_DONE);
	CU_ASSERT_EQUAL(view(s, other).state, FILL_RUNNING);
	for (unsigned i = 0; i < 3; i++)
		CU_ASSERT_TRUE(woken(s, i));
	shm_fill_end(s, mine, FILL_DONE);
	CU_ASSERT_EQUAL(view(s, mine).state, FILL_ABANDONED);
	shm_destroy(&s);
}

/* --- the queue for slots --------------------------------------------------------------------- */

static void
slots_go_to_the_listener_that_waits_longest(void)
{
	struct shm *s = create(3, 1);
	struct fill_ref r, q;

	CU_ASSERT_TRUE_FATAL(claim(s, 0, 1, &r));
	CU_ASSERT_FALSE(claim(s, 1, 20, &q));
	CU_ASSERT_FALSE(claim(s, 2, 10, &q));
	shm_fill_end(s, r, FILL_DONE);
	CU_ASSERT_FALSE(woken(s, 1));
	CU_ASSERT_TRUE(woken(s, 2));
	CU_ASSERT_FALSE(claim(s, 1, 20, &q));
	CU_ASSERT_FALSE(claim(s, 0, 30, &q));
	CU_ASSERT_TRUE_FATAL(claim(s, 2, 10, &r));
	shm_fill_end(s, r, FILL_DONE);
	CU_ASSERT_TRUE(woken(s, 1));
	CU_ASSERT_FALSE(woken(s, 0));
	CU_ASSERT_TRUE_FATAL(claim(s, 1, 20, &r));
	shm_fill_end(s, r, FILL_DONE);
	CU_ASSERT_TRUE(woken(s, 0));
	shm_destroy(&s);
}

static void
one_slot_is_kept_for_each_older_waiter_and_no_more(void)
{
	struct shm *s = create(3, 2);
	struct fill_ref a, b, q;

	CU_ASSERT_TRUE_FATAL(claim(s, 0, 1, &a));
	CU_ASSERT_TRUE_FATAL(claim(s, 0, 1, &b));
	CU_ASSERT_FALSE(claim(s, 1, 10, &q));
	CU_ASSERT_FALSE(claim(s, 2, 20, &q));
	shm_fill_end(s, a, FILL_DONE);
	CU_ASSERT_FALSE(claim(s, 2, 20, &q));
	shm_fill_end(s, b, FILL_DONE);
	CU_ASSERT_TRUE(woken(s, 2));
	CU_ASSERT_TRUE(claim(s, 2, 20, &q));
	CU_ASSERT_TRUE(woken(s, 1));
	CU_ASSERT_TRUE(claim(s, 1, 10, &q));
	shm_destroy(&s);
}

static void
who_gives_up_waiting_lets_the_next_one_in(void)
{
	struct shm *s = create(3, 1);
	struct fill_ref r, q;

	CU_ASSERT_TRUE_FATAL(claim(s, 0, 1, &r));
	CU_ASSERT_FALSE(claim(s, 1, 10, &q));
	CU_ASSERT_FALSE(claim(s, 2, 20, &q));
	shm_fill_end(s, r, FILL_DONE);
	CU_ASSERT_FALSE(woken(s, 2));
	shm_fill_unwait(s, 1, 0);
	CU_ASSERT_TRUE(woken(s, 2));
	CU_ASSERT_TRUE(claim(s, 2, 20, &q));
	shm_destroy(&s);
}

static void
a_claim_keeps_the_place_of_an_older_waiter_of_its_listener(void)
{
	struct shm *s = create(2, 2);
	struct fill_ref r, q;

	CU_ASSERT_TRUE_FATAL(claim(s, 0, 1, &r));
	CU_ASSERT_TRUE_FATAL(claim(s, 0, 1, &q));
	CU_ASSERT_FALSE(claim(s, 1, 10, &q));
	CU_ASSERT_FALSE(claim(s, 1, 30, &q));
	shm_fill_end(s, r, FILL_DONE);
	CU_ASSERT_TRUE(claim(s, 1, 30, &q));
	shm_fill_end(s, q, FILL_DONE);
	CU_ASSERT_FALSE(claim(s, 0, 20, &q));
	CU_ASSERT_TRUE(claim(s, 1, 10, &q));
	shm_destroy(&s);
}

static void
a_dead_listener_keeps_nobody_waiting(void)
{
	struct shm *s = create(3, 1);
	struct fill_ref r, q;

	CU_ASSERT_TRUE_FATAL(claim(s, 0, 1, &r));
	CU_ASSERT_FALSE(claim(s, 1, 10, &q));
	CU_ASSERT_FALSE(claim(s, 2, 20, &q));
	shm_fill_end(s, r, FILL_DONE);
	shm_child_closed(s, 1);
	CU_ASSERT_TRUE(woken(s, 2));
	CU_ASSERT_TRUE(claim(s, 2, 20, &q));
	shm_destroy(&s);
}

/* --- client bodies --------------------------------------------------------------------------- */

static void
bodies_are_limited_over_all_listeners(void)
{
	struct shm *s = create(2, 1);

	CU_ASSERT_TRUE(shm_body_begin(s, 0, 2));
	CU_ASSERT_TRUE(shm_body_begin(s, 1, 2));
	CU_ASSERT_FALSE(shm_body_begin(s, 1, 2));
	CU_ASSERT_FALSE(woken(s, 1));
	CU_ASSERT_TRUE(shm_body_begin(s, 0, 0));
	shm_body_end(s, 0);
	CU_ASSERT_TRUE(woken(s, 1));
	CU_ASSERT_FALSE(shm_body_begin(s, 1, 2));
	shm_body_end(s, 0);
	CU_ASSERT_TRUE(woken(s, 1));
	CU_ASSERT_TRUE(shm_body_begin(s, 1, 2));
	shm_destroy(&s);
}

static void
waiters_for_a_body_do_not_wake_one_another(void)
{
	struct shm *s = create(3, 1);

	CU_ASSERT_TRUE(shm_body_begin(s, 0, 1));
	for (int i = 0; i < 3; i++) {
		CU_ASSERT_FALSE(shm_body_begin(s, 1, 1));
		CU_ASSERT_FALSE(shm_body_begin(s, 2, 1));
		CU_ASSERT_FALSE(woken(s, 1));
		CU_ASSERT_FALSE(woken(s, 2));
	}
	shm_destroy(&s);
}

static void
bodies_of_a_dead_listener_are_free_again(void)
{
	struct shm *s = create(2, 1);

	CU_ASSERT_TRUE(shm_body_begin(s, 0, 2));
	CU_ASSERT_TRUE(shm_body_begin(s, 0, 2));
	CU_ASSERT_FALSE(shm_body_begin(s, 1, 2));
	shm_child_closed(s, 0);
	CU_ASSERT_TRUE(woken(s, 1));
	CU_ASSERT_TRUE(shm_body_begin(s, 1, 2));
	shm_destroy(&s);
}

static const CU_TestInfo tests[] = {
    {"a segment is adopted by its descriptor", a_segment_is_adopted_by_its_descriptor},
    {"a segment of another layout is refused", a_segment_of_another_layout_is_refused},
    {"the limit of fills can change", the_limit_of_fills_can_change},
    {"create refuses sizes out of range", create_refuses_sizes_out_of_range},
    {"every state and counter has a name of its own",
	every_state_and_counter_has_a_name_of_its_own},
    {"generations are never 0 and never come again",
	generations_are_never_zero_and_never_come_again},
    {"a child's state and heartbeat are its own", a_childs_state_and_heartbeat_are_its_own},
    {"counters add up and survive the child", counters_add_up_and_survive_the_child},
    {"connections of a dead listener are gone", connections_of_a_dead_listener_are_gone},
    {"a claimed fill starts empty", a_claimed_fill_starts_empty},
    {"a fill shows what its owner says", a_fill_shows_what_its_owner_says},
    {"an old reference sees and changes nothing",
	an_old_reference_sees_nothing_and_changes_nothing},
    {"a later run never uses an earlier reference",
	a_later_run_never_uses_a_reference_of_an_earlier_one},
    {"a claim takes the slot that ended longest ago",
	a_claim_takes_the_slot_that_ended_longest_ago},
    {"a change wakes who armed, once", a_change_wakes_who_armed_and_only_once},
    {"a dead child's fills are abandoned", a_dead_childs_fills_are_abandoned_and_everybody_woken},
    {"slots go to who waits longest", slots_go_to_the_listener_that_waits_longest},
    {"one slot is kept for each older waiter", one_slot_is_kept_for_each_older_waiter_and_no_more},
    {"who gives up lets the next one in", who_gives_up_waiting_lets_the_next_one_in},
    {"a claim keeps an older waiter's place",
	a_claim_keeps_the_place_of_an_older_waiter_of_its_listener},
    {"a dead listener keeps nobody waiting", a_dead_listener_keeps_nobody_waiting},
    {"bodies are limited over all listeners", bodies_are_limited_over_all_listeners},
    {"waiters for a body do not wake one another", waiters_for_a_body_do_not_wake_one_another},
    {"bodies of a dead listener are free again", bodies_of_a_dead_listener_are_free_again},
};

void
suite_shm(void)
{
	CU_pSuite suite = CU_add_suite("shm", NULL, NULL);

	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		CU_add_test(suite, tests[i].pName, tests[i].pTestFunc);
}
