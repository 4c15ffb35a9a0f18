/* Keys of session tickets: rotation, and reading while they are overwritten. */
#include <string.h>

#include <CUnit/CUnit.h>

#include "clock.h"
#include "shm.h"
#include "shm_tickets.h"
#include "suites.h"

static struct shm_ticket_key
key_of_age(const struct shm *s, unsigned age)
{
	struct shm_ticket_key key;

	CU_ASSERT_TRUE_FATAL(shm_ticket_key(s, age, &key));
	return key;
}

static bool
same(const struct shm_ticket_key *a, const struct shm_ticket_key *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static void
a_new_segment_has_one_key(void)
{
	struct shm *s = shm_create(2, 2), *other = shm_create(2, 2);
	struct shm_ticket_key a, b;

	a = key_of_age(s, 0);
	b = key_of_age(other, 0);
	CU_ASSERT_FALSE(same(&a, &b));
	CU_ASSERT_FALSE(shm_ticket_key(s, 1, &a));
	CU_ASSERT_FALSE(shm_ticket_key(s, SHM_TICKET_KEYS, &a));
	shm_destroy(&s);
	shm_destroy(&other);
}

static void
a_key_lives_for_two_periods_more(void)
{
	struct shm *s = shm_create(2, 2);
	struct shm_ticket_key first = key_of_age(s, 0), key;
	uint64_t now = clock_ms();

	CU_ASSERT_TRUE(shm_tickets_rotate(s, now + 999, 1000000));
	key = key_of_age(s, 0);
	CU_ASSERT_TRUE(same(&key, &first));
	for (unsigned i = 1; i < SHM_TICKET_KEYS; i++) {
		CU_ASSERT_TRUE(shm_tickets_rotate(s, now += 1000001, 1000000));
		key = key_of_age(s, 0);
		CU_ASSERT_FALSE(same(&key, &first));
		key = key_of_age(s, i);
		CU_ASSERT_TRUE(same(&key, &first));
	}
	CU_ASSERT_TRUE(shm_tickets_rotate(s, now + 1000001, 1000000));
	for (unsigned i = 0; i < SHM_TICKET_KEYS; i++) {
		key = key_of_age(s, i);
		CU_ASSERT_FALSE(same(&key, &first));
	}
	CU_ASSERT_FALSE(shm_ticket_key(s, SHM_TICKET_KEYS, &key));
	shm_destroy(&s);
}

void
suite_shm_tickets(void)
{
	CU_pSuite suite = CU_add_suite("shm_tickets", NULL, NULL);

	CU_add_test(suite, "a new segment has one key", a_new_segment_has_one_key);
	CU_add_test(suite, "a key lives for two periods more", a_key_lives_for_two_periods_more);
}
