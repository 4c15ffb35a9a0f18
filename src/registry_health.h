/* Hosts that do not answer: connections that cannot be made, certificates that are not to be trusted,
 * answers that do not begin in time. After some of these in a row a host is down, which all listeners
 * know: it is not asked for a growing time, then by one request, and used again when that is
 * answered. A host that answers, with whatever status, is up. For registry*.c only. */
#ifndef REGISTRY_HEALTH_H
#define REGISTRY_HEALTH_H

#include "arena.h"
#include "shm_health.h"
#include "upstream.h"

struct health; /* one a process */
struct secret;

/* `shm` and `secret` are borrowed. Owned by the caller. */
struct health *health_new(struct shm *shm, unsigned listener, struct secret *secret,
    const struct health_rules *rules);
void health_free(struct health **h);

/* One host, by its name. Strings are borrowed and outlive it. */
struct health_host {
	const char *scheme, *host;
	uint8_t key[HEALTH_KEY_BYTES];
	bool probe; /* a probe is held: health_answered(), _failed() or _let_go() ends it */
};
void health_host(const struct health *h, const char *scheme, const char *host,
    struct health_host *out);

/* True: it may be asked. False: it is down; *r (UPSTREAM_DOWN or UPSTREAM_SILENT) and *detail, in
 * `arena`, say so. */
bool health_ask(struct health *h, struct health_host *host, struct arena *arena,
    enum upstream_result *r, const char **detail) __attribute__((warn_unused_result));
/* Would it be refused? Takes no probe. */
bool health_is_down(const struct health *h, const struct health_host *host);
void health_answered(struct health *h, struct health_host *host);
void health_failed(struct health *h, struct health_host *host, enum upstream_result r,
    const char *detail);
/* Nobody wants to know any more. */
void health_let_go(struct health *h, struct health_host *host);

#endif
