/* Limits that registries have set (429) for a credential: known to every listener, so that who asks
 * again too early is answered here. Who may be asked about what a key stands for is the caller's.
 *
 * A record:  none    -> until T, by shm_breaker_open()
 *            until T -> when T has passed, one asker is told BREAKER_PROBE and the others wait for
 *                       what it finds: closed, open again, or nothing for BREAKER_PROBE_MS: the next
 *            it is forgotten when nobody has asked for BREAKER_STALE_MS after T */
#ifndef SHM_BREAKER_H
#define SHM_BREAKER_H

#include <stdint.h>

struct shm;

enum {
	BREAKER_KEY_BYTES = 16,
	BREAKER_TEXT_SIZE = 352,   /* with its NUL */
	BREAKER_PROBE_MS = 2000,
	BREAKER_STALE_MS = 30000,
};

enum breaker_state {
	BREAKER_CLOSED, /* go on */
	BREAKER_PROBE,  /* go on, and say by shm_breaker_open() or _close() what came of it */
	BREAKER_OPEN,   /* not now: *wait_ms says how long, `text` is what was said with it */
};

/* `now` is clock_ms(). */
enum breaker_state shm_breaker_ask(const struct shm *s, const uint8_t key[BREAKER_KEY_BYTES],
    uint64_t now, uint64_t *wait_ms, char text[BREAKER_TEXT_SIZE]);
/* Until `until` (clock_ms). `text` is the caller's; what is longer than there is room for is cut. */
void shm_breaker_open(const struct shm *s, const uint8_t key[BREAKER_KEY_BYTES], uint64_t until,
    const char *text);
void shm_breaker_close(const struct shm *s, const uint8_t key[BREAKER_KEY_BYTES]);

#endif
