/* Hosts that do not answer. */
#include "registry_health.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "secret.h"
#include "shm.h"
#include "xalloc.h"

struct health {
	struct shm *shm;
	unsigned listener;
	struct secret *secret;
	struct health_rules rules;
};

struct health *
health_new(struct shm *shm, unsigned listener, struct secret *secret,
    const struct health_rules *rules)
{
	struct health *h = xcalloc(1, sizeof(*h));

	*h = (struct health){shm, listener, secret, *rules};
	return h;
}

void
health_free(struct health **h)
{
	free(*h);
	*h = NULL;
}

void
health_host(const struct health *h, const char *scheme, const char *host, struct health_host *out)
{
	const char *const words[] = {"health", scheme, host};
	uint8_t mac[SECRET_BYTES];

	*out = (struct health_host){.scheme = scheme, .host = host};
	secret_mac(h->secret, words, sizeof(words) / sizeof(words[0]), mac);
	memcpy(out->key, mac, sizeof(out->key));
}

bool
health_ask(struct health *h, struct health_host *host, struct arena *arena,
    enum upstream_result *r, const char **detail)
{
	struct health_view v;
	enum health_state state =
	    shm_health_ask(h->shm, host->key, &h->rules, clock_ms(), &v);

	host->probe = state == HEALTH_PROBE;
	if (state != HEALTH_DOWN)
		return true;
	shm_count(h->shm, h->listener, COUNT_KEPT_FROM_DOWN, 1);
	*r = v.fault == UPSTREAM_TIMEOUT ? UPSTREAM_SILENT : UPSTREAM_DOWN;
	*detail = arena_printf(arena,
	    "not asked, for the last %u requests to it failed (%s); asked again in %" PRIu64 " s",
	    v.failures, upstream_result_name((enum upstream_result)v.fault),
	    (v.wait_ms + 999) / 1000);
	return false;
}

bool
health_is_down(const struct health *h, const struct health_host *host)
{
	return h->rules.after > 0 && shm_health_is_down(h->shm, host->key, clock_ms());
}

void
health_answered(struct health *h, struct health_host *host)
{
	struct health_view v;

	host->probe = false;
	if (!shm_health_answered(h->shm, host->key, &v))
		return;
	shm_count(h->shm, h->listener, COUNT_HOSTS_UP, 1);
	log_info("registry %s://%s answers again, after %u failures", host->scheme, host->host,
	    v.failures);
}

void
health_failed(struct health *h, struct health_host *host, enum upstream_result r,
    const char *detail)
{
	struct health_view v;
	bool probe = host->probe;

	host->probe = false;
	if (!shm_health_failed(
		h->shm, host->key, &h->rules, (unsigned)r, probe, clock_ms(), &v))
		return;
	shm_count(h->shm, h->listener, COUNT_HOSTS_DOWN, 1);
	log_warn("registry %s://%s is down: %u requests in a row failed, the last: %s; asked again "
		 "in %" PRIu64 " ms",
	    host->scheme, host->host, v.failures,
	    detail != NULL && *detail != '\0' ? detail : upstream_result_name(r), v.wait_ms);
}

void
health_let_go(struct health *h, struct health_host *host)
{
	if (host->probe)
		shm_health_let_go(h->shm, host->key, clock_ms());
	host->probe = false;
}
