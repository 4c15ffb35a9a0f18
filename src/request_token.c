/* /token: what a client needs for registries that it names by a prefix (WIRE.md 6.3). Its question is
 * put to the realm of the registry that its scopes name, in the registry's words, with its credential,
 * and the answer is relayed. Which realm that is, the registry's own challenge says; where it asks for
 * a user and password or for nothing, the token is one of the cache's own (token.h).
 *
 *   BODY    the form of a POST is read                                  PROBE, ASK, VERIFY, answered
 *   PROBE   the registry is asked, without a credential, what it wants  PING, ASK, VERIFY, answered
 *   PING    the same of its ping, where the repository is open          ASK, VERIFY, answered
 *   VERIFY  are user and password good? The registry's ping says        answered
 *   ASK     the realm                                                   answered
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "challenge.h"
#include "clock.h"
#include "http_basic.h"
#include "log.h"
#include "realms.h"
#include "refusal.h"
#include "request_private.h"
#include "token.h"
#include "xalloc.h"

enum { FORM_MAX = 64 * 1024 };

enum phase { PHASE_BODY, PHASE_PROBE, PHASE_PING, PHASE_VERIFY, PHASE_ASK, PHASE_ENDED };

struct exchange {
	struct request *req;
	enum phase phase;
	struct http_body body;
	struct buf form; /* of a POST */
	bool waits_for_client;
	struct token_question q;
	const char *basic;                /* the client's "Basic …"; NULL: none */
	const char *repository;           /* whose challenge counts; "": the ping's */
	const char *service;              /* the realm's; NULL: none */
	struct registry_call *call;       /* to the registry */
	struct upstream_call *asking;     /* to the realm */
	const char *sent;                 /* to it, of a POST: what is left of the form */
	struct refusal *answer;           /* its, or the registry's */
	struct challenge challenge;       /* in that */
	uint64_t got;                     /* bytes of its body … */
	int64_t promised;                 /* … of so many; -1: not said */
};

void
exchange_free(struct exchange **xp)
{
	struct exchange *x = *xp;

	if (x == NULL)
		return;
	registry_cancel(&x->call);
	upstream_cancel(&x->asking);
	refusal_free(&x->answer);
	if (buf_len(&x->form) > 0)
		explicit_bzero(buf_data(&x->form), buf_len(&x->form));
	buf_free(&x->form);
	free(x);
	*xp = NULL;
}

/* --- answers ---------------------------------------------------------------------------------- */

static enum step
ended(struct exchange *x)
{
	x->phase = PHASE_ENDED;
	return STEP_DONE;
}

/* Never a challenge for a token: that is what is being asked for. */
static void
ask_for_password(struct buf *out)
{
	http_field(out, "WWW-Authenticate", "Basic realm=\"registry\"");
}

static enum step
answer(struct exchange *x, int status, const char *body)
{
	struct buf *out = request_begin(x->req, status);

	if (status == 401)
		ask_for_password(out);
	http_field(out, "Cache-Control", "no-store");
	(void)request_end_json(x->req, out, body);
	return ended(x);
}

static enum step
refuse_user(struct exchange *x)
{
	x->req->outcome = "denied";
	x->req->code = "UNAUTHORIZED";
	return answer(x, 401, http_error_body(&x->req->arena, "UNAUTHORIZED",
				  "the registry wants a user and password, or others"));
}

static enum step
give_own(struct exchange *x, const char *basic)
{
	struct request *req = x->req;
	const char *name = request_registry_name(req, req->route.registry);
	const char *token = token_write(&req->arena, name, basic);

	if (token == NULL)
		return refuse_user(x);
	req->outcome = "token";
	return answer(x, 200, token_document(&req->arena, token));
}

static enum step
failed(struct exchange *x, enum upstream_result r, const char *detail)
{
	realms_forget(x->req->s->realms, x->req->route.upstream, x->repository);
	(void)request_no_answer(x->req, r, detail);
	return ended(x);
}

static bool
is_page(const struct refusal *a)
{
	for (size_t i = 0; i < a->nheaders; i++)
		if (http_name_is(a->headers[i].name, "Content-Type"))
			return strncasecmp(a->headers[i].value, "text/html", 9) == 0;
	return false;
}

static bool
is_relayed(const char *name)
{
	return !http_name_is(name, "WWW-Authenticate") && !http_name_is(name, "Link") &&
	    !http_name_is(name, "Location");
}

/* The realm's answer, byte by byte. */
static enum step
relay(struct exchange *x)
{
	struct request *req = x->req;
	const struct refusal *a = x->answer;
	struct buf *out;

	req->outcome = a->status < 300 ? "token" : "denied";
	out = request_begin(req, request_told(req, a->status));
	for (size_t i = 0; i < a->nheaders; i++) {
		struct upstream_header h = {a->headers[i].name, a->headers[i].value};

		if (is_relayed(h.name))
			request_relay_fields(req, out, &h, 1);
	}
	if (a->status == 401)
		ask_for_password(out);
	http_field_u64(out, "Content-Length", buf_len(&a->body));
	http_end(out);
	buf_append(out, buf_data(&a->body), buf_len(&a->body));
	return ended(x);
}

/* --- calls ------------------------------------------------------------------------------------ */

static void on_head(void *arg, const struct upstream_answer *a);
static void on_data(void *arg, const void *p, size_t n);
static void on_done(void *arg, enum upstream_result r, const char *detail);
static enum upstream_body on_body(void *arg, void *to, size_t size, size_t *n);
static const struct upstream_ops ops = {on_head, on_data, on_done, on_body, NULL};

static struct upstream_request
question(const struct exchange *x, const char *method, const char *target)
{
	const struct route *r = &x->req->route;

	return (struct upstream_request){.method = method,
	    .scheme = r->scheme,
	    .host = r->host,
	    .registry = r->registry,
	    .target = target,
	    .range_first = -1,
	    .range_last = -1,
	    .follow = true};
}

static enum step
ask_registry(struct exchange *x, enum phase phase, const char *method, const char *target,
    const char *authorization)
{
	struct upstream_request q = question(x, method, target);

	q.authorization = authorization;
	x->phase = phase;
	x->call = registry_start(x->req->s->registries, &q, &ops, x);
	return STEP_WAIT;
}

static enum step
ask_realm(struct exchange *x, const struct realm *realm)
{
	struct request *req = x->req;
	bool post = req->head.method == HTTP_POST;
	const char *text = token_parameters(&req->arena, &x->q, x->service);
	const char *join = strchr(realm->target, '?') != NULL ? "&" : "?";
	const struct upstream_header headers[] = {{"Accept", "application/json"},
	    {"Content-Type", "application/x-www-form-urlencoded"}};
	struct upstream_request q = question(x, post ? "POST" : "GET", realm->target);

	q.scheme = realm->scheme;
	q.host = realm->host;
	q.headers = headers;
	q.nheaders = post ? 2 : 1;
	q.authorization = x->basic;
	q.follow = q.has_body = post;
	q.follow = !post;
	q.body_length = post ? (int64_t)strlen(text) : 0;
	if (!post && *text != '\0')
		q.target = arena_printf(&req->arena, "%s%s%s", realm->target, join, text);
	x->sent = post ? text : NULL;
	x->phase = PHASE_ASK;
	if (arena_failed(&req->arena)) {
		(void)request_fail(req, 400, "UNSUPPORTED", "the request is too large");
		return ended(x);
	}
	x->asking = upstream_start(registry_upstream(req->s->registries, q.registry), &q, &ops, x);
	return STEP_WAIT;
}

/* --- what to do ------------------------------------------------------------------------------- */

/* User and password of a form are what Authorization has otherwise. */
static void
take_form_user(struct exchange *x)
{
	struct request *req = x->req;
	char *basic;

	if (x->basic != NULL || x->q.username == NULL || x->q.password == NULL)
		return;
	basic = http_basic_write(x->q.username, x->q.password);
	x->basic = arena_strdup(&req->arena, basic);
	explicit_bzero(basic, strlen(basic));
	free(basic);
}

static enum step
by_basic(struct exchange *x)
{
	take_form_user(x);
	if (x->basic == NULL)
		return refuse_user(x);
	return ask_registry(x, PHASE_VERIFY, "GET", "/v2/", x->basic);
}

static bool
is_trusted(const struct exchange *x, const struct realm *realm)
{
	const struct route *r = &x->req->route;
	const struct route_registry *registry = route_registry(x->req->s->routes, r->registry);

	if (registry == NULL)
		return realm_allowed(realm, r->scheme, r->host, NULL);
	for (size_t i = 0; i < registry->nhosts; i++)
		if (realm_allowed(realm, r->scheme, registry->hosts[i], registry->realm))
			return true;
	return false;
}

static enum step
by_bearer(struct exchange *x, const char *url, const char *service)
{
	struct request *req = x->req;
	const struct route *r = &req->route;
	struct realm realm;

	if (!realm_parse(url, &req->arena, &realm) || !is_trusted(x, &realm)) {
		log_warn("the registry %s asks for tokens of a realm that is not its own: %.200s",
		    r->upstream, url);
		(void)request_fail(req, 502, "UNAVAILABLE",
		    "the registry %s asks for tokens of a realm that is not its own", r->upstream);
		return ended(x);
	}
	x->service = service != NULL ? arena_strdup(&req->arena, service) : NULL;
	return ask_realm(x, &realm);
}

static enum step
by_memory(struct exchange *x, const struct realm_memory *m)
{
	switch (m->kind) {
	case REALM_OPEN:
		return give_own(x, NULL);
	case REALM_BASIC:
		return by_basic(x);
	case REALM_BEARER:
		break;
	}
	return by_bearer(x, m->realm, m->service);
}

/* The registry's answer to PROBE or PING. */
static enum step
probed(struct exchange *x)
{
	struct request *req = x->req;
	const struct challenge *c = &x->challenge;
	const struct realm_memory open = {REALM_OPEN, NULL, NULL};
	int status = x->answer->status;
	bool first = x->phase == PHASE_PROBE && *x->repository != '\0';

	if (status == 429 || status == 408 || status >= 500) {
		(void)request_refuse(req, x->answer);
		return ended(x);
	}
	if (status == 401) {
		request_learn_realm(req, x->repository, c);
		if (c->bearer)
			return by_bearer(x, c->realm, c->service);
		return by_basic(x);
	}
	if (first && (x->basic != NULL || x->q.username != NULL))
		return ask_registry(x, PHASE_PING, "GET", "/v2/", NULL);
	if (x->phase == PHASE_PROBE)
		realms_keep(req->s->realms, req->route.upstream, x->repository, clock_ms(), &open);
	return give_own(x, NULL);
}

static enum step
verified(struct exchange *x)
{
	int status = x->answer->status;

	if (status == 401)
		return refuse_user(x);
	if (status == 429 || status == 408 || status >= 500) {
		(void)request_refuse(x->req, x->answer);
		return ended(x);
	}
	return give_own(x, x->basic);
}

static enum step
asked(struct exchange *x)
{
	const struct refusal *a = x->answer;

	if (x->got > REFUSAL_MAX_BODY)
		return failed(x, UPSTREAM_PROTOCOL, "a token of more than 64 KiB");
	if (x->promised >= 0 && x->got < (uint64_t)x->promised)
		return failed(x, UPSTREAM_BROKEN, "its realm's answer ended early");
	if (a->status >= 200 && a->status < 300 && is_page(a))
		return failed(x, UPSTREAM_PROTOCOL, "a page of HTML instead of a token");
	if (a->status != 200 && a->status != 401 && a->status != 403)
		realms_forget(x->req->s->realms, x->req->route.upstream, x->repository);
	if ((a->status >= 200 && a->status < 300) || request_is_refusal(a->status))
		return relay(x);
	(void)request_fail(x->req, request_mapped(a->status), "UNAVAILABLE",
	    "the realm of the registry %s answered %d", x->req->route.upstream, a->status);
	return ended(x);
}

/* --- what comes back -------------------------------------------------------------------------- */

static void
on_head(void *arg, const struct upstream_answer *a)
{
	struct exchange *x = arg;

	refusal_free(&x->answer);
	x->answer = refusal_new(a);
	x->challenge = (struct challenge){0};
	x->got = 0;
	x->promised = a->content_length;
	for (size_t i = 0; i < a->nheaders; i++)
		if (http_name_is(a->headers[i].name, "WWW-Authenticate"))
			challenge_read(&x->challenge, a->headers[i].value, &x->req->arena);
}

static void
on_data(void *arg, const void *p, size_t n)
{
	struct exchange *x = arg;

	x->got += n;
	refusal_add_body(x->answer, p, n);
	if (x->phase != PHASE_ASK || x->got <= REFUSAL_MAX_BODY)
		return;
	upstream_cancel(&x->asking);
	(void)asked(x);
	request_drive(x->req->conn);
}

static enum upstream_body
on_body(void *arg, void *to, size_t size, size_t *n)
{
	struct exchange *x = arg;

	*n = strnlen(x->sent, size);
	memcpy(to, x->sent, *n);
	x->sent += *n;
	return UPSTREAM_BODY_DATA;
}

static void
on_done(void *arg, enum upstream_result r, const char *detail)
{
	struct exchange *x = arg;
	struct conn *c = x->req->conn;

	x->call = NULL;
	x->asking = NULL;
	if (x->answer == NULL || (r != UPSTREAM_OK && x->phase == PHASE_ASK))
		(void)failed(x, r == UPSTREAM_OK ? UPSTREAM_PROTOCOL : r, detail);
	else if (x->phase == PHASE_ASK)
		(void)asked(x);
	else if (x->phase == PHASE_VERIFY)
		(void)verified(x);
	else
		(void)probed(x);
	request_drive(c);
}

/* --- whom to ask ------------------------------------------------------------------------------ */

/* The upstream that the question is about. False: it names none, and there is more than one. */
static bool
choose(struct exchange *x)
{
	struct request *req = x->req;
	const struct route_table *t = req->s->routes;

	if (x->q.names && x->q.number > 0)
		return route_to(t, x->q.number, &req->arena, &req->route);
	if (x->q.names)
		return route_default(t, &req->arena, &req->route);
	return route_only(t, &req->arena, &req->route);
}

static enum step
begin(struct exchange *x, const char *parameters)
{
	struct request *req = x->req;
	struct realm_memory m;
	const char *authorization = http_header_get(&req->head, "Authorization");

	token_question_read(req->s->routes, parameters, &req->arena, &x->q);
	x->basic = http_is_scheme(authorization, "Basic") ? authorization : NULL;
	if (x->q.trouble != NULL) {
		(void)request_fail(req, 400, "UNSUPPORTED", "%s", x->q.trouble);
		return ended(x);
	}
	if (!choose(x)) {
		if (!x->q.names) /* a login whose registry is not known: nobody can be asked */
			return give_own(x, NULL);
		(void)request_fail(
		    req, 400, "NAME_UNKNOWN", "the scope names no registry that is configured");
		return ended(x);
	}
	/* the cache asks with a credential of its own, or with none: the client's goes nowhere */
	if (registries_asker(req->s->registries, req->route.registry) != ASKER_CLIENT)
		return give_own(x, NULL);
	x->repository = x->q.repository != NULL ? x->q.repository : "";
	if (realms_find(req->s->realms, req->route.upstream, x->repository, clock_ms(), &m))
		return by_memory(x, &m);
	if (*x->repository == '\0')
		return ask_registry(x, PHASE_PROBE, "GET", "/v2/", NULL);
	return ask_registry(x, PHASE_PROBE, "HEAD",
	    arena_printf(&req->arena, "/v2/%s/manifests/latest", x->repository), NULL);
}

/* --- the request ------------------------------------------------------------------------------ */

static enum step
bad_form(struct exchange *x, const char *why)
{
	x->req->keep_alive = false;
	(void)request_fail(x->req, 400, "UNSUPPORTED", "%s", why);
	return ended(x);
}

static enum step
read_form(struct exchange *x)
{
	struct request *req = x->req;
	const char *text;

	if (!http_body_read(&x->body, conn_input(req->conn), &x->form,
		FORM_MAX + 1 - buf_len(&x->form)))
		return bad_form(x, "the request's body is not encoded as its head says");
	conn_consumed(req->conn);
	if (buf_len(&x->form) > FORM_MAX)
		return bad_form(x, "the form is too large");
	x->waits_for_client = !x->body.done;
	conn_set_phase(req->conn, x->waits_for_client ? CONN_READING : CONN_BUSY);
	if (x->waits_for_client)
		return STEP_WAIT;
	text = arena_strndup(&req->arena, (const char *)buf_data(&x->form), buf_len(&x->form));
	if (strlen(text) != buf_len(&x->form))
		return bad_form(x, "the form cannot be read");
	return begin(x, text);
}

static enum step
begin_form(struct exchange *x)
{
	struct conn *c = x->req->conn;

	if (x->req->head.expect_continue && !x->body.done) {
		conn_send(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
		conn_flush(c);
	}
	return conn_get_phase(c) == CONN_CLOSED ? STEP_WAIT : read_form(x);
}

static enum step
start(struct request *req)
{
	struct exchange *x = xcalloc(1, sizeof(*x));
	const char *query = req->head.target + strcspn(req->head.target, "?");

	req->exchange = x;
	x->req = req;
	x->repository = "";
	http_body_init(&x->body, &req->head);
	if (req->s->login != NULL || (req->head.method != HTTP_GET && req->head.method != HTTP_POST)) {
		(void)request_fail(req, 404, "UNSUPPORTED", "no token is given by this");
		return ended(x);
	}
	if (req->head.method == HTTP_POST)
		return begin_form(x);
	if (!x->body.done)
		return bad_form(x, "a request without a body was expected");
	return begin(x, *query == '?' ? query + 1 : NULL);
}

void
exchange_input(struct request *req)
{
	if (req->exchange->waits_for_client)
		request_drive(req->conn);
}

enum step
step_token(struct request *req)
{
	struct exchange *x = req->exchange;

	if (x == NULL)
		return start(req);
	if (x->phase == PHASE_ENDED)
		return STEP_DONE;
	return x->waits_for_client ? read_form(x) : STEP_WAIT;
}
