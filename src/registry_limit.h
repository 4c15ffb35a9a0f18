/* Limits that registries set for a credential (429, RFC 6585 section 4; Retry-After, RFC 9110 section
 * 10.2.3): until one has passed, whoever asks with the same credential is answered here (WIRE.md 5.1).
 *
 * A 429 to a GET of a manifest holds for GETs of manifests: Docker Hub counts those, and HEAD and
 * blobs are free. Any other holds for all that reads. What writes is neither kept back nor looked at.
 */
#ifndef REGISTRY_LIMIT_H
#define REGISTRY_LIMIT_H

#include "arena.h"
#include "shm_breaker.h"
#include "upstream.h"

struct limits; /* one a process */
struct secret;

/* `shm` and `secret` are borrowed. `unsaid_ms` is how long a limit holds whose end is not said,
 * `most_ms` how long any does. Owned by the caller. */
struct limits *limits_new(struct shm *shm, unsigned listener, struct secret *secret,
    uint64_t unsaid_ms, uint64_t most_ms);
void limits_free(struct limits **l);

/* One request to one host, between limit_ask() and limit_note(). */
struct limit_pass {
	unsigned n; /* of the keys that it asked about */
	uint8_t key[2][BREAKER_KEY_BYTES]; /* [0] is the one that a 429 is noted under */
	bool probe[2];
};

/* An answer of ours in the registry's place. */
struct limit_answer {
	struct upstream_answer head;
	const char *body;
};

/* True: it may be sent, and limit_note() is told what came of it. False: *answer is given instead,
 * made in `arena`. */
bool limit_ask(struct limits *l, const struct upstream_request *r, struct limit_pass *pass,
    struct arena *arena, struct limit_answer *answer) __attribute__((warn_unused_result));
void limit_note(struct limits *l, const struct limit_pass *pass, const struct upstream_answer *a);

#endif
