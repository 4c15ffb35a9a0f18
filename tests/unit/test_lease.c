/* Leases in one process: who leads, who follows, when a lease is dead, and that only its owner
 * ends it. */
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/CUnit.h>

#include "clock.h"
#include "lease.h"
#include "scratch.h"
#include "shm_private.h"
#include "suites.h"

enum { LISTENERS = 3, SLOTS = 4 };

struct scene {
	char *folder;
	struct index *ix;
	struct shm *shm;
	struct digest d;
	struct lease_answer answer;
	struct fill_ref ref; /* of the last take() */
};

static void
begin(struct scene *s)
{
	memset(s, 0, sizeof(*s));
	s->folder = scratch_folder();
	s->ix = index_open(s->folder);
	s->shm = shm_create(LISTENERS, SLOTS);
	s->d = scratch_digest(1);
	CU_ASSERT_PTR_NOT_NULL_FATAL(s->ix);
	CU_ASSERT_PTR_NOT_NULL_FATAL(s->shm);
	for (unsigned i = 0; i < LISTENERS; i++)
		shm_child_open(s->shm, i);
}

static void
end(struct scene *s)
{
	index_close(&s->ix);
	shm_destroy(&s->shm);
	scratch_remove(&s->folder);
}

/* Claims a slot and asks for the lease, as a listener does; lets the slot go unless it leads. */
static enum lease_outcome
take(struct scene *s, unsigned listener)
{
	struct lease_owner owner = {listener, shm_child_generation(s->shm, listener)};
	enum lease_outcome outcome;

	CU_ASSERT_TRUE_FATAL(shm_fill_claim(s->shm, listener, &s->d, clock_ms(), &s->ref));
	outcome = lease_take(s->ix, s->shm, &s->d, &owner, s->ref, &s->answer);
	CU_ASSERT_EQUAL(outcome, s->answer.outcome);
	if (outcome != LEASE_LEAD)
		shm_fill_end(s->shm, s->ref, FILL_FAILED);
	return outcome;
}

static enum lease_outcome
peek(struct scene *s)
{
	return lease_peek(s->ix, s->shm, &s->d, &s->answer);
}

static struct index_object
object(void)
{
	return (struct index_object){.kind = OBJECT_BLOB, .size = 5, .fetched_at = 1000};
}

static void
the_first_leads_and_the_others_follow(void)
{
	struct scene s;
	struct index_lease led;

	begin(&s);
	CU_ASSERT_EQUAL(peek(&s), LEASE_LEAD);
	CU_ASSERT_EQUAL(take(&s, 0), LEASE_LEAD);
	CU_ASSERT_FALSE(s.answer.inherited);
	led = s.answer.lease;
	CU_ASSERT_NOT_EQUAL(led.id, 0);
	CU_ASSERT_EQUAL(led.listener, 0);
	CU_ASSERT_EQUAL(led.seq, s.ref.seq);
	CU_ASSERT_TRUE(led.deadline >= clock_ms() + LEASE_STALL_MS - 10000);
	CU_ASSERT_EQUAL(take(&s, 1), LEASE_FOLLOW);
	CU_ASSERT_EQUAL(s.answer.lease.id, led.id);
	CU_ASSERT_EQUAL(peek(&s), LEASE_FOLLOW);
	CU_ASSERT_EQUAL(s.answer.lease.seq, led.seq);
	end(&s);
}

static void
publishing_puts_the_object_in_and_the_lease_out(void)
{
	struct scene s;
	struct index_object o = object();
	struct index_entry e;

	begin(&s);
	CU_ASSERT_EQUAL(take(&s, 0), LEASE_LEAD);
	CU_ASSERT_EQUAL(lease_publish(s.ix, &s.d, s.answer.lease.id, &o), INDEX_OK);
	CU_ASSERT_EQUAL(index_look(s.ix, &s.d, &e), INDEX_OK);
	CU_ASSERT_TRUE(e.has_object && !e.has_lease);
	CU_ASSERT_EQUAL(e.object.size, 5);
	CU_ASSERT_EQUAL(take(&s, 1), LEASE_OBJECT);
	CU_ASSERT_EQUAL(s.answer.object.size, 5);
	CU_ASSERT_EQUAL(peek(&s), LEASE_OBJECT);
	end(&s);
}

static void
a_stale_id_changes_nothing(void)
{
	struct scene s;
	struct index_object o = object();
	struct index_entry before, after;
	uint64_t stale;

	begin(&s);
	CU_ASSERT_EQUAL(lease_drop(s.ix, &s.d, 1), INDEX_MISS);
	CU_ASSERT_EQUAL(lease_publish(s.ix, &s.d, 1, &o), INDEX_MISS);
	CU_ASSERT_EQUAL(take(&s, 0), LEASE_LEAD);
	stale = s.answer.lease.id;
	shm_child_closed(s.shm, 0);
	CU_ASSERT_EQUAL(take(&s, 1), LEASE_LEAD);
	CU_ASSERT_NOT_EQUAL(s.answer.lease.id, stale);
	CU_ASSERT_EQUAL(index_look(s.ix, &s.d, &before), INDEX_OK);
	CU_ASSERT_EQUAL(lease_drop(s.ix, &s.d, stale), INDEX_MISS);
	CU_ASSERT_EQUAL(lease_publish(s.ix, &s.d, stale, &o), INDEX_MISS);
	CU_ASSERT_EQUAL(lease_drop(s.ix, &s.d, 0), INDEX_MISS);
	CU_ASSERT_EQUAL(index_look(s.ix, &s.d, &after), INDEX_OK);
	CU_ASSERT_EQUAL(memcmp(&before, &after, sizeof(before)), 0);
	CU_ASSERT_EQUAL(lease_drop(s.ix, &s.d, after.lease.id), INDEX_OK);
	CU_ASSERT_EQUAL(peek(&s), LEASE_LEAD);
	CU_ASSERT_FALSE(s.answer.inherited);
	end(&s);
}

/* --- death ----------------------------------------------------------------------------------- */

/* The lease of listener 0 is dead: peek says so, and listener 1 inherits it. */
static void
expect_inherited(struct scene *s, uint64_t dead_id, bool sure)
{
	CU_ASSERT_EQUAL(peek(s), LEASE_LEAD);
	CU_ASSERT_TRUE(s->answer.inherited);
	CU_ASSERT_EQUAL(s->answer.dead_for_sure, sure);
	CU_ASSERT_EQUAL(take(s, 1), LEASE_LEAD);
	CU_ASSERT_TRUE(s->answer.inherited);
	CU_ASSERT_EQUAL(s->answer.dead_for_sure, sure);
	CU_ASSERT_EQUAL(s->answer.dead.id, dead_id);
	CU_ASSERT_NOT_EQUAL(s->answer.lease.id, dead_id);
	CU_ASSERT_EQUAL(take(s, 2), LEASE_FOLLOW);
}

static void
a_lease_dies_with_its_owner(void)
{
	struct scene s;

	begin(&s);
	CU_ASSERT_EQUAL(take(&s, 0), LEASE_LEAD);
	shm_child_closed(s.shm, 0);
	expect_inherited(&s, s.answer.lease.id, true);
	end(&s);
}

static void
a_lease_of_an_earlier_generation_is_dead(void)
{
	struct scene s;

	begin(&s);
	CU_ASSERT_EQUAL(take(&s, 0), LEASE_LEAD);
	shm_child_open(s.shm, 0);
	expect_inherited(&s, s.answer.lease.id, true);
	end(&s);
}

static void
a_lease_is_dead_when_its_fill_has_ended(void)
{
	static const enum fill_state ends[] = {FILL_DONE, FILL_FAILED, FILL_ABANDONED};

	for (size_t i = 0; i < 3; i++) {
		struct scene s;

		begin(&s);
		CU_ASSERT_EQUAL(take(&s, 0), LEASE_LEAD);
		shm_fill_end(s.shm, s.ref, ends[i]);
		expect_inherited(&s, s.answer.lease.id, true);
		end(&s);
	}
}

static void
a_lease_is_dead_when_its_slot_is_another_fills(void)
{
	struct scene s;
	struct fill_ref old, now[SLOTS];
	struct digest other = scratch_digest(2);
	uint64_t id;

	begin(&s);
	CU_ASSERT_EQUAL(take(&s, 0), LEASE_LEAD);
	id = s.answer.lease.id;
	old = s.ref;
	shm_fill_end(s.shm, old, FILL_ABANDONED);
	for (int i = 0; i < SLOTS; i++)
		CU_ASSERT_TRUE_FATAL(shm_fill_claim(s.shm, 0, &other, 1, &now[i]));
	CU_ASSERT_EQUAL(now[SLOTS - 1].slot, old.slot); /* a fill of the same owner, and it runs */
	for (int i = 0; i < SLOTS - 1; i++)
		shm_fill_end(s.shm, now[i], FILL_DONE);
	expect_inherited(&s, id, true);
	end(&s);
}

static void
plant(struct index_entry *e, void *arg)
{
	e->has_lease = true;
	e->lease = *(struct index_lease *)arg;
}

static void
a_lease_that_names_what_there_is_not_is_dead(void)
{
	struct scene s;
	struct index_lease l;

	begin(&s);
	CU_ASSERT_EQUAL(take(&s, 0), LEASE_LEAD);
	for (int i = 0; i < 4; i++) {
		l = s.answer.lease;
		CU_ASSERT_TRUE(lease_live(s.shm, &l, clock_ms()));
		l.listener = i == 0 ? LISTENERS + 100 : i == 1 ? 1 : l.listener;
		l.slot = i == 2 ? SHM_MAX_FILLS + 5 : l.slot;
		l.generation = i == 3 ? 0 : l.generation;
		CU_ASSERT_FALSE(lease_live(s.shm, &l, clock_ms()));
	}
	l = s.answer.lease;
	l.listener = UINT32_MAX;
	l.slot = UINT32_MAX;
	CU_ASSERT_EQUAL(index_update(s.ix, &s.d, plant, &l), INDEX_OK);
	expect_inherited(&s, l.id, true);
	end(&s);
}

static void
a_stalled_lease_is_dead_but_not_for_sure(void)
{
	struct scene s;
	struct index_lease l;
	uint64_t now = clock_ms(), later = now + 2 * LEASE_STALL_MS;

	begin(&s);
	CU_ASSERT_EQUAL(take(&s, 0), LEASE_LEAD);
	l = s.answer.lease;
	CU_ASSERT_TRUE(lease_live(s.shm, &l, l.deadline));
	CU_ASSERT_FALSE(lease_live(s.shm, &l, later));
	atomic_store(&s.shm->seg->slots[s.ref.slot].progress_ms, later - 1000);
	CU_ASSERT_TRUE(lease_live(s.shm, &l, later));
	if (now <= LEASE_STALL_MS) {
		fprintf(stderr, "skipped in part: the machine has only just booted\n");
		end(&s);
		return;
	}
	atomic_store(&s.shm->seg->slots[s.ref.slot].progress_ms, now - LEASE_STALL_MS - 1);
	CU_ASSERT_EQUAL(peek(&s), LEASE_FOLLOW);
	l.deadline = now - 1;
	CU_ASSERT_EQUAL(index_update(s.ix, &s.d, plant, &l), INDEX_OK);
	expect_inherited(&s, l.id, false);
	end(&s);
}

/* --- collecting ------------------------------------------------------------------------------ */

struct collected {
	struct scene *s;
	unsigned count;
	uint64_t ids[8];
};

static void
collect(const struct digest *d, const struct index_lease *l, void *arg)
{
	struct collected *c = arg;
	struct index_entry e;

	CU_ASSERT_EQUAL(index_look(c->s->ix, d, &e), INDEX_OK);
	CU_ASSERT_FALSE(e.has_lease);
	c->ids[c->count++ % 8] = l->id;
}

static void
dead_leases_are_collected_and_live_ones_stay(void)
{
	struct scene s;
	struct collected c = {.s = &s};
	uint64_t dead;

	begin(&s);
	CU_ASSERT_EQUAL(take(&s, 0), LEASE_LEAD);
	dead = s.answer.lease.id;
	s.d = scratch_digest(2);
	CU_ASSERT_EQUAL(take(&s, 1), LEASE_LEAD);
	CU_ASSERT_EQUAL(lease_collect(s.ix, s.shm, 100, 0, collect, &c), 0);
	shm_child_closed(s.shm, 0);
	CU_ASSERT_EQUAL(lease_collect(s.ix, s.shm, 0, 0, collect, &c), 0);
	CU_ASSERT_EQUAL(lease_collect(s.ix, s.shm, 100, 0, collect, &c), 1);
	CU_ASSERT_EQUAL(c.count, 1);
	CU_ASSERT_EQUAL(c.ids[0], dead);
	CU_ASSERT_EQUAL(peek(&s), LEASE_FOLLOW);
	CU_ASSERT_EQUAL(lease_collect(s.ix, s.shm, 100, 0, NULL, NULL), 0);
	end(&s);
}

static void
collecting_stops_at_its_limit(void)
{
	struct scene s;
	struct index_lease l = {.id = 7, .listener = 99};

	begin(&s);
	for (unsigned i = 0; i < 25; i++) {
		s.d = scratch_digest(i);
		CU_ASSERT_EQUAL(index_update(s.ix, &s.d, plant, &l), INDEX_OK);
	}
	CU_ASSERT_EQUAL(lease_collect(s.ix, s.shm, 10, 0, NULL, NULL), 10);
	CU_ASSERT_EQUAL(lease_collect(s.ix, s.shm, 10, 0, NULL, NULL), 10);
	CU_ASSERT_EQUAL(lease_collect(s.ix, s.shm, 10, 0, NULL, NULL), 5);
	end(&s);
}

static void
a_fresh_orphan_is_left_for_its_followers(void)
{
	struct scene s;

	begin(&s);
	CU_ASSERT_EQUAL(take(&s, 0), LEASE_LEAD);
	shm_child_closed(s.shm, 0);
	CU_ASSERT_EQUAL(lease_collect(s.ix, s.shm, 100, 60000, NULL, NULL), 0);
	atomic_store(&s.shm->seg->slots[s.ref.slot].ended_ms, 1);
	CU_ASSERT_EQUAL(lease_collect(s.ix, s.shm, 100, clock_ms() - 1, NULL, NULL), 1);
	end(&s);
}

static void
a_failed_fills_lease_is_collected_at_once(void)
{
	struct scene s;

	begin(&s);
	CU_ASSERT_EQUAL(take(&s, 0), LEASE_LEAD);
	shm_fill_end(s.shm, s.ref, FILL_FAILED);
	CU_ASSERT_EQUAL(lease_collect(s.ix, s.shm, 100, 60000, NULL, NULL), 1);
	end(&s);
}

static const CU_TestInfo tests[] = {
    {"the first leads and the others follow", the_first_leads_and_the_others_follow},
    {"publishing puts the object in and the lease out",
	publishing_puts_the_object_in_and_the_lease_out},
    {"a stale id changes nothing", a_stale_id_changes_nothing},
    {"a lease dies with its owner", a_lease_dies_with_its_owner},
    {"a lease of an earlier generation is dead", a_lease_of_an_earlier_generation_is_dead},
    {"a lease is dead when its fill has ended", a_lease_is_dead_when_its_fill_has_ended},
    {"a lease is dead when its slot is another fill's",
	a_lease_is_dead_when_its_slot_is_another_fills},
    {"a lease that names nothing is dead", a_lease_that_names_what_there_is_not_is_dead},
    {"a stalled lease is dead but not for sure", a_stalled_lease_is_dead_but_not_for_sure},
    {"dead leases are collected and live ones stay", dead_leases_are_collected_and_live_ones_stay},
    {"collecting stops at its limit", collecting_stops_at_its_limit},
    {"a fresh orphan is left for its followers", a_fresh_orphan_is_left_for_its_followers},
    {"a failed fill's lease is collected at once", a_failed_fills_lease_is_collected_at_once},
};

void
suite_lease(void)
{
	CU_pSuite suite = CU_add_suite("lease", NULL, NULL);

	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		CU_add_test(suite, tests[i].pName, tests[i].pTestFunc);
}
