/* Requests to registries that the cache asks for itself: with a credential that it holds, or with none
 * because its clients' are its own. The client has nothing to say to them, and is not asked. */
#include <string.h>

#include "request_private.h"

bool
request_is_own(int asker, int status)
{
	return (asker == ASKER_HELD && (status == 401 || status == 403)) ||
	    (asker == ASKER_NOBODY && status == 401);
}

enum step
request_refuse_own(struct request *req, int asker, int status)
{
	if (asker == ASKER_HELD)
		return request_fail(req, 502, "UNAVAILABLE",
		    "the registry %s refused the cache's own credential (%d)", req->route.upstream,
		    status);
	return request_fail(req, 403, "DENIED",
	    "the registry %s wants a credential, and the cache holds none for it", req->route.upstream);
}

/* What clients learn of a ping is whether they are to authenticate: here they are not, any more. */
static enum step
answer_ping(struct request *req)
{
	struct buf *out = request_begin(req, 200);

	req->outcome = "ping";
	return request_end_json(req, out, "{}");
}

/* A credential that the cache holds is for reading repositories: not for pushing, nor for whatever else
 * the registry's host serves, its tokens among it. */
static bool
is_within(const struct request *req, bool reading)
{
	size_t n;

	return reading && registry_repository(req->route.target, &n) != NULL;
}

bool
request_held(struct request *req, bool reading, enum step *step)
{
	enum upstream_asker asker = registries_asker(req->s->registries, req->route.registry);

	if (asker == ASKER_CLIENT)
		return false;
	req->authorization = NULL;
	if (req->route.kind == ROUTE_PING || req->route.kind == ROUTE_OWN_PING)
		*step = answer_ping(req);
	else if (asker == ASKER_HELD && !is_within(req, reading))
		*step = reading ? request_fail(req, 404, "NAME_UNKNOWN",
				      "with its own credential the cache reads repositories only")
				: request_fail(req, 405, "UNSUPPORTED",
				      "with its own credential the cache only reads");
	else
		return false;
	return true;
}
