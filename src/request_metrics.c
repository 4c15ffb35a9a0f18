/* What a request adds to the metrics: by its upstream, kind and outcome, once, at its end. */
#include <string.h>

#include "clock.h"
#include "request_private.h"

static enum metric_kind
kind_of(const struct request *req)
{
	switch (req->route.kind) {
	case ROUTE_MANIFEST:
		return METRIC_MANIFEST;
	case ROUTE_BLOB:
		return METRIC_BLOB;
	case ROUTE_REFERRERS:
		return METRIC_REFERRERS;
	case ROUTE_PING:
	case ROUTE_OWN_PING:
		return METRIC_PING;
	case ROUTE_TOKEN:
		return METRIC_TOKEN;
	default:
		return METRIC_OTHER_KIND;
	}
}

/* In the words of the access line. */
static enum metric_outcome
outcome_of(const char *word)
{
	static const struct {
		const char *word;
		enum metric_outcome outcome;
	} known[] = {
	    {"hit", METRIC_HIT},
	    {"grace", METRIC_GRACE},
	    {"fill", METRIC_FILL},
	    {"follow", METRIC_FOLLOW},
	    {"resumed", METRIC_RESUMED},
	    {"ranged", METRIC_RANGED},
	    {"checked", METRIC_CHECKED},
	    {"passed", METRIC_PASSED},
	    {"ping", METRIC_PASSED},
	    {"token", METRIC_PASSED},
	    {"uncached", METRIC_UNCACHED},
	    {"denied", METRIC_DENIED},
	};

	for (size_t i = 0; word != NULL && i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(word, known[i].word) == 0)
			return known[i].outcome;
	return METRIC_ERROR;
}

static unsigned
target_of(const struct request *req)
{
	return shm_metric_target(
	    req->s->shm, req->s->listener, req->route.registry, req->route.host);
}

void
request_measure_check(struct request *req, enum metric_check result)
{
	shm_metric_check(req->s->shm, req->s->listener, target_of(req), result,
	    clock_us() - req->check_began_us);
}

void
request_measure_wait(struct request *req, bool got_it)
{
	uint64_t ms = clock_ms() - req->waiting_ms;

	shm_metric_waited(req->s->shm, req->s->listener, METRIC_STREAMERS, ms * 1000, got_it);
}

void
request_measure(struct request *req)
{
	const struct metric_request r = {
	    .upstream = target_of(req),
	    .kind = kind_of(req),
	    .outcome = outcome_of(req->outcome),
	    .status = req->status,
	    .bytes = req->bytes,
	    .first_us =
		req->answered_us != 0 ? (int64_t)(req->answered_us - req->started_us) : -1,
	};

	shm_metric_request(req->s->shm, req->s->listener, &r);
}

uint64_t
requests_queued(const struct services *s)
{
	const struct request *req;
	uint64_t n = 0;

	TAILQ_FOREACH(req, &s->waiting, admit)
	n++;
	return n;
}
