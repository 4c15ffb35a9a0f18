/* What registries allowed, for server.checkGrace: that a credential may have an object of a
 * repository, or which digest it was told for a tag, and when. Known to every listener; bounded, the
 * oldest goes first. The table holds keyed hashes and digests only.
 *
 * A revocation is a time, kept for the hash of a key without the key: it voids every grant of that
 * key up to then, and of a few others that share its place, and is never evicted. */
#ifndef SHM_GRANT_H
#define SHM_GRANT_H

#include <stdbool.h>
#include <stdint.h>

#include "digest.h"

struct shm;

enum { GRANT_KEY_BYTES = 16 };

struct grant_key {
	uint8_t object[GRANT_KEY_BYTES]; /* credential, upstream, repository and reference */
	uint8_t scope[GRANT_KEY_BYTES];  /* credential, upstream and repository */
};

/* Allowed at `at` (clock_us), as `d`. */
void shm_grant_put(
    const struct shm *s, const struct grant_key *k, uint64_t at, const struct digest *d);
/* When it was allowed last, and as what. False: never, forgotten, or revoked since. */
bool shm_grant_get(const struct shm *s, const struct grant_key *k, uint64_t *at, struct digest *d)
    __attribute__((warn_unused_result));
/* Refused at `at`: `key` is the object's or the scope of a grant. */
void shm_grant_revoke(const struct shm *s, const uint8_t key[GRANT_KEY_BYTES], uint64_t at);

#endif
