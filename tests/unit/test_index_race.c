/* The index with many processes: opening at once, growing under one another, kills at any
 * point. The parent never has the index open while it forks. */
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "clock.h"
#include "index.h"
#include "scratch.h"
#include "suites.h"

enum { TINY_MAP = 64 * 1024, PROCESSES = 8, NAMES = 200, WAIT_MS = 2000 };

struct stage {
	char *folder;
	size_t map_bytes;
	unsigned next;
	_Atomic unsigned started;
	_Atomic bool go;
};

static struct stage *
set_stage(size_t map_bytes)
{
	struct stage *st = scratch_shared(sizeof(*st));

	st->folder = scratch_folder();
	st->map_bytes = map_bytes;
	return st;
}

static void
clear_stage(struct stage *st)
{
	scratch_remove(&st->folder);
	scratch_unshare(st, sizeof(*st));
}

static struct index_object
object(uint64_t size)
{
	return (struct index_object){.kind = OBJECT_BLOB, .size = size, .fetched_at = 1000};
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

static void
run_all(struct stage *st, int (*run)(void *arg))
{
	pid_t pids[PROCESSES];

	for (unsigned i = 0; i < PROCESSES; i++)
		pids[i] = spawn_numbered(st, i, run);
	atomic_store(&st->go, true);
	for (unsigned i = 0; i < PROCESSES; i++)
		CU_ASSERT_EQUAL(scratch_reap(pids[i]), 0);
	atomic_store(&st->go, false);
}

static unsigned
wait_go(struct stage *st)
{
	unsigned me = st->next;

	atomic_fetch_add(&st->started, 1);
	while (!atomic_load(&st->go))
		sched_yield();
	return me;
}

/* Each puts objects of its own and sees those of the others come. */
static int
put_mine_and_await_all(void *arg)
{
	struct stage *st = arg;
	unsigned me = wait_go(st);
	struct index *ix = index_open_sized(st->folder, st->map_bytes);
	uint64_t end = clock_ms() + 10 * WAIT_MS;

	MUST(ix != NULL);
	for (unsigned i = 0; i < NAMES; i++) {
		struct digest d = scratch_digest(me * NAMES + i);
		struct index_object o = object(i), back;

		MUST(index_put_object(ix, &d, &o) == INDEX_OK);
		MUST(index_get_object(ix, &d, &back) == INDEX_OK && back.size == i);
	}
	for (unsigned i = 0; i < PROCESSES * NAMES; i++) {
		struct digest d = scratch_digest(i);
		struct index_object o;
		enum index_result result;

		while ((result = index_get_object(ix, &d, &o)) == INDEX_MISS) {
			MUST(clock_ms() < end);
			sched_yield();
		}
		MUST(result == INDEX_OK && o.size == i % NAMES);
		index_touch(ix, &o, 2000);
	}
	index_close(&ix);
	return 0;
}

static void
many_may_open_it_at_once(void)
{
	struct stage *st = set_stage((size_t)64 << 30);

	run_all(st, put_mine_and_await_all);
	clear_stage(st);
}

static void
maps_grow_under_one_another(void)
{
	struct stage *st = set_stage(TINY_MAP);

	run_all(st, put_mine_and_await_all);
	clear_stage(st);
}

/* --- kills ----------------------------------------------------------------------------------- */

static void
some_write(struct index *ix)
{
	unsigned n = (unsigned)rand() % NAMES;
	struct digest d = scratch_digest(n);
	struct index_object o = object(n);

	switch (rand() % 5) {
	case 0:
		MUST(index_delete_object(ix, &d) != INDEX_ERROR);
		break;
	case 1:
		MUST(index_put_name(ix, "u", "r", "t", &d, rand()) == INDEX_OK);
		break;
	case 2:
		MUST(index_put_proof(ix, "u", &d) == INDEX_OK);
		break;
	default:
		MUST(index_put_object(ix, &d, &o) == INDEX_OK);
	}
}

static int
write_for_ever(void *arg)
{
	struct stage *st = arg;
	struct index *ix;

	atomic_fetch_add(&st->started, 1);
	ix = index_open_sized(st->folder, st->map_bytes);
	MUST(ix != NULL);
	while (!atomic_load(&st->go))
		some_write(ix);
	return 1;
}

struct slots {
	struct index *ix;
	bool taken[2 * NAMES];
};

static bool
check_slot(const struct digest *d, const struct index_object *o, void *arg)
{
	struct slots *s = arg;
	struct digest expected = scratch_digest((unsigned)o->size);

	MUST(digest_equal(d, &expected));
	MUST(o->usage < 2 * NAMES && !s->taken[o->usage]);
	s->taken[o->usage] = true;
	return true;
}

/* Opens, writes, and finds every record whole and every usage slot with one owner, or none. */
static int
go_on_after_kill(void *arg)
{
	struct stage *st = arg;
	uint64_t begin = clock_ms();
	struct index *ix = index_open_sized(st->folder, st->map_bytes);
	struct slots s = {.ix = ix};

	MUST(ix != NULL);
	some_write(ix);
	MUST(clock_ms() - begin < WAIT_MS);
	MUST(index_each_object(ix, check_slot, &s) == INDEX_OK);
	index_reader_check(ix);
	index_close(&ix);
	return 0;
}

static void
after_a_kill_anywhere_the_next_writer_goes_on(void)
{
	struct stage *st = set_stage((size_t)64 << 30);

	for (int round = 0; round < 120; round++) {
		pid_t a = spawn_numbered(st, 0, write_for_ever);
		pid_t b = spawn_numbered(st, 1, write_for_ever);

		scratch_jitter(6000);
		scratch_kill(a);
		CU_ASSERT_EQUAL(scratch_run(go_on_after_kill, st), 0);
		scratch_kill(b);
		CU_ASSERT_EQUAL(scratch_run(go_on_after_kill, st), 0);
	}
	clear_stage(st);
}

/* --- readers --------------------------------------------------------------------------------- */

static int
read_and_die(void *arg)
{
	struct stage *st = arg;
	struct index *ix = index_open(st->folder);
	struct digest d = scratch_digest(0);
	struct index_object o;

	MUST(ix != NULL && index_get_object(ix, &d, &o) == INDEX_MISS);
	_exit(0); /* the reader slot stays behind */
}

static void
slots_of_dead_readers_are_freed(void)
{
	struct stage *st = set_stage((size_t)64 << 30);
	struct index *ix;

	for (int i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(scratch_run(read_and_die, st), 0);
	ix = index_open(st->folder);
	CU_ASSERT_PTR_NOT_NULL_FATAL(ix);
	CU_ASSERT_EQUAL(
	    index_reader_check(ix), 0); /* LMDB cleans the table when nobody had it open */
	index_close(&ix);
	clear_stage(st);
}

static int
hold_open(void *arg)
{
	struct stage *st = arg;
	struct index *ix = index_open(st->folder);
	struct digest d = scratch_digest(0);
	struct index_object o;

	MUST(ix != NULL && index_get_object(ix, &d, &o) == INDEX_MISS);
	atomic_fetch_add(&st->started, 1);
	while (!atomic_load(&st->go))
		scratch_jitter(1000);
	return index_reader_check(ix) >= 3 ? 0 : 1;
}

static void
slots_of_readers_that_died_beside_us_are_freed(void)
{
	struct stage *st = set_stage((size_t)64 << 30);
	pid_t holder = spawn_numbered(st, 0, hold_open);

	for (int i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(scratch_run(read_and_die, st), 0);
	atomic_store(&st->go, true);
	CU_ASSERT_EQUAL(scratch_reap(holder), 0);
	clear_stage(st);
}

/* More dead readers than there are slots: a look-up must still find one. */
static void
the_dead_do_not_use_up_the_reader_slots(void)
{
	struct stage *st = set_stage((size_t)64 << 30);
	pid_t holder = spawn_numbered(st, 0, hold_open);

	for (int i = 0; i < 600; i++)
		CU_ASSERT_EQUAL(scratch_run(read_and_die, st), 0);
	atomic_store(&st->go, true);
	CU_ASSERT_EQUAL(scratch_reap(holder), 0);
	clear_stage(st);
}

void
suite_index_race(void)
{
	CU_pSuite suite = CU_add_suite("index_race", NULL, NULL);

	CU_add_test(suite, "many may open it at once", many_may_open_it_at_once);
	CU_add_test(suite, "maps grow under one another", maps_grow_under_one_another);
	CU_add_test(suite, "after a kill anywhere the next writer goes on",
	    after_a_kill_anywhere_the_next_writer_goes_on);
	CU_add_test(suite, "slots of dead readers are freed", slots_of_dead_readers_are_freed);
	CU_add_test(suite, "slots of readers that died beside us are freed",
	    slots_of_readers_that_died_beside_us_are_freed);
	CU_add_test(suite, "the dead do not use up the reader slots",
	    the_dead_do_not_use_up_the_reader_slots);
}
