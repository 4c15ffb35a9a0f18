/* A bounded table of records in shared memory. Atomics are seq_cst. */
#include "shm_table.h"

#include <sched.h>
#include <string.h>

#include "clock.h"

enum { KEY_0, KEY_1, SUM, STAMP, PAYLOAD, LATCH_SPINS = 64 };

typedef _Atomic uint64_t word;

static uint64_t
key_word(const uint8_t key[SHM_KEY_BYTES], unsigned n)
{
	uint64_t w;

	memcpy(&w, key + 8 * (size_t)n, sizeof(w));
	return w;
}

/* Of the key's bucket: its latch, which its records follow. */
static word *
bucket_of(const struct shm_table *t, const uint8_t key[SHM_KEY_BYTES])
{
	size_t size = 1 + SHM_TABLE_WAYS * (size_t)SHM_TABLE_RECORD(t->payload);

	return t->at + (key_word(key, 1) & (t->buckets - 1)) * size;
}

static word *
record_of(const struct shm_table *t, word *bucket, unsigned way)
{
	return bucket + 1 + way * (size_t)SHM_TABLE_RECORD(t->payload);
}

/* FNV-1a by words, with a shift that lets high bits count. Never what zeroes have. */
static uint64_t
sum_of(const struct shm_table *t, const uint8_t key[SHM_KEY_BYTES], const uint64_t *payload)
{
	uint64_t h = 14695981039346656037u;

	for (unsigned i = 0; i < 2 + t->payload; i++) {
		h ^= i < 2 ? key_word(key, i) : payload[i - 2];
		h *= 1099511628211u;
		h ^= h >> 29;
	}
	return h | 1;
}

static bool
has_key(const word *r, const uint8_t key[SHM_KEY_BYTES])
{
	return atomic_load(&r[STAMP]) != 0 && atomic_load(&r[KEY_0]) == key_word(key, 0) &&
	    atomic_load(&r[KEY_1]) == key_word(key, 1);
}

static bool
read_record(const struct shm_table *t, const word *r, const uint8_t key[SHM_KEY_BYTES],
    uint64_t *payload)
{
	uint64_t own[t->payload + 1], *to = payload != NULL ? payload : own;
	uint64_t sum = atomic_load(&r[SUM]);

	for (unsigned i = 0; i < t->payload; i++)
		to[i] = atomic_load(&r[PAYLOAD + i]);
	return sum == sum_of(t, key, to);
}

bool
shm_table_get(const struct shm_table *t, const uint8_t key[SHM_KEY_BYTES], uint64_t *stamp,
    uint64_t *payload)
{
	word *bucket = bucket_of(t, key);

	for (unsigned i = 0; i < SHM_TABLE_WAYS; i++) {
		word *r = record_of(t, bucket, i);

		if (!has_key(r, key) || !read_record(t, r, key, payload))
			continue;
		*stamp = atomic_load(&r[STAMP]);
		return *stamp != 0 && has_key(r, key);
	}
	return false;
}

bool
shm_table_move(
    const struct shm_table *t, const uint8_t key[SHM_KEY_BYTES], uint64_t from, uint64_t to)
{
	word *bucket = bucket_of(t, key);

	for (unsigned i = 0; i < SHM_TABLE_WAYS; i++) {
		word *r = record_of(t, bucket, i);

		if (has_key(r, key) && read_record(t, r, key, NULL))
			return atomic_compare_exchange_strong(&r[STAMP], &from, to);
	}
	return false;
}

/* False: somebody else writes there all the time; what is not put is not there, which is allowed. */
static bool
take_latch(word *latch, uint64_t now)
{
	for (int i = 0; i < LATCH_SPINS; i++) {
		uint64_t held = 0;

		if (atomic_compare_exchange_strong(latch, &held, now))
			return true;
		if (now > held + SHM_LATCH_MS && atomic_compare_exchange_strong(latch, &held, now))
			return true;
		sched_yield();
	}
	return false;
}

static word *
place_for(const struct shm_table *t, word *bucket, const uint8_t key[SHM_KEY_BYTES])
{
	word *best = record_of(t, bucket, 0);

	for (unsigned i = 0; i < SHM_TABLE_WAYS; i++) {
		word *r = record_of(t, bucket, i);

		if (has_key(r, key))
			return r;
		if (atomic_load(&r[STAMP]) < atomic_load(&best[STAMP]))
			best = r;
	}
	return best;
}

static bool
write_record(const struct shm_table *t, const uint8_t key[SHM_KEY_BYTES], uint64_t stamp,
    const uint64_t *payload, bool only_new)
{
	word *bucket = bucket_of(t, key), *r;
	uint64_t now = clock_ms();
	bool wanted;

	if (!take_latch(bucket, now))
		return false;
	r = place_for(t, bucket, key);
	wanted = !only_new || !has_key(r, key) || !read_record(t, r, key, NULL);
	if (wanted) {
		atomic_store(&r[SUM], 0);
		atomic_store(&r[KEY_0], key_word(key, 0));
		atomic_store(&r[KEY_1], key_word(key, 1));
		for (unsigned i = 0; i < t->payload; i++)
			atomic_store(&r[PAYLOAD + i], payload[i]);
		atomic_store(&r[STAMP], stamp);
		atomic_store(&r[SUM], sum_of(t, key, payload));
	}
	atomic_compare_exchange_strong(bucket, &now, 0); /* unless it was broken open */
	return wanted;
}

void
shm_table_put(const struct shm_table *t, const uint8_t key[SHM_KEY_BYTES], uint64_t stamp,
    const uint64_t *payload)
{
	(void)write_record(t, key, stamp, payload, false);
}

bool
shm_table_add(const struct shm_table *t, const uint8_t key[SHM_KEY_BYTES], uint64_t stamp,
    const uint64_t *payload)
{
	return write_record(t, key, stamp, payload, true);
}
