/* What a registry's answer becomes for the client, by its status and type: WIRE.md section 5, and
 * 10.1 for referrers. */
#include <string.h>
#include <strings.h>

#include "request_private.h"

bool
request_is_refusal(int status)
{
	return status >= 400 && status <= 499 && status != 408;
}

int
request_told(const struct request *req, int status)
{
	return status == 429 ? req->s->rate_limit_status : status;
}

int
request_mapped(int status)
{
	switch (status) {
	case 408:
		return 504;
	case 500:
	case 503:
		return 503;
	default:
		return 502;
	}
}

/* --- what is streamed through --- */

static bool
is_conditional(const struct request *req)
{
	return http_header_get(&req->head, "If-None-Match") != NULL ||
	    http_header_get(&req->head, "If-Modified-Since") != NULL;
}

/* Content-Type without its parameters is `type`. */
static bool
has_type(const struct upstream_answer *a, const char *type)
{
	const char *value = upstream_header(a, "Content-Type", 0);
	size_t n = strlen(type);

	return value != NULL && strncasecmp(value, type, n) == 0 && strcspn(value, "; \t") == n;
}

/* A registry's own answer may be such a page (Quay's to a ping is); one that it redirected to is a
 * login page, and a list of tags is no page. */
static bool
is_page(const struct request *req, const struct upstream_answer *a)
{
	const char *target = req->route.target, *end = target + strcspn(target, "?");

	if (!has_type(a, "text/html") || strncmp(target, "/v2/", 4) != 0)
		return false;
	return a->redirects > 0 || (end - target > 10 && strncmp(end - 10, "/tags/list", 10) == 0);
}

/* Clients take 404 for "ask for the tag instead", and nothing else so well. A 400 is no word on the
 * digest, whose form was looked at. */
static bool
lacks_referrers(const struct upstream_answer *a)
{
	if (a->status == 200)
		return !has_type(a, REQUEST_INDEX_TYPE);
	return a->status == 400 || a->status == 405 || a->status == 501;
}

enum request_verdict
request_judge(const struct request *req, const struct upstream_answer *a)
{
	bool success = a->status >= 200 && a->status < 300;

	if (request_is_own((int)a->asker, a->status))
		return VERDICT_OWN;
	if (req->head.method != HTTP_GET && req->head.method != HTTP_HEAD)
		return VERDICT_RELAY;
	if (success && is_page(req, a))
		return a->redirects > 0 || req->route.kind != ROUTE_REFERRERS
		    ? VERDICT_NO_ANSWER
		    : VERDICT_NO_REFERRERS;
	if (req->route.kind == ROUTE_REFERRERS && lacks_referrers(a))
		return VERDICT_NO_REFERRERS;
	if (success || request_is_refusal(a->status) || (a->status == 304 && is_conditional(req)))
		return VERDICT_RELAY;
	return VERDICT_BAD_STATUS;
}
