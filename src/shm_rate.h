/* Rates of clients, for all listeners: how many requests one may begin, and how many bytes it is sent.
 * A client is a key of 16 bytes; what it stands for is the caller's.
 *
 * One word a client says until when what it had is spread out at its rate (the "theoretical arrival time" of the generic
 * cell rate algorithm); it is moved by one atomic exchange. The tables are bounded: where a bucket is
 * full, the client whose word is the oldest is forgotten, which is the one that had least. */
#ifndef SHM_RATE_H
#define SHM_RATE_H

#include <stdbool.h>
#include <stdint.h>

struct shm;

enum { SHM_RATE_KEY = 16 };

enum shm_rate_kind { RATE_REQUESTS, RATE_BYTES, RATE_KINDS };

struct shm_rate {
	uint64_t per_second; /* at least 1 */
	uint64_t burst;      /* how many at once, after a pause; at least 1 */
};

/* Takes one. False: not now; *wait_us is when there is one again. `now_us` is clock_us(). */
bool shm_rate_take(const struct shm *s, enum shm_rate_kind kind, const uint8_t key[SHM_RATE_KEY],
    const struct shm_rate *r, uint64_t now_us, uint64_t *wait_us) __attribute__((warn_unused_result));
/* How many there are now. */
uint64_t shm_rate_left(const struct shm *s, enum shm_rate_kind kind,
    const uint8_t key[SHM_RATE_KEY], const struct shm_rate *r, uint64_t now_us);
/* Takes `n`, whether they are there or not. */
void shm_rate_spend(const struct shm *s, enum shm_rate_kind kind, const uint8_t key[SHM_RATE_KEY],
    const struct shm_rate *r, uint64_t now_us, uint64_t n);
/* How long until there are `n` (up to the burst), in microseconds. */
uint64_t shm_rate_wait(const struct shm *s, enum shm_rate_kind kind,
    const uint8_t key[SHM_RATE_KEY], const struct shm_rate *r, uint64_t now_us, uint64_t n);

#endif
