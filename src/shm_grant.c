/* What registries allowed, in a table of the shared segment whose stamps are times; what they refused
 * since, in an array of times. */
#include "shm_grant.h"

#include <string.h>

#include "shm_private.h"

_Static_assert(sizeof(struct digest) <= 8 * SHM_GRANT_WORDS, "a digest fits into its words");

static struct shm_table
table_of(const struct shm *s)
{
	return (struct shm_table){s->seg->grants, SHM_GRANT_BUCKETS, SHM_GRANT_WORDS};
}

/* Of the first bytes; the table's bucket is of the last. */
static _Atomic uint64_t *
revoked_at(const struct shm *s, const uint8_t key[GRANT_KEY_BYTES])
{
	uint32_t n;

	memcpy(&n, key, sizeof(n));
	return &s->seg->revoked[n % SHM_REVOKED];
}

void
shm_grant_put(const struct shm *s, const struct grant_key *k, uint64_t at, const struct digest *d)
{
	const struct shm_table t = table_of(s);
	uint64_t words[SHM_GRANT_WORDS] = {0}, there[SHM_GRANT_WORDS], before;

	memcpy(words, d, sizeof(*d));
	if (shm_table_get(&t, k->object, &before, there) &&
	    memcmp(words, there, sizeof(words)) == 0 && shm_table_move(&t, k->object, before, at))
		return;
	shm_table_put(&t, k->object, at, words);
}

bool
shm_grant_get(const struct shm *s, const struct grant_key *k, uint64_t *at, struct digest *d)
{
	const struct shm_table t = table_of(s);
	uint64_t words[SHM_GRANT_WORDS];

	if (!shm_table_get(&t, k->object, at, words) ||
	    *at <= atomic_load(revoked_at(s, k->object)) ||
	    *at <= atomic_load(revoked_at(s, k->scope)))
		return false;
	memcpy(d, words, sizeof(*d));
	return true;
}

void
shm_grant_revoke(const struct shm *s, const uint8_t key[GRANT_KEY_BYTES], uint64_t at)
{
	_Atomic uint64_t *revoked = revoked_at(s, key);
	uint64_t before = atomic_load(revoked);

	while (before < at && !atomic_compare_exchange_weak(revoked, &before, at))
		;
}
