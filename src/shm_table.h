/* A bounded table of records in shared memory: a key of 16 bytes, a stamp, and a payload of words.
 * For shm_*.c only.
 *
 * A key has SHM_TABLE_WAYS places; when they are taken, the record with the lowest stamp goes. A
 * writer holds its bucket's latch, for less than a microsecond; a latch that a dead process left
 * closed is broken open after SHM_LATCH_MS. Readers take no latch: a record carries a sum over key
 * and payload, and one whose sum is wrong (its writer is in the midst of it, or died there) is not
 * there. The stamp stands by itself, so that it can be moved by one atomic exchange. */
#ifndef SHM_TABLE_H
#define SHM_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHM_TABLE_WAYS = 8, SHM_LATCH_MS = 100, SHM_KEY_BYTES = 16 };

/* Words of the segment that a table needs: `payload` words a record. */
#define SHM_TABLE_RECORD(payload) (4 + (payload))
#define SHM_TABLE_SIZE(buckets, payload) \
	((size_t)(buckets) * (1 + SHM_TABLE_WAYS * SHM_TABLE_RECORD(payload)))

/* Where a table is. `at` is zeroed memory of SHM_TABLE_SIZE words. */
struct shm_table {
	_Atomic uint64_t *at;
	unsigned buckets, payload; /* a power of two; words */
};

/* False: there is no such record. `payload` may be NULL. */
bool shm_table_get(const struct shm_table *t, const uint8_t key[SHM_KEY_BYTES], uint64_t *stamp,
    uint64_t *payload) __attribute__((warn_unused_result));
/* Adds or replaces. The stamp is not 0. */
void shm_table_put(const struct shm_table *t, const uint8_t key[SHM_KEY_BYTES], uint64_t stamp,
    const uint64_t *payload);
/* The same, but leaves alone a record that is there. False: there is one, or it could not be added. */
bool shm_table_add(const struct shm_table *t, const uint8_t key[SHM_KEY_BYTES], uint64_t stamp,
    const uint64_t *payload) __attribute__((warn_unused_result));
/* Moves the stamp of a record, 0 removes it. False: it is not `from` (any more). */
bool shm_table_move(const struct shm_table *t, const uint8_t key[SHM_KEY_BYTES], uint64_t from,
    uint64_t to);

#endif
