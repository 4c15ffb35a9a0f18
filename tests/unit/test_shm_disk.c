/* The account of disk space: what a reservation is judged by, what its end leaves, and that many
 * processes at once never have more than the limit. */
#include <stdatomic.h>
#include <stdlib.h>

#include <CUnit/CUnit.h>

#include "clock.h"
#include "scratch.h"
#include "shm_disk.h"
#include "suites.h"

enum { KIB = 1024, MIB = 1024 * 1024, PROCESSES = 6, ROUNDS = 3000 };

static struct shm *
make(uint64_t limit)
{
	struct shm *s = shm_create(PROCESSES, 16);

	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	for (unsigned i = 0; i < PROCESSES; i++)
		shm_child_open(s, i);
	shm_disk_set_limits(s, limit, 0);
	shm_disk_set_known(s);
	return s;
}

static struct fill_ref
claim(struct shm *s, unsigned listener)
{
	struct digest d = scratch_digest(listener);
	struct fill_ref r;

	CU_ASSERT_TRUE_FATAL(shm_fill_claim(s, listener, &d, clock_ms(), &r));
	return r;
}

static struct shm_disk_use
use_of(const struct shm *s)
{
	struct shm_disk_use u;

	shm_disk_use(s, &u);
	return u;
}

static void
a_reservation_is_had_lacking_or_never(void)
{
	struct shm *s = make(10 * MIB);
	struct fill_ref a = claim(s, 0), b = claim(s, 1);

	CU_ASSERT_EQUAL(shm_disk_reserve(s, a, 6 * MIB, UINT64_MAX), ROOM_HAD);
	CU_ASSERT_EQUAL(shm_disk_reserve(s, b, 6 * MIB, UINT64_MAX), ROOM_LACKING);
	CU_ASSERT_EQUAL(shm_disk_reserved(s, b), 0);
	CU_ASSERT_TRUE(shm_disk_waited_for(s));
	CU_ASSERT_EQUAL(shm_disk_reserve(s, b, 11 * MIB, UINT64_MAX), ROOM_NEVER);
	CU_ASSERT_EQUAL(shm_disk_reserve(s, b, 4 * MIB, UINT64_MAX), ROOM_HAD);
	CU_ASSERT_FALSE(shm_disk_waited_for(s));
	CU_ASSERT_EQUAL(use_of(s).total, 10 * MIB);
	CU_ASSERT_EQUAL(shm_disk_reserve(s, b, 3 * MIB, UINT64_MAX), ROOM_HAD); /* never less */
	CU_ASSERT_EQUAL(shm_disk_reserved(s, b), 4 * MIB);
	shm_fill_end(s, a, FILL_FAILED);
	CU_ASSERT_EQUAL(shm_disk_reserve(s, a, KIB, UINT64_MAX), ROOM_NEVER); /* it is over */
	CU_ASSERT_EQUAL(use_of(s).total, 4 * MIB);
	shm_destroy(&s);
}

static void
nothing_is_had_before_the_store_is_counted(void)
{
	struct shm *s = shm_create(1, 4);
	struct fill_ref r;

	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	shm_child_open(s, 0);
	r = claim(s, 0);
	CU_ASSERT_EQUAL(shm_disk_reserve(s, r, MIB, UINT64_MAX), ROOM_HAD); /* no limit */
	shm_disk_set_limits(s, 10 * MIB, 0);
	CU_ASSERT_EQUAL(shm_disk_reserve(s, r, 2 * MIB, UINT64_MAX), ROOM_LACKING);
	CU_ASSERT_EQUAL(shm_disk_excess(s, UINT64_MAX, false), 0);
	shm_disk_set_known(s);
	CU_ASSERT_EQUAL(shm_disk_reserve(s, r, 2 * MIB, UINT64_MAX), ROOM_HAD);
	shm_destroy(&s);
}

static void
a_dead_owners_reservation_is_adrift_until_it_is_counted(void)
{
	struct shm *s = make(10 * MIB);
	struct fill_ref r = claim(s, 0), other = claim(s, 1);

	CU_ASSERT_EQUAL(shm_disk_reserve(s, r, 6 * MIB, UINT64_MAX), ROOM_HAD);
	shm_child_closed(s, 0);
	CU_ASSERT_EQUAL(use_of(s).reserved, 0);
	CU_ASSERT_EQUAL(use_of(s).adrift, 6 * MIB);
	CU_ASSERT_EQUAL(shm_disk_reserve(s, other, 6 * MIB, UINT64_MAX), ROOM_LACKING);
	CU_ASSERT_FALSE(shm_disk_set_adrift(s, 5 * MIB, 0)); /* it was not that */
	CU_ASSERT_TRUE(shm_disk_set_adrift(s, 6 * MIB, MIB));
	CU_ASSERT_EQUAL(shm_disk_reserve(s, other, 6 * MIB, UINT64_MAX), ROOM_HAD);
	shm_destroy(&s);
}

static void
a_bucket_is_set_only_if_nobody_changed_it(void)
{
	struct shm *s = make(0);
	struct digest d = scratch_digest(7);
	uint64_t seen = shm_disk_bucket(s, d.bytes[0], 0);

	shm_disk_add(s, &d, 0, 5000);
	shm_disk_add(s, &d, 1, 100);
	CU_ASSERT_FALSE(shm_disk_set_bucket(s, d.bytes[0], 0, seen, 3, 3));
	CU_ASSERT_EQUAL(use_of(s).objects[0], 1);
	CU_ASSERT_EQUAL(use_of(s).bytes[0], 5120); /* blocks of 512 */
	CU_ASSERT_EQUAL(use_of(s).bytes[1], 512);
	shm_disk_remove(s, &d, 0, 9000); /* more than there is */
	shm_disk_remove(s, &d, 0, 9000);
	CU_ASSERT_EQUAL(use_of(s).objects[0], 0);
	CU_ASSERT_EQUAL(use_of(s).total, 512);
	shm_destroy(&s);
}

static void
gc_is_told_how_much_to_evict(void)
{
	struct shm *s = make(100 * MIB);
	struct digest d = scratch_digest(1);
	struct fill_ref a = claim(s, 0), b = claim(s, 1);

	shm_disk_add(s, &d, 0, 98 * MIB);
	CU_ASSERT_EQUAL(shm_disk_excess(s, UINT64_MAX, false), 0);
	CU_ASSERT_TRUE(shm_disk_excess(s, UINT64_MAX, true) >= 3 * MIB); /* down to 95 % */
	CU_ASSERT_EQUAL(shm_disk_reserve(s, a, 10 * MIB, UINT64_MAX), ROOM_LACKING);
	CU_ASSERT_EQUAL(shm_disk_excess(s, UINT64_MAX, false), 8 * MIB);
	CU_ASSERT_EQUAL(shm_disk_reserve(s, b, 95 * MIB, UINT64_MAX), ROOM_LACKING);
	/* both cannot be had, whatever is evicted: that one waits for the first */
	CU_ASSERT_EQUAL(shm_disk_excess(s, UINT64_MAX, false), 8 * MIB);
	shm_disk_unwait(s, a);
	CU_ASSERT_EQUAL(shm_disk_excess(s, UINT64_MAX, false), 93 * MIB);
	shm_destroy(&s);
}

static void
free_space_counts_what_is_still_to_be_taken(void)
{
	struct shm *s = make(0);
	struct fill_ref a = claim(s, 0), b = claim(s, 1);

	shm_disk_set_limits(s, 0, 10 * MIB);
	CU_ASSERT_EQUAL(shm_disk_reserve(s, a, 6 * MIB, 20 * MIB), ROOM_HAD);
	CU_ASSERT_EQUAL(shm_disk_reserve(s, b, 6 * MIB, 20 * MIB), ROOM_LACKING);
	shm_fill_progress(s, a, 2 * MIB);
	CU_ASSERT_EQUAL(shm_disk_reserve(s, b, 6 * MIB, 20 * MIB), ROOM_HAD);
	shm_disk_allocated(s, a);
	CU_ASSERT_EQUAL(shm_disk_excess(s, 16 * MIB, false), 0);
	CU_ASSERT_EQUAL(shm_disk_excess(s, 15 * MIB, false), MIB);
	shm_destroy(&s);
}

static void
the_file_system_is_a_limit_of_its_own(void)
{
	struct shm *s = make(0);
	struct fill_ref a = claim(s, 0);
	struct digest d = {.algo = DIGEST_SHA256};

	shm_disk_set_limits(s, 0, 0);
	shm_disk_set_known(s);
	shm_disk_add(s, &d, 0, 10 * MIB);
	CU_ASSERT_EQUAL(shm_disk_excess(s, 0, false), 0); /* nobody needs room */
	CU_ASSERT_EQUAL(shm_disk_reserve(s, a, 4 * MIB, 4 * MIB), ROOM_LACKING); /* 1 MiB stays */
	CU_ASSERT_EQUAL(shm_disk_excess(s, 4 * MIB, false), MIB);
	CU_ASSERT_EQUAL(shm_disk_reserve(s, a, 13 * MIB + 1, 4 * MIB), ROOM_NEVER);
	CU_ASSERT_EQUAL(shm_disk_reserve(s, a, 13 * MIB, 4 * MIB), ROOM_LACKING);
	CU_ASSERT_EQUAL(shm_disk_excess(s, 4 * MIB, false), 10 * MIB);
	CU_ASSERT_EQUAL(shm_disk_excess(s, 3 * MIB, false), 0); /* it cannot have room any more */
	CU_ASSERT_EQUAL(shm_disk_reserve(s, a, 4 * MIB, 5 * MIB), ROOM_HAD);
	CU_ASSERT_EQUAL(shm_disk_excess(s, 5 * MIB, true), 0);
	shm_destroy(&s);
}

/* --- many at once ---------------------------------------------------------------------------- */

struct hammer {
	struct shm *shm;
	_Atomic uint64_t held; /* bytes that the processes have reserved, as they count */
	_Atomic unsigned next, had;
};

static uint64_t hammer_limit = 4 * MIB;

static int
reserve_and_give_back(void *arg)
{
	struct hammer *h = arg;
	unsigned me = atomic_fetch_add(&h->next, 1);

	srandom(me);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t bytes = (1 + (uint64_t)random() % 256) * 8 * KIB, now;
		struct digest d = scratch_digest(me);
		struct fill_ref r;

		MUST(shm_fill_claim(h->shm, me, &d, clock_ms(), &r));
		if (shm_disk_reserve(h->shm, r, bytes, UINT64_MAX) == ROOM_HAD) {
			now = atomic_fetch_add(&h->held, bytes) + bytes;
			MUST(now <= hammer_limit);
			atomic_fetch_add(&h->had, 1);
			scratch_jitter(20);
			atomic_fetch_sub(&h->held, bytes);
		}
		shm_fill_end(h->shm, r, FILL_FAILED);
	}
	return 0;
}

static void
many_processes_never_have_more_than_the_limit(void)
{
	struct hammer *h = scratch_shared(sizeof(*h));
	pid_t pids[PROCESSES];

	h->shm = make(hammer_limit);
	for (unsigned i = 0; i < PROCESSES; i++)
		pids[i] = scratch_spawn(reserve_and_give_back, h);
	for (unsigned i = 0; i < PROCESSES; i++)
		CU_ASSERT_EQUAL(scratch_reap(pids[i]), 0);
	CU_ASSERT_TRUE(h->had > ROUNDS);
	CU_ASSERT_EQUAL(use_of(h->shm).total, 0);
	shm_destroy(&h->shm);
	scratch_unshare(h, sizeof(*h));
}

static CU_TestInfo tests[] = {
    {"a reservation is had, lacking or never", a_reservation_is_had_lacking_or_never},
    {"nothing is had before the store is counted", nothing_is_had_before_the_store_is_counted},
    {"a dead owner's reservation is adrift until it is counted",
	a_dead_owners_reservation_is_adrift_until_it_is_counted},
    {"a bucket is set only if nobody changed it", a_bucket_is_set_only_if_nobody_changed_it},
    {"gc is told how much to evict", gc_is_told_how_much_to_evict},
    {"free space counts what is still to be taken", free_space_counts_what_is_still_to_be_taken},
    {"the file system is a limit of its own", the_file_system_is_a_limit_of_its_own},
    {"many processes never have more than the limit", many_processes_never_have_more_than_the_limit},
};

void
suite_shm_disk(void)
{
	CU_pSuite suite = CU_add_suite("shm_disk_race", NULL, NULL);

	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		CU_add_test(suite, tests[i].pName, tests[i].pTestFunc);
}
