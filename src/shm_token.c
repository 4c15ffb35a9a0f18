/* Tokens of registries, in tables of the shared segment: the tokens, whose stamp is when they expire, and the
 * claims, whose stamp is when they lapse. */
#include "shm_token.h"

#include <string.h>

#include "shm_private.h"

/* A token's payload: what it is, when to renew it, its text. A claim's: whose. */
enum { KIND, RENEW, TEXT, KIND_TOKEN = 1, KIND_REFUSED = 2 };
enum { LISTENER, GENERATION };

_Static_assert(SHM_TOKEN_SIZE == 8 * (SHM_TOKEN_WORDS - TEXT), "a token fills its words");

static struct shm_table
tokens_of(const struct shm *s)
{
	return (struct shm_table){s->seg->tokens, SHM_TOKEN_BUCKETS, SHM_TOKEN_WORDS};
}

static struct shm_table
claims_of(const struct shm *s)
{
	return (struct shm_table){s->seg->token_claims, SHM_TOKEN_BUCKETS, SHM_CLAIM_WORDS};
}

/* What is written over it is nothing. Its stamp makes it the first to make room. */
static void
wipe(const struct shm_table *t, const uint8_t key[SHM_TOKEN_KEY_BYTES])
{
	static const uint64_t nothing[SHM_TOKEN_WORDS];

	shm_table_put(t, key, 1, nothing);
}

enum shm_token_state
shm_token_get(const struct shm *s, const uint8_t key[SHM_TOKEN_KEY_BYTES], uint64_t now,
    char text[SHM_TOKEN_SIZE], bool *renew)
{
	const struct shm_table t = tokens_of(s);
	enum shm_token_state state = SHM_TOKEN_NONE;
	uint64_t words[SHM_TOKEN_WORDS], expires;

	*renew = false;
	if (!shm_table_get(&t, key, &expires, words) || words[KIND] == 0)
		return SHM_TOKEN_NONE;
	if (now >= expires) {
		wipe(&t, key);
	} else if (words[KIND] == KIND_REFUSED) {
		state = SHM_TOKEN_REFUSED;
	} else {
		state = SHM_TOKEN_VALID;
		memcpy(text, &words[TEXT], SHM_TOKEN_SIZE);
		text[SHM_TOKEN_SIZE - 1] = '\0';
		*renew = now >= words[RENEW];
	}
	explicit_bzero(words, sizeof(words));
	return state;
}

/* A claim that has lapsed, or whose owner is dead, is nobody's. */
static void
free_stale_claim(const struct shm *s, const uint8_t key[SHM_TOKEN_KEY_BYTES], uint64_t now)
{
	const struct shm_table t = claims_of(s);
	uint64_t words[SHM_CLAIM_WORDS], until;

	if (shm_table_get(&t, key, &until, words) &&
	    (now >= until ||
		shm_child_generation(s, (unsigned)words[LISTENER]) != words[GENERATION]))
		(void)shm_table_move(&t, key, until, 0);
}

bool
shm_token_claim(const struct shm *s, unsigned listener, const uint8_t key[SHM_TOKEN_KEY_BYTES],
    uint64_t now)
{
	const struct shm_table t = claims_of(s);
	const uint64_t words[SHM_CLAIM_WORDS] = {
	    [LISTENER] = listener, [GENERATION] = shm_child_generation(s, listener)};

	free_stale_claim(s, key, now);
	return shm_table_add(&t, key, now + SHM_TOKEN_CLAIM_MS, words);
}

void
shm_token_release(
    const struct shm *s, const uint8_t key[SHM_TOKEN_KEY_BYTES], uint64_t until)
{
	const struct shm_table t = claims_of(s);
	uint64_t lapses;

	if (shm_table_get(&t, key, &lapses, NULL))
		(void)shm_table_move(&t, key, lapses, until);
}

void
shm_token_put(const struct shm *s, const uint8_t key[SHM_TOKEN_KEY_BYTES], const char *text,
    uint64_t renew, uint64_t expires)
{
	const struct shm_table t = tokens_of(s);
	uint64_t words[SHM_TOKEN_WORDS] = {[KIND] = KIND_TOKEN, [RENEW] = renew};
	size_t n = strlen(text);

	if (n < SHM_TOKEN_SIZE) {
		memcpy(&words[TEXT], text, n);
		shm_table_put(&t, key, expires, words);
		explicit_bzero(words, sizeof(words));
	}
	shm_token_release(s, key, 0);
}

void
shm_token_refuse(const struct shm *s, const uint8_t key[SHM_TOKEN_KEY_BYTES], uint64_t until)
{
	const struct shm_table t = tokens_of(s);
	const uint64_t words[SHM_TOKEN_WORDS] = {[KIND] = KIND_REFUSED};

	shm_table_put(&t, key, until, words);
	shm_token_release(s, key, 0);
}

void
shm_token_drop(const struct shm *s, const uint8_t key[SHM_TOKEN_KEY_BYTES], const char *text)
{
	const struct shm_table t = tokens_of(s);
	char now_there[SHM_TOKEN_SIZE];
	bool renew;

	if (shm_token_get(s, key, 0, now_there, &renew) == SHM_TOKEN_VALID &&
	    strcmp(now_there, text) == 0)
		wipe(&t, key);
	explicit_bzero(now_there, sizeof(now_there));
}
