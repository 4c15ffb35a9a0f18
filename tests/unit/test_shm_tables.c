/* The tables of the shared segment that are kept for a while: limits and health of registries, and what they allowed. Alone, and with
 * many processes that write and die at once. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "clock.h"
#include "scratch.h"
#include "secret.h"
#include "shm.h"
#include "shm_breaker.h"
#include "shm_grant.h"
#include "shm_health.h"
#include "suites.h"

static struct shm *shm;

static void
begin(void)
{
	shm = shm_create(2, 1);
	CU_ASSERT_PTR_NOT_NULL_FATAL(shm);
}

static void
end(void)
{
	shm_destroy(&shm);
}

/* Keys of one bucket when `n` differs only in its low part. */
static const uint8_t *
key(unsigned n)
{
	static uint8_t k[BREAKER_KEY_BYTES];

	memset(k, 0, sizeof(k));
	memcpy(k, &n, sizeof(n));
	return k;
}

static enum breaker_state
ask(unsigned n, uint64_t now, uint64_t *wait, char *text)
{
	return shm_breaker_ask(shm, key(n), now, wait, text);
}

static void
a_limit_holds_until_its_time_and_then_one_tries(void)
{
	char text[BREAKER_TEXT_SIZE];
	uint64_t wait;

	begin();
	CU_ASSERT_EQUAL(ask(1, 5000, &wait, text), BREAKER_CLOSED);
	shm_breaker_open(shm, key(1), 9000, "ratelimit-limit: 5\n");
	CU_ASSERT_EQUAL(ask(1, 5000, &wait, text), BREAKER_OPEN);
	CU_ASSERT_EQUAL(wait, 4000);
	CU_ASSERT_STRING_EQUAL(text, "ratelimit-limit: 5\n");
	CU_ASSERT_EQUAL(ask(2, 5000, &wait, text), BREAKER_CLOSED);
	CU_ASSERT_EQUAL(ask(1, 9000, &wait, text), BREAKER_PROBE);
	CU_ASSERT_EQUAL(ask(1, 9001, &wait, text), BREAKER_OPEN);
	CU_ASSERT_STRING_EQUAL(text, "ratelimit-limit: 5\n");
	/* who tried has not come back */
	CU_ASSERT_EQUAL(ask(1, 9000 + BREAKER_PROBE_MS, &wait, text), BREAKER_PROBE);
	shm_breaker_close(shm, key(1));
	CU_ASSERT_EQUAL(ask(1, 9002 + BREAKER_PROBE_MS, &wait, text), BREAKER_CLOSED);
	end();
}

static void
a_limit_that_nobody_asks_about_is_forgotten(void)
{
	char text[BREAKER_TEXT_SIZE];
	uint64_t wait;

	begin();
	shm_breaker_open(shm, key(1), 9000, "");
	CU_ASSERT_EQUAL(ask(1, 9001 + BREAKER_STALE_MS, &wait, text), BREAKER_CLOSED);
	CU_ASSERT_EQUAL(ask(1, 9001 + BREAKER_STALE_MS, &wait, text), BREAKER_CLOSED);
	end();
}

static void
a_text_that_is_too_long_is_cut(void)
{
	char text[BREAKER_TEXT_SIZE], long_text[2 * BREAKER_TEXT_SIZE];
	uint64_t wait;

	begin();
	memset(long_text, 'x', sizeof(long_text));
	long_text[sizeof(long_text) - 1] = '\0';
	shm_breaker_open(shm, key(1), 9000, long_text);
	CU_ASSERT_EQUAL(ask(1, 1, &wait, text), BREAKER_OPEN);
	CU_ASSERT_EQUAL(strlen(text), BREAKER_TEXT_SIZE - 1);
	end();
}

/* All these keys have one bucket: the newest are kept. */
static void
a_full_table_forgets_what_ends_first(void)
{
	char text[BREAKER_TEXT_SIZE];
	unsigned kept = 0;
	uint64_t wait;

	begin();
	for (unsigned i = 0; i < 100; i++)
		shm_breaker_open(shm, key(i), 1000 + i, "");
	for (unsigned i = 0; i < 100; i++)
		kept += ask(i, 1, &wait, text) == BREAKER_OPEN;
	CU_ASSERT_EQUAL(kept, 8);
	CU_ASSERT_EQUAL(ask(99, 1, &wait, text), BREAKER_OPEN);
	CU_ASSERT_EQUAL(ask(92, 1, &wait, text), BREAKER_OPEN);
	end();
}

static void
a_segment_has_a_key_of_its_own(void)
{
	uint8_t first[SECRET_BYTES], none[SECRET_BYTES] = {0};

	begin();
	memcpy(first, shm_key(shm), sizeof(first));
	CU_ASSERT_NOT_EQUAL(memcmp(first, none, sizeof(first)), 0);
	end();
	begin();
	CU_ASSERT_NOT_EQUAL(memcmp(first, shm_key(shm), sizeof(first)), 0);
	end();
}

/* --- a keyed hash ----------------------------------------------------------------------------- */

static void
mac(const uint8_t k[SECRET_BYTES], const char *a, const char *b, uint8_t out[SECRET_BYTES])
{
	struct secret *s = secret_new(k);
	const char *const words[] = {a, b};

	secret_mac(s, words, 2, out);
	secret_free(&s);
}

static void
a_keyed_hash_tells_texts_and_keys_apart(void)
{
	static const char *const pairs[][2] = {
	    {"ab", "c"}, {"a", "bc"}, {NULL, "abc"}, {"", "abc"}, {"abc", NULL}, {"abc", ""}};
	uint8_t k[SECRET_BYTES] = {1}, got[6][SECRET_BYTES], again[SECRET_BYTES];

	for (unsigned i = 0; i < 6; i++) {
		mac(k, pairs[i][0], pairs[i][1], got[i]);
		for (unsigned j = 0; j < i; j++)
			CU_ASSERT_NOT_EQUAL(memcmp(got[i], got[j], SECRET_BYTES), 0);
	}
	mac(k, "ab", "c", again);
	CU_ASSERT_EQUAL(memcmp(again, got[0], SECRET_BYTES), 0);
	k[0] = 2;
	mac(k, "ab", "c", again);
	CU_ASSERT_NOT_EQUAL(memcmp(again, got[0], SECRET_BYTES), 0);
}

/* --- many processes --------------------------------------------------------------------------- */

enum { WRITERS = 4, ROUNDS = 20000, KEYS = 12 };

struct crowd {
	struct shm *shm;
	_Atomic unsigned probes, downs, go;
	_Atomic uint64_t clock;
};

static uint8_t *
crowd_key(unsigned n, uint8_t k[BREAKER_KEY_BYTES])
{
	memset(k, 0, BREAKER_KEY_BYTES);
	k[0] = (uint8_t)n; /* all of one bucket */
	return k;
}

/* A text is wholly of the key that it was put under. */
static void
write_and_read(struct crowd *c, unsigned n)
{
	char text[BREAKER_TEXT_SIZE], wanted[BREAKER_TEXT_SIZE];
	uint8_t k[BREAKER_KEY_BYTES];
	uint64_t wait;

	memset(wanted, 'a' + (int)n, sizeof(wanted) - 1);
	wanted[sizeof(wanted) - 1] = '\0';
	crowd_key(n, k);
	shm_breaker_open(c->shm, k, 1000000 + (uint64_t)rand() % 1000, wanted);
	n = (unsigned)rand() % KEYS;
	crowd_key(n, k);
	if (shm_breaker_ask(c->shm, k, 1, &wait, text) == BREAKER_OPEN) {
		MUST(text[0] == 'a' + (int)n);
		MUST(strspn(text, (char[]){text[0], '\0'}) == BREAKER_TEXT_SIZE - 1);
	}
}

static int
write_and_read_often(void *arg)
{
	srand((unsigned)getpid());
	for (int i = 0; i < ROUNDS; i++)
		write_and_read(arg, (unsigned)rand() % KEYS);
	return 0;
}

static int
write_for_ever(void *arg)
{
	struct crowd *c = arg;

	srand((unsigned)getpid());
	while (atomic_load(&c->go) == 0)
		write_and_read(c, (unsigned)rand() % KEYS);
	return 1;
}

static struct crowd *
gather(void)
{
	struct crowd *c = scratch_shared(sizeof(*c));

	begin();
	c->shm = shm;
	return c;
}

static void
disperse(struct crowd *c)
{
	scratch_unshare(c, sizeof(*c));
	end();
}

static void
no_reader_sees_a_mixed_record(void)
{
	struct crowd *c = gather();
	pid_t pids[WRITERS];

	for (int i = 0; i < WRITERS; i++)
		pids[i] = scratch_spawn(write_and_read_often, c);
	for (int i = 0; i < WRITERS; i++)
		CU_ASSERT_EQUAL(scratch_reap(pids[i]), 0);
	disperse(c);
}

static void
a_writer_that_is_killed_closes_nothing_for_ever(void)
{
	struct crowd *c = gather();
	char text[BREAKER_TEXT_SIZE];
	uint8_t k[BREAKER_KEY_BYTES];
	uint64_t wait, deadline;

	for (int i = 0; i < 50; i++) {
		pid_t writer = scratch_spawn(write_for_ever, c);

		scratch_jitter(2000);
		scratch_kill(writer);
	}
	deadline = clock_ms() + 2000;
	do
		shm_breaker_open(shm, crowd_key(KEYS, k), 2000000, "new");
	while (shm_breaker_ask(shm, k, 1, &wait, text) != BREAKER_OPEN && clock_ms() < deadline);
	CU_ASSERT_STRING_EQUAL(text, "new");
	disperse(c);
}

static int
snatch_the_probe(void *arg)
{
	struct crowd *c = arg;
	char text[BREAKER_TEXT_SIZE];
	uint8_t k[BREAKER_KEY_BYTES];
	uint64_t wait;

	crowd_key(0, k);
	while (atomic_load(&c->go) == 0)
		;
	if (shm_breaker_ask(c->shm, k, 1000, &wait, text) == BREAKER_PROBE)
		atomic_fetch_add(&c->probes, 1);
	return 0;
}

static void
only_one_process_tries_when_a_limit_ends(void)
{
	for (unsigned round = scratch_rounds(50); round > 0; round--) {
		struct crowd *c = gather();
		pid_t pids[WRITERS];
		uint8_t k[BREAKER_KEY_BYTES];

		shm_breaker_open(shm, crowd_key(0, k), 1000, "");
		for (int i = 0; i < WRITERS; i++)
			pids[i] = scratch_spawn(snatch_the_probe, c);
		atomic_store(&c->go, 1);
		for (int i = 0; i < WRITERS; i++)
			CU_ASSERT_EQUAL(scratch_reap(pids[i]), 0);
		CU_ASSERT_EQUAL(atomic_load(&c->probes), 1);
		disperse(c);
	}
}

/* --- hosts that do not answer ----------------------------------------------------------------- */

enum { FAULT = 3, HOLD = 5000 };

static const struct health_rules rules = {
    .after = 3, .first_ms = 1000, .most_ms = 8000, .hold_ms = HOLD};

static bool
fail(uint64_t now, bool probe, struct health_view *v)
{
	return shm_health_failed(shm, key(1), &rules, FAULT, probe, now, v);
}

static enum health_state
ask_host(uint64_t now, struct health_view *v)
{
	return shm_health_ask(shm, key(1), &rules, now, v);
}

/* Makes the host down; returns until when. */
static uint64_t
make_down(uint64_t now)
{
	struct health_view v;

	CU_ASSERT_FALSE(fail(now, false, &v));
	CU_ASSERT_FALSE(fail(now, false, &v));
	CU_ASSERT_TRUE(fail(now, false, &v));
	CU_ASSERT_EQUAL(v.failures, 3);
	CU_ASSERT_TRUE(v.wait_ms >= 750 && v.wait_ms <= 1250);
	return now + v.wait_ms;
}

static void
failures_in_a_row_make_a_host_down_and_an_answer_up(void)
{
	struct health_view v;
	uint64_t until;

	begin();
	CU_ASSERT_EQUAL(ask_host(100, &v), HEALTH_UP);
	CU_ASSERT_FALSE(fail(100, false, &v));
	CU_ASSERT_FALSE(fail(100, false, &v));
	CU_ASSERT_EQUAL(ask_host(100, &v), HEALTH_UP);
	CU_ASSERT_FALSE(shm_health_answered(shm, key(1), &v)); /* it was not down */
	until = make_down(200);
	CU_ASSERT_EQUAL(ask_host(until - 1, &v), HEALTH_DOWN);
	CU_ASSERT_EQUAL(v.wait_ms, 1);
	CU_ASSERT_EQUAL(v.fault, FAULT);
	CU_ASSERT_TRUE(shm_health_is_down(shm, key(1), until - 1));
	CU_ASSERT_FALSE(shm_health_is_down(shm, key(2), until - 1));
	CU_ASSERT_FALSE(fail(until - 1, false, &v)); /* it had been asked before */
	CU_ASSERT_TRUE(shm_health_answered(shm, key(1), &v));
	CU_ASSERT_EQUAL(v.failures, 3);
	CU_ASSERT_EQUAL(ask_host(until - 1, &v), HEALTH_UP);
	end();
}

static void
failures_that_are_far_apart_are_not_in_a_row(void)
{
	struct health_view v;

	begin();
	for (unsigned i = 1; i < 20; i++)
		CU_ASSERT_FALSE(fail(i * (HEALTH_FORGET_MS + 2ULL), false, &v));
	end();
}

static void
one_probe_at_a_time_and_longer_and_longer_pauses(void)
{
	struct health_view v;
	uint64_t now, least = 750;

	begin();
	now = make_down(100);
	for (unsigned i = 0; i < 6; i++) {
		CU_ASSERT_EQUAL(ask_host(now, &v), HEALTH_PROBE);
		CU_ASSERT_EQUAL(ask_host(now, &v), HEALTH_DOWN);
		CU_ASSERT_EQUAL(ask_host(now + HOLD - 1, &v), HEALTH_DOWN);
		CU_ASSERT_FALSE(fail(now + 10, true, &v));
		least = least * 2 < 6000 ? least * 2 : 6000;
		CU_ASSERT_TRUE(v.wait_ms >= least && v.wait_ms <= least * 5 / 3 + 1);
		now += 10 + v.wait_ms;
	}
	/* one that does not come back, and one that is let go */
	CU_ASSERT_EQUAL(ask_host(now, &v), HEALTH_PROBE);
	CU_ASSERT_EQUAL(ask_host(now + HOLD, &v), HEALTH_PROBE);
	shm_health_let_go(shm, key(1), now + HOLD + 1);
	CU_ASSERT_EQUAL(ask_host(now + HOLD + 1, &v), HEALTH_PROBE);
	CU_ASSERT_TRUE(shm_health_answered(shm, key(1), &v));
	end();
}

static void
a_host_is_never_down_when_that_is_configured(void)
{
	static const struct health_rules never = {.after = 0, .first_ms = 1, .most_ms = 1};
	struct health_view v;

	begin();
	for (int i = 0; i < 300; i++)
		CU_ASSERT_FALSE(shm_health_failed(shm, key(1), &never, FAULT, false, 100, &v));
	CU_ASSERT_EQUAL(shm_health_ask(shm, key(1), &never, 100, &v), HEALTH_UP);
	end();
}

/* Of all failures one makes it down, of all askers one probes. */
static int
fail_and_probe(void *arg)
{
	struct crowd *c = arg;
	struct health_view v;
	uint8_t k[HEALTH_KEY_BYTES];

	crowd_key(1, k);
	while (atomic_load(&c->go) == 0)
		;
	for (int i = 0; i < 50; i++)
		if (shm_health_failed(c->shm, k, &rules, FAULT, false, 100, &v))
			atomic_fetch_add(&c->downs, 1);
	if (shm_health_ask(c->shm, k, &rules, 100000, &v) == HEALTH_PROBE)
		atomic_fetch_add(&c->probes, 1);
	return 0;
}

static void
one_process_finds_it_down_and_one_probes(void)
{
	for (unsigned round = scratch_rounds(50); round > 0; round--) {
		struct crowd *c = gather();
		pid_t pids[WRITERS];

		for (int i = 0; i < WRITERS; i++)
			pids[i] = scratch_spawn(fail_and_probe, c);
		atomic_store(&c->go, 1);
		for (int i = 0; i < WRITERS; i++)
			CU_ASSERT_EQUAL(scratch_reap(pids[i]), 0);
		CU_ASSERT_EQUAL(atomic_load(&c->downs), 1);
		CU_ASSERT_EQUAL(atomic_load(&c->probes), 1);
		disperse(c);
	}
}

/* --- grants ----------------------------------------------------------------------------------- */

static struct grant_key
grant_key(unsigned object, unsigned scope)
{
	struct grant_key k = {{0}, {0}};

	memcpy(k.object, &object, sizeof(object));
	memcpy(k.scope, &scope, sizeof(scope));
	return k;
}

static bool
granted(unsigned object, unsigned scope, uint64_t *at, unsigned as)
{
	const struct grant_key k = grant_key(object, scope);
	struct digest d, wanted = scratch_digest(as);

	return shm_grant_get(shm, &k, at, &d) && digest_equal(&d, &wanted);
}

static void
grant(unsigned object, unsigned scope, uint64_t at, unsigned as)
{
	const struct grant_key k = grant_key(object, scope);
	struct digest d = scratch_digest(as);

	shm_grant_put(shm, &k, at, &d);
}

static void
a_grant_is_what_was_allowed_last(void)
{
	uint64_t at;

	begin();
	CU_ASSERT_FALSE(granted(1, 100, &at, 7));
	grant(1, 100, 5000, 7);
	CU_ASSERT_TRUE(granted(1, 100, &at, 7));
	CU_ASSERT_EQUAL(at, 5000);
	grant(1, 100, 6000, 7);
	CU_ASSERT_TRUE(granted(1, 100, &at, 7));
	CU_ASSERT_EQUAL(at, 6000);
	grant(1, 100, 7000, 8);
	CU_ASSERT_TRUE(granted(1, 100, &at, 8));
	CU_ASSERT_FALSE(granted(2, 100, &at, 8));
	end();
}

static void
a_revocation_voids_what_was_granted_before(void)
{
	struct grant_key k = grant_key(1, 100);
	uint64_t at;

	begin();
	grant(1, 100, 5000, 7);
	grant(2, 100, 5000, 7);
	grant(3, 101, 5000, 7);
	shm_grant_revoke(shm, k.object, 5000);
	CU_ASSERT_FALSE(granted(1, 100, &at, 7));
	CU_ASSERT_TRUE(granted(2, 100, &at, 7));
	grant(1, 100, 5001, 7);
	CU_ASSERT_TRUE(granted(1, 100, &at, 7));
	shm_grant_revoke(shm, k.scope, 6000);
	shm_grant_revoke(shm, k.scope, 5500); /* told late */
	CU_ASSERT_FALSE(granted(1, 100, &at, 7));
	CU_ASSERT_FALSE(granted(2, 100, &at, 7));
	CU_ASSERT_TRUE(granted(3, 101, &at, 7));
	grant(2, 100, 6000, 7); /* its answer was on its way when the refusal came */
	CU_ASSERT_FALSE(granted(2, 100, &at, 7));
	end();
}

/* Whatever is evicted: no grant survives its revocation, and the table keeps to its size. */
static void
no_number_of_grants_brings_a_revoked_one_back(void)
{
	struct grant_key k = grant_key(1, 100);
	uint64_t at;
	unsigned kept = 0;

	begin();
	grant(1, 100, 1000, 7);
	shm_grant_revoke(shm, k.object, 1000);
	for (unsigned i = 2; i < 200000; i++)
		grant(i, 100, 1000 + i, i % 5);
	CU_ASSERT_FALSE(granted(1, 100, &at, 7));
	for (unsigned i = 2; i < 200000; i++)
		kept += granted(i, 100, &at, i % 5);
	CU_ASSERT_EQUAL(kept, 8); /* all of them have one bucket: the last ones are kept */
	end();
}

/* Grants and revocations with times that rise: what is seen as granted was granted after it. */
static int
grant_and_revoke(void *arg)
{
	struct crowd *c = arg;
	struct grant_key k = grant_key(1, 100);
	struct digest d, seen;
	uint64_t at;

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t now = atomic_fetch_add(&c->clock, 1) + 1;

		if (i % 3 == 0) {
			shm_grant_revoke(c->shm, k.object, now);
			MUST(!shm_grant_get(c->shm, &k, &at, &seen) || at > now);
			continue;
		}
		d = scratch_digest((unsigned)(now % 3));
		shm_grant_put(c->shm, &k, now, &d);
		if (shm_grant_get(c->shm, &k, &at, &seen))
			MUST(at <= atomic_load(&c->clock) && seen.len == d.len);
	}
	return 0;
}

static void
a_revocation_holds_among_many_writers(void)
{
	struct crowd *c = gather();
	pid_t pids[WRITERS];

	for (int i = 0; i < WRITERS; i++)
		pids[i] = scratch_spawn(grant_and_revoke, c);
	for (int i = 0; i < WRITERS; i++)
		CU_ASSERT_EQUAL(scratch_reap(pids[i]), 0);
	disperse(c);
}

static CU_TestInfo tests[] = {
    {"a limit holds until its time and then one tries",
	a_limit_holds_until_its_time_and_then_one_tries},
    {"a limit that nobody asks about is forgotten", a_limit_that_nobody_asks_about_is_forgotten},
    {"a text that is too long is cut", a_text_that_is_too_long_is_cut},
    {"a full table forgets what ends first", a_full_table_forgets_what_ends_first},
    {"a segment has a key of its own", a_segment_has_a_key_of_its_own},
    {"a keyed hash tells texts and keys apart", a_keyed_hash_tells_texts_and_keys_apart},
    {"no reader sees a mixed record", no_reader_sees_a_mixed_record},
    {"a writer that is killed closes nothing for ever",
	a_writer_that_is_killed_closes_nothing_for_ever},
    {"only one process tries when a limit ends", only_one_process_tries_when_a_limit_ends},
    {"failures in a row make a host down and an answer up",
	failures_in_a_row_make_a_host_down_and_an_answer_up},
    {"failures that are far apart are not in a row", failures_that_are_far_apart_are_not_in_a_row},
    {"one probe at a time and longer and longer pauses",
	one_probe_at_a_time_and_longer_and_longer_pauses},
    {"a host is never down when that is configured", a_host_is_never_down_when_that_is_configured},
    {"a grant is what was allowed last", a_grant_is_what_was_allowed_last},
    {"a revocation voids what was granted before", a_revocation_voids_what_was_granted_before},
    {"no number of grants brings a revoked one back",
	no_number_of_grants_brings_a_revoked_one_back},
    {"a revocation holds among many writers", a_revocation_holds_among_many_writers},
    {"one process finds it down and one probes", one_process_finds_it_down_and_one_probes},
};

void
suite_shm_tables(void)
{
	CU_pSuite suite = CU_add_suite("shm_tables", NULL, NULL);

	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		CU_add_test(suite, tests[i].pName, tests[i].pTestFunc);
}
