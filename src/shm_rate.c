/* Rates of clients, in tables of the shared segment. The stamp of a record is a time in microseconds. */
#include "shm_rate.h"

#include "shm_private.h"

enum { TRIES = 16 }; /* others write the same record, a few times at most */

static const uint64_t second = 1000000; /* in microseconds */

_Static_assert((int)SHM_RATE_KEY == (int)SHM_KEY_BYTES, "a client is a key of the table");

static struct shm_table
table_of(const struct shm *s, enum shm_rate_kind kind)
{
	return (struct shm_table){s->seg->rates[kind], SHM_RATE_BUCKETS, 0};
}

/* What `n` take, in microseconds, rounded up. Neither overflows: a rate is at least 1, and `n` is no
 * more than what fits into a burst or a turn of the loop. */
static uint64_t
time_of(const struct shm_rate *r, uint64_t n)
{
	return n > UINT64_MAX / second ? UINT64_MAX / 4
				       : (n * second + r->per_second - 1) / r->per_second;
}

static uint64_t
later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Until when what it had reaches; a record that is not there, or ends in the past, is one of now. */
static uint64_t
reach_of(const struct shm_table *t, const uint8_t *key, uint64_t now, uint64_t *stamp)
{
	if (!shm_table_get(t, key, stamp, NULL))
		*stamp = 0;
	return later(*stamp, now);
}

/* False: somebody else has moved it meanwhile. */
static bool
set_reach(const struct shm_table *t, const uint8_t *key, uint64_t stamp, uint64_t reach)
{
	if (stamp != 0)
		return shm_table_move(t, key, stamp, reach);
	shm_table_put(t, key, reach, NULL);
	return true;
}

bool
shm_rate_take(const struct shm *s, enum shm_rate_kind kind, const uint8_t key[SHM_RATE_KEY],
    const struct shm_rate *r, uint64_t now_us, uint64_t *wait_us)
{
	const struct shm_table t = table_of(s, kind);
	uint64_t one = time_of(r, 1), most = now_us + time_of(r, r->burst), stamp;

	for (int i = 0; i < TRIES; i++) {
		uint64_t reach = reach_of(&t, key, now_us, &stamp) + one;

		*wait_us = reach > most ? reach - most : 0;
		if (*wait_us > 0)
			return false;
		if (set_reach(&t, key, stamp, reach))
			return true;
	}
	return true;
}

uint64_t
shm_rate_left(const struct shm *s, enum shm_rate_kind kind, const uint8_t key[SHM_RATE_KEY],
    const struct shm_rate *r, uint64_t now_us)
{
	const struct shm_table t = table_of(s, kind);
	uint64_t stamp, ahead = reach_of(&t, key, now_us, &stamp) - now_us;
	uint64_t used = ahead > UINT64_MAX / r->per_second ? UINT64_MAX
							   : ahead * r->per_second / second;

	return used >= r->burst ? 0 : r->burst - used;
}

void
shm_rate_spend(const struct shm *s, enum shm_rate_kind kind, const uint8_t key[SHM_RATE_KEY],
    const struct shm_rate *r, uint64_t now_us, uint64_t n)
{
	const struct shm_table t = table_of(s, kind);
	uint64_t cost = time_of(r, n), stamp;

	for (int i = 0; i < TRIES; i++) {
		uint64_t reach = reach_of(&t, key, now_us, &stamp) + cost;

		if (set_reach(&t, key, stamp, reach))
			return;
	}
}

uint64_t
shm_rate_wait(const struct shm *s, enum shm_rate_kind kind, const uint8_t key[SHM_RATE_KEY],
    const struct shm_rate *r, uint64_t now_us, uint64_t n)
{
	const struct shm_table t = table_of(s, kind);
	uint64_t stamp, reach = reach_of(&t, key, now_us, &stamp);
	uint64_t most = now_us + time_of(r, r->burst - (n < r->burst ? n : r->burst));

	return reach > most ? reach - most : 0;
}
