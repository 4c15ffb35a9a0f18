/* What a listener adds to the metrics besides its requests and fills. */
#include "listener_metrics.h"

#include <string.h>

#include "child.h"
#include "conf.h"
#include "fill.h"
#include "request.h"
#include "shm_metrics.h"
#include "tls.h"

/* A host with a group in it is not one, but many that clients choose among. */
static void
name_backend(struct shm *s, const struct conf_backend *b)
{
	if (b->host != NULL && strchr(b->host, '$') == NULL)
		(void)shm_metric_upstream(s, b->host, true);
}

static void
count_handshake(void *arg, const struct tls_handshake *h)
{
	const struct child_start *start = arg;

	if (h->done)
		shm_metric_tls(start->shm, start->number, h->tls13 ? METRIC_TLS13 : METRIC_TLS12,
		    h->resumed);
	else
		shm_metric_tls_failed(start->shm, start->number);
}

void
listener_name_upstreams(const struct child_start *start)
{
	const struct conf *conf = start->conf;

	for (size_t i = 0; i < conf->server.nregistries; i++)
		shm_metric_set_registry(start->shm, start->number, (unsigned)i + 1,
		    shm_metric_upstream(start->shm, conf->server.registries[i].name, true));
	name_backend(start->shm, &conf->server.default_backend);
	for (size_t i = 0; i < conf->server.nrules; i++)
		name_backend(start->shm, &conf->server.rules[i].to);
	if (start->tls != NULL)
		tls_server_watch(start->tls, count_handshake, (void *)start);
}

void
listener_measure(const struct child_start *start, const struct services *s)
{
	struct metric_gauges now = {.bodies_queued = requests_queued(s)};

	fills_count(s->fills, &now.fills_queued, &now.followers);
	shm_metric_set_gauges(start->shm, start->number, &now);
}
