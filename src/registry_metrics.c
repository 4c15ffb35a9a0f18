/* What exchanges with registries add to the metrics. */
#include "registry_metrics.h"

#include <stdlib.h>

#include "shm_metrics.h"

unsigned
measure_target(const struct registries_config *c, const struct upstream_request *r)
{
	return c->shm == NULL ? METRIC_NONE
			      : shm_metric_target(c->shm, c->listener, r->registry, r->host);
}

/* "76;w=21600" is 76; -1: there is no number. */
static int64_t
number_in(const struct upstream_answer *a, const char *const *names)
{
	const char *value = NULL;

	for (; *names != NULL && value == NULL; names++)
		value = upstream_header(a, *names, 0);
	return value != NULL && *value >= '0' && *value <= '9' ? strtoll(value, NULL, 10) : -1;
}

/* Docker Hub says ratelimit-remaining, GitHub and Quay x-ratelimit-remaining. An answer that says
 * nothing leaves what the last one said. */
static void
note_quota(const struct registries_config *c, unsigned target, const struct upstream_answer *a)
{
	static const char *const remaining[] = {
	    "RateLimit-Remaining", "X-RateLimit-Remaining", NULL};
	static const char *const limit[] = {"RateLimit-Limit", "X-RateLimit-Limit", NULL};
	int64_t left = number_in(a, remaining);

	if (left >= 0)
		shm_metric_set_quota(c->shm, target, left, number_in(a, limit));
}

void
measure_head(
    const struct registries_config *c, unsigned target, const struct upstream_answer *a)
{
	if (c->shm == NULL)
		return;
	note_quota(c, target, a);
	shm_metric_answer(c->shm, c->listener, target,
	    a->status < 400	     ? METRIC_ANSWER_OK
		: a->status == 429   ? METRIC_ANSWER_LIMITED
		: a->status < 500    ? METRIC_ANSWER_REFUSED
				     : METRIC_ANSWER_ERROR);
}

void
measure_data(const struct registries_config *c, unsigned target, size_t n)
{
	if (c->shm != NULL)
		shm_metric_fetched(c->shm, c->listener, target, n);
}

/* What the caller's own request body was to blame for is no matter of the registry's. */
void
measure_end(const struct registries_config *c, unsigned target, enum upstream_result r,
    bool answered)
{
	if (c->shm == NULL || r == UPSTREAM_OK || r == UPSTREAM_BODY_FAILED)
		return;
	shm_metric_answer(c->shm, c->listener, target,
	    answered ? METRIC_ANSWER_BROKEN : METRIC_ANSWER_NONE);
}
