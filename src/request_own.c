/* The cache's own part of the API, for clients that name registries by a prefix of the repository: the
 * ping, and the challenge whose realm is the cache's /token (WIRE.md 6.2, 6.3). Their own words for a
 * repository mean nothing to the registry's realm, so the cache's stands before it (request_token.c).
 */
#include <string.h>

#include "challenge.h"
#include "clock.h"
#include "realms.h"
#include "request_private.h"
#include "route_grammar.h"
#include "token.h"

/* --- credentials ------------------------------------------------------------------------------ */

const char *
request_registry_name(const struct request *req, unsigned number)
{
	const struct route_registry *r = route_registry(req->s->routes, number);

	return r != NULL ? r->name : "";
}

/* A token of ours is never sent on; what is in it is, to the registry that it is for. One for the
 * default backend is good for that alone, not for what a rule leads to. */
const char *
request_credential(struct request *req)
{
	const char *authorization = http_header_get(&req->head, "Authorization");
	const char *name, *basic, *registry = request_registry_name(req, req->route.registry);

	if (!token_read(authorization, &req->arena, &name, &basic))
		return authorization;
	if (strcmp(name, registry) != 0 || (*name == '\0' && req->route.carrier == ROUTE_BY_RULE))
		return NULL;
	return basic;
}

/* --- the challenge ---------------------------------------------------------------------------- */

bool
request_has_own_realm(const struct request *req)
{
	const char *host = req->head.host;

	return req->route.carrier == ROUTE_BY_PREFIX && req->s->login == NULL &&
	    route_is_host(host, strlen(host));
}

static bool
is_error(const char *text)
{
	return text != NULL && *text != '\0' &&
	    text[strspn(text, "abcdefghijklmnopqrstuvwxyz_")] == '\0';
}

/* `scope` and `error` may be NULL. */
static void
write_challenge(struct request *req, struct buf *out, const char *scope, const char *error)
{
	const char *host = req->head.host;
	const char *base = arena_printf(&req->arena, "Bearer realm=\"%s://%s/token\",service=\"%s\"",
	    request_scheme(req), host, host);

	http_field(out, "WWW-Authenticate",
	    arena_printf(&req->arena, "%s%s%s%s%s%s%s", base, scope != NULL ? ",scope=\"" : "",
		scope != NULL ? scope : "", scope != NULL ? "\"" : "",
		error != NULL ? ",error=\"" : "", error != NULL ? error : "",
		error != NULL ? "\"" : ""));
}

/* What the registry asked for, else what this request needs. */
static const char *
scope_of(struct request *req, const struct challenge *c)
{
	const struct route *r = &req->route;

	if (c->bearer && c->scope != NULL)
		return token_client_scopes(&req->arena, r->prefix, c->scope);
	if (*r->repository == '\0')
		return NULL;
	return arena_printf(&req->arena, "repository:%s%s:pull", r->prefix, r->repository);
}

void
request_learn_realm(struct request *req, const char *repository, const struct challenge *c)
{
	const struct route *r = &req->route;
	struct realm_memory m = {REALM_BASIC, NULL, NULL};

	if (!c->bearer && !c->basic)
		return;
	if (c->bearer)
		m = (struct realm_memory){REALM_BEARER, c->realm, c->service};
	realms_keep(req->s->realms, r->upstream, repository, clock_ms(), &m);
}

void
request_own_challenge(
    struct request *req, struct buf *out, const struct upstream_header *h, size_t n)
{
	struct challenge c = {0};
	const char *error;

	for (size_t i = 0; i < n; i++)
		if (http_name_is(h[i].name, "WWW-Authenticate"))
			challenge_read(&c, h[i].value, &req->arena);
	if (*req->route.repository != '\0')
		request_learn_realm(req, req->route.repository, &c);
	error = is_error(c.error) ? c.error
	    : http_header_get(&req->head, "Authorization") != NULL ? "invalid_token"
								    : NULL;
	write_challenge(req, out, scope_of(req, &c), error);
}

/* --- the ping --------------------------------------------------------------------------------- */

/* Which registry a credential is for is not known before a repository is named, so any will do. */
enum step
request_own_ping(struct request *req)
{
	const char *host = req->head.host, *body = "{}";
	bool known = req->s->login != NULL || http_header_get(&req->head, "Authorization") != NULL;
	struct buf *out;

	if (!route_is_host(host, strlen(host)))
		return request_fail(req, 400, "UNSUPPORTED", "the host is no valid one");
	req->outcome = known ? "ping" : "denied";
	if (!known)
		body = http_error_body(&req->arena, "UNAUTHORIZED", "a token is needed");
	out = request_begin(req, known ? 200 : 401);
	if (!known)
		write_challenge(req, out, NULL, NULL);
	return request_end_json(req, out, body);
}
