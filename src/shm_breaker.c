/* Limits that registries have set, in a table of the shared segment. The stamp of a record is the
 * time until which it holds. */
#include "shm_breaker.h"

#include <string.h>

#include "shm_private.h"

_Static_assert(BREAKER_TEXT_SIZE == 8 * SHM_BREAKER_WORDS, "a text fills its words");

static struct shm_table
table_of(const struct shm *s)
{
	return (struct shm_table){s->seg->breakers, SHM_BREAKER_BUCKETS, SHM_BREAKER_WORDS};
}

enum breaker_state
shm_breaker_ask(const struct shm *s, const uint8_t key[BREAKER_KEY_BYTES], uint64_t now,
    uint64_t *wait_ms, char text[BREAKER_TEXT_SIZE])
{
	const struct shm_table t = table_of(s);
	uint64_t words[SHM_BREAKER_WORDS], until;

	*wait_ms = 0;
	if (!shm_table_get(&t, key, &until, words) || now > until + BREAKER_STALE_MS)
		return BREAKER_CLOSED;
	if (now >= until) {
		if (shm_table_move(&t, key, until, now + BREAKER_PROBE_MS))
			return BREAKER_PROBE;
		if (!shm_table_get(&t, key, &until, words) || now >= until)
			return BREAKER_CLOSED;
	}
	*wait_ms = until - now;
	memcpy(text, words, BREAKER_TEXT_SIZE);
	text[BREAKER_TEXT_SIZE - 1] = '\0';
	return BREAKER_OPEN;
}

void
shm_breaker_open(const struct shm *s, const uint8_t key[BREAKER_KEY_BYTES], uint64_t until,
    const char *text)
{
	const struct shm_table t = table_of(s);
	uint64_t words[SHM_BREAKER_WORDS] = {0};
	size_t n = strnlen(text, BREAKER_TEXT_SIZE - 1);

	memcpy(words, text, n);
	shm_table_put(&t, key, until, words);
}

void
shm_breaker_close(const struct shm *s, const uint8_t key[BREAKER_KEY_BYTES])
{
	const struct shm_table t = table_of(s);
	uint64_t until;

	if (shm_table_get(&t, key, &until, NULL)) /* opened anew meanwhile: it stays so */
		shm_table_move(&t, key, until, 0);
}
