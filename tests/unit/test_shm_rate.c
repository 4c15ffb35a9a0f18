/* Rates of clients, and whose turn it is. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "log.h"
#include "shm.h"
#include "shm_rate.h"
#include "suites.h"
#include "turns.h"
#include "xalloc.h"

static const uint64_t second = 1000000;
static const struct shm_rate ten = {.per_second = 10, .burst = 5};

/* The last eight bytes choose the bucket. */
static const uint8_t *
key(uint64_t number, uint8_t out[SHM_RATE_KEY])
{
	memset(out, 0, SHM_RATE_KEY);
	memcpy(out, &number, sizeof(number));
	memcpy(out + 8, &number, sizeof(number));
	return out;
}

/* How many of `n` tries succeed. */
static unsigned
take(struct shm *s, uint64_t client, uint64_t now, unsigned n)
{
	uint8_t k[SHM_RATE_KEY];
	uint64_t wait;
	unsigned got = 0;

	for (unsigned i = 0; i < n; i++)
		got += shm_rate_take(s, RATE_REQUESTS, key(client, k), &ten, now, &wait);
	return got;
}

static void
a_client_has_its_burst_and_then_its_rate(void)
{
	struct shm *s = shm_create(1, 1);
	uint8_t k[SHM_RATE_KEY];
	uint64_t now = 1000 * second, wait;

	CU_ASSERT_EQUAL(take(s, 7, now, 20), 5);
	CU_ASSERT_FALSE(shm_rate_take(s, RATE_REQUESTS, key(7, k), &ten, now, &wait));
	CU_ASSERT_EQUAL(wait, second / 10);
	CU_ASSERT_EQUAL(take(s, 7, now + second / 10 - 1, 1), 0);
	CU_ASSERT_EQUAL(take(s, 7, now + second / 10, 3), 1);
	CU_ASSERT_EQUAL(take(s, 7, now + second, 20), 5); /* no more than the burst, however long */
	CU_ASSERT_EQUAL(take(s, 7, now + 3600 * second, 20), 5);
	CU_ASSERT_EQUAL(take(s, 8, now, 20), 5);
	shm_destroy(&s);
}

static void
the_kinds_are_counted_apart(void)
{
	struct shm *s = shm_create(1, 1);
	uint8_t k[SHM_RATE_KEY];
	uint64_t now = 1000 * second;

	CU_ASSERT_EQUAL(take(s, 7, now, 20), 5);
	CU_ASSERT_EQUAL(shm_rate_left(s, RATE_BYTES, key(7, k), &ten, now), 5);
	shm_destroy(&s);
}

static void
what_was_spent_beyond_is_paid_back(void)
{
	const struct shm_rate r = {.per_second = 1000, .burst = 100};
	struct shm *s = shm_create(1, 1);
	uint8_t k[SHM_RATE_KEY];
	uint64_t now = 1000 * second;

	key(3, k);
	CU_ASSERT_EQUAL(shm_rate_left(s, RATE_BYTES, k, &r, now), 100);
	shm_rate_spend(s, RATE_BYTES, k, &r, now, 60);
	CU_ASSERT_EQUAL(shm_rate_left(s, RATE_BYTES, k, &r, now), 40);
	CU_ASSERT_EQUAL(shm_rate_wait(s, RATE_BYTES, k, &r, now, 40), 0);
	CU_ASSERT_EQUAL(shm_rate_wait(s, RATE_BYTES, k, &r, now, 50), 10000);
	shm_rate_spend(s, RATE_BYTES, k, &r, now, 1000);
	CU_ASSERT_EQUAL(shm_rate_left(s, RATE_BYTES, k, &r, now), 0);
	CU_ASSERT_EQUAL(shm_rate_left(s, RATE_BYTES, k, &r, now + second), 40);
	CU_ASSERT_EQUAL(shm_rate_wait(s, RATE_BYTES, k, &r, now, 5000), 1060000); /* a whole burst */
	CU_ASSERT_EQUAL(shm_rate_left(s, RATE_BYTES, k, &r, now + 2 * second), 100);
	shm_destroy(&s);
}

static void
huge_rates_and_amounts_do_not_overflow(void)
{
	const struct shm_rate fast = {.per_second = UINT64_C(1000000000000000), .burst = UINT64_MAX / 2};
	const struct shm_rate slow = {.per_second = 1, .burst = 1};
	struct shm *s = shm_create(1, 1);
	uint8_t k[SHM_RATE_KEY];
	uint64_t now = 1000 * second, wait;

	key(3, k);
	shm_rate_spend(s, RATE_BYTES, k, &fast, now, UINT64_C(1) << 40);
	CU_ASSERT(shm_rate_left(s, RATE_BYTES, k, &fast, now) > 0);
	shm_rate_spend(s, RATE_BYTES, k, &slow, now, UINT64_C(1) << 40);
	CU_ASSERT_EQUAL(shm_rate_left(s, RATE_BYTES, k, &slow, now), 0);
	CU_ASSERT_FALSE(shm_rate_take(s, RATE_BYTES, k, &slow, now, &wait));
	CU_ASSERT(wait > 0);
	shm_destroy(&s);
}

/* A client that is over its rate stays so while very many others, each asking once, come by. */
static void
a_flood_of_clients_frees_none_that_asks_too_much(void)
{
	struct shm *s = shm_create(1, 1);
	uint64_t now = 1000 * second;

	CU_ASSERT_EQUAL(take(s, 7, now, 20), 5);
	for (uint64_t other = 100; other < 200000; other++)
		CU_ASSERT_EQUAL_FATAL(take(s, other, now, 1), 1);
	CU_ASSERT_EQUAL(take(s, 7, now, 20), 0);
	shm_destroy(&s);
}

static void
processes_count_together(void)
{
	enum { CHILDREN = 4 };
	const struct shm_rate r = {.per_second = 1, .burst = 1000};
	struct shm *s = shm_create(CHILDREN, 1);
	uint64_t now = 1000 * second, wait;
	unsigned got = 0;
	uint8_t k[SHM_RATE_KEY];
	pid_t pids[CHILDREN];

	key(5, k);
	CU_ASSERT_TRUE(shm_rate_take(s, RATE_REQUESTS, k, &r, now, &wait)); /* it has its record */
	for (unsigned c = 0; c < CHILDREN; c++) {
		pids[c] = fork();
		if (pids[c] != 0)
			continue;
		for (unsigned i = 0; i < 1000; i++)
			if (shm_rate_take(s, RATE_REQUESTS, k, &r, now, &wait))
				shm_count(s, c, COUNT_REQUESTS, 1);
		_exit(0);
	}
	for (unsigned c = 0; c < CHILDREN; c++)
		CU_ASSERT_EQUAL(waitpid(pids[c], NULL, 0), pids[c]);
	got = (unsigned)shm_counter_sum(s, COUNT_REQUESTS);
	CU_ASSERT_EQUAL(got, 999);
	shm_destroy(&s);
}

/* --- turns ------------------------------------------------------------------------------------ */

static void
who_was_served_longest_ago_is_next(void)
{
	struct turns *t = xcalloc(1, sizeof(*t));
	unsigned greedy = turns_client("192.0.2.1"), modest = turns_client("192.0.2.2");

	CU_ASSERT_NOT_EQUAL(greedy, modest);
	CU_ASSERT_EQUAL(turns_due(t, greedy, 100), 100);
	turns_served(t, greedy, 150);
	CU_ASSERT(turns_due(t, greedy, 100) > turns_due(t, modest, 140));
	CU_ASSERT(turns_due(t, greedy, 100) < turns_due(t, modest, 160));
	turns_served(t, modest, 170);
	CU_ASSERT(turns_due(t, greedy, 100) < turns_due(t, modest, 160));
	CU_ASSERT_EQUAL(turns_client("2001:db8:1:2::1"), turns_client("2001:db8:1:2:9::"));
	free(t);
}

void
suite_shm_rate(void)
{
	CU_pSuite suite = CU_add_suite("shm_rate", NULL, NULL);

	CU_add_test(suite, "a client has its burst and then its rate",
	    a_client_has_its_burst_and_then_its_rate);
	CU_add_test(suite, "the kinds are counted apart", the_kinds_are_counted_apart);
	CU_add_test(
	    suite, "what was spent beyond is paid back", what_was_spent_beyond_is_paid_back);
	CU_add_test(suite, "huge rates and amounts do not overflow",
	    huge_rates_and_amounts_do_not_overflow);
	CU_add_test(suite, "a flood of clients frees none that asks too much",
	    a_flood_of_clients_frees_none_that_asks_too_much);
	CU_add_test(suite, "processes count together", processes_count_together);
	CU_add_test(
	    suite, "who was served longest ago is next", who_was_served_longest_ago_is_next);
}
