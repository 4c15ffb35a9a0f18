/* Which hosts of registries do not answer: known to every listener. One atomic word a host.
 *
 *   state   meaning                                    goes to
 *   up      no record, or some failures in a row       down: at the `after`th failure
 *   down    nobody asks before a certain time          probed: who asks first after it
 *   probed  one asks, the others are kept from it      up: an answer; down for about twice as long:
 *                                                      another failure; down: let go, or no word for
 *                                                      `hold_ms`
 */
#ifndef SHM_HEALTH_H
#define SHM_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

struct shm;

enum { HEALTH_KEY_BYTES = 16, HEALTH_FORGET_MS = 60000, HEALTH_MAX_FAULT = 15 };

struct health_rules {
	unsigned after;    /* failures in a row; 0: never down */
	uint64_t first_ms; /* how long the first time; doubles … */
	uint64_t most_ms;  /* … up to this; both ± a quarter */
	uint64_t hold_ms;  /* how long a probe is waited for */
};

enum health_state { HEALTH_UP, HEALTH_PROBE, HEALTH_DOWN };

struct health_view {
	unsigned failures; /* in a row, at most 255 */
	unsigned fault;    /* of the last one; the caller's number, up to HEALTH_MAX_FAULT */
	uint64_t wait_ms;  /* HEALTH_DOWN: until somebody may ask */
};

/* May the host be asked? HEALTH_PROBE: the caller alone may, and says what came of it by
 * shm_health_failed(), _answered() or _let_go(). `now` is clock_ms(). */
enum health_state shm_health_ask(const struct shm *s, const uint8_t key[HEALTH_KEY_BYTES],
    const struct health_rules *rules, uint64_t now, struct health_view *v);
/* The same without taking the probe: would it be kept from it? */
bool shm_health_is_down(
    const struct shm *s, const uint8_t key[HEALTH_KEY_BYTES], uint64_t now);
/* It did not answer. True: it is down from now on, and was not before; *v says for how long. Failures
 * more than HEALTH_FORGET_MS apart are not in a row. */
bool shm_health_failed(const struct shm *s, const uint8_t key[HEALTH_KEY_BYTES],
    const struct health_rules *rules, unsigned fault, bool probe, uint64_t now,
    struct health_view *v);
/* It did. True: it was down; *v says after how many failures. */
bool shm_health_answered(
    const struct shm *s, const uint8_t key[HEALTH_KEY_BYTES], struct health_view *v);
/* The probe was broken off by who asked. */
void shm_health_let_go(const struct shm *s, const uint8_t key[HEALTH_KEY_BYTES], uint64_t now);

#endif
