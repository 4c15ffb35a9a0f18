/* Registries: what the cache asks is asked through here. A call names a registry's primary host
 * and, when server.registries configures it, its number; whichever of its hosts answers is this
 * module's business. Callers see one exchange with the semantics of upstream.h.
 *
 * What is kept of what hosts said, in shared memory:
 *   limits  a 429: until its Retry-After has passed, the credential is answered here
 *   health  no connection or no answer, several times in a row: the host is not asked for a while;
 *           UPSTREAM_DOWN or UPSTREAM_SILENT, when there is no other
 *
 * A GET or HEAD without a body goes to the first host that is not down (or to `first_host`), and,
 * when that gives no head or a 408 or 5xx, to the next, until all were asked or the time
 * (`deadline_ms`, else first_byte_ms from now) is over. Any other answer is one: 401, 403, 404 and
 * 429 too. What writes goes to the first host that is not down, and nowhere else.
 *
 * Where the cache holds a credential, or none of its clients' is to be used, it goes through the registry's
 * challenge itself; and a client's own Basic is exchanged where a registry takes tokens only
 * (registry_auth.h).
 *
 * A struct registry_call lives as a struct upstream_call does: from registry_start() until
 * ops->done returned or registry_cancel(). Callbacks never run inside these functions.
 */
#ifndef REGISTRY_H
#define REGISTRY_H

#include "upstream.h"

struct credential;
struct event_base;
struct registries; /* one a process */
struct registry_call;
struct shm;

enum { REGISTRY_MAX_HOSTS = 16 };

/* One of server.registries. */
struct registry_set {
	const char *scheme;
	const char *const *hosts; /* 1 to REGISTRY_MAX_HOSTS, in order */
	unsigned nhosts;
	const char *ca_path; /* trusted for it besides the others; NULL: none */
	const char *realm;   /* a host that it may ask tokens of, besides its own; NULL: none */
};

/* Set-up of a process; times in milliseconds. Everything is borrowed and outlives it, but for
 * `upstream_config`. */
struct registries_config {
	struct event_base *base;
	struct upstream *upstream;
	const struct upstream_config *upstream_config; /* of `upstream` */
	struct shm *shm; /* NULL: nothing is known of what other listeners met, nor kept for them */
	unsigned listener;
	const struct registry_set *sets;
	unsigned nsets;
	uint64_t first_byte_ms;   /* for an answer's head, over all hosts */
	/* What the cache holds for the registries, by their numbers from 1 (NULL: nothing); `ncredentials`
	 * of them. What a client sends as Authorization does not go to such a registry; without
	 * shared memory nothing is asked with them. */
	struct credential *const *credentials;
	unsigned ncredentials;
	bool keep_clients; /* clients' credentials are the cache's own and go to no registry */
	uint64_t limit_unsaid_ms; /* how long a 429 holds that does not say it */
	uint64_t limit_most_ms;   /* how long any does */
	unsigned down_after;      /* failures in a row; 0: never */
	uint64_t down_most_ms;    /* how long a host is not asked, at most */
};

/* NULL: said why in the log (a CA file that cannot be read). Owned by the caller. */
struct registries *registries_new(const struct registries_config *config);
/* Every call must have ended or been cancelled before. */
void registries_free(struct registries **rs);

/* What calls to a realm of this registry (0: of none) go through: its authorities are trusted there. */
struct upstream *registry_upstream(const struct registries *rs, unsigned number);
/* On whose behalf this registry (by its number) is asked. */
enum upstream_asker registries_asker(const struct registries *rs, unsigned registry);
/* The repository that reading this target is about: its place in the target, *n bytes of it. NULL: of
 * none. Only what is about one is asked with a credential of the cache's. */
const char *registry_repository(const char *target, size_t *n);

/* As upstream_start(). */
struct registry_call *registry_start(struct registries *rs, const struct upstream_request *r,
    const struct upstream_ops *ops, void *arg);
void registry_pause(struct registry_call *c);
void registry_resume(struct registry_call *c);
/* What happens from now on is told there instead: the call changes hands. Best while it is
 * paused. */
void registry_retarget(struct registry_call *c, const struct upstream_ops *ops, void *arg);
/* *c becomes NULL; nothing happens when it is NULL. */
void registry_cancel(struct registry_call **c);

#endif
