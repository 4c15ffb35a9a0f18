/* Pass-through: what the cache does not keep is streamed both ways with bounded memory. What the
 * client sends waits in the socket while the upstream is slow, and the other way round. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "log.h"
#include "refusal.h"
#include "registry.h"
#include "request_private.h"
#include "shm.h"
#include "xalloc.h"

enum { PASS_HIGH_WATER = 256 * 1024, PASS_BLOCK = 65536 };

struct pass {
	struct request *req;
	struct registry_call *call;
	struct http_body body; /* of the request */
	struct buf up;         /* of it: decoded, not yet taken by the upstream */
	int64_t promised;      /* Content-Length of the answer, -1: none */
	bool waits_for_client, paused, ended, broken, no_body, bad_body;
};

void
pass_free(struct pass **pp)
{
	struct pass *p = *pp;

	if (p == NULL)
		return;
	registry_cancel(&p->call);
	buf_free(&p->up);
	free(p);
	*pp = NULL;
}

/* --- what is asked ---------------------------------------------------------------------------- */

/* Fields of the request that are not the upstream's business, or that the upstream module sets
 * itself (WIRE.md 3.2, 3.4). What a load balancer says of the client is for us: a registry would make its
 * URLs of it (registry/api/v2/urls.go of distribution). */
static bool
is_forwarded(const char *name)
{
	static const char *const kept_back[] = {"Host", "Content-Length", "Authorization",
	    "Accept-Encoding", "Cookie", "Expect", "Proxy-Authorization", "X-Dragonfly-Registry",
	    "Forwarded", "X-Real-IP"};
	static const char forwarded[] = "X-Forwarded-";

	if (http_is_hop_by_hop(name) || strncasecmp(name, forwarded, strlen(forwarded)) == 0)
		return false;
	for (size_t i = 0; i < sizeof(kept_back) / sizeof(kept_back[0]); i++)
		if (http_name_is(name, kept_back[i]))
			return false;
	return true;
}

static size_t
forwarded_fields(struct request *req, struct upstream_header *out)
{
	const char *connection = http_header_joined(&req->head, "Connection", &req->arena);
	size_t n = 0;

	for (size_t i = 0; i < req->head.nheaders; i++)
		if (is_forwarded(req->head.headers[i].name) &&
		    !http_connection_names(connection, req->head.headers[i].name))
			out[n++] = (struct upstream_header){
			    req->head.headers[i].name, req->head.headers[i].value};
	return n;
}

/* --- the request's body ----------------------------------------------------------------------- */

/* The client's bytes, decoded. A client that sends nothing has the time that CONN_READING gives. */
static enum upstream_body
on_body(void *arg, void *to, size_t size, size_t *n)
{
	struct pass *p = arg;
	struct request *req = p->req;

	if (buf_len(&p->up) == 0 &&
	    !http_body_read(&p->body, conn_input(req->conn), &p->up, PASS_BLOCK)) {
		p->bad_body = true;
		return UPSTREAM_BODY_FAIL;
	}
	conn_consumed(req->conn);
	*n = buf_len(&p->up) < size ? buf_len(&p->up) : size;
	if (*n > 0) {
		memcpy(to, buf_data(&p->up), *n);
		buf_consume(&p->up, *n);
	}
	p->waits_for_client = *n == 0 && !p->body.done;
	conn_set_phase(req->conn, p->waits_for_client ? CONN_READING : CONN_BUSY);
	return p->waits_for_client ? UPSTREAM_BODY_WAIT : UPSTREAM_BODY_DATA;
}

void
pass_input(struct request *req)
{
	struct pass *p = req->pass;

	if (!p->waits_for_client || p->call == NULL)
		return;
	p->waits_for_client = false;
	registry_resume(p->call);
}

static bool
body_unread(const struct pass *p)
{
	return !p->body.done;
}

/* --- the answer ------------------------------------------------------------------------------- */

static bool
answer_has_no_body(const struct request *req, int status)
{
	return req->head.method == HTTP_HEAD || status == 204 || status == 304;
}

static const char *
outcome(const struct request *req, int status)
{
	if (status == 401 || status == 403 || status == 404 || status == 429)
		return "denied";
	return req->route.kind == ROUTE_PING ? "ping" : "passed";
}

/* The registry's answer is not for the client, who is given one of ours. True: that was so, and
 * the request may be gone. */
static bool
answered_instead(struct pass *p, const struct upstream_answer *a)
{
	struct request *req = p->req;
	struct conn *c = req->conn;

	switch (request_judge(req, a)) {
	case VERDICT_RELAY:
		return false;
	case VERDICT_BAD_STATUS:
		(void)request_bad_status(req, a->status, upstream_header(a, "Retry-After", 0));
		break;
	case VERDICT_OWN:
		(void)request_refuse_own(req, (int)a->asker, a->status);
		break;
	case VERDICT_NO_ANSWER:
		(void)request_no_answer(req, UPSTREAM_PROTOCOL, "a page of HTML");
		break;
	case VERDICT_NO_REFERRERS:
		(void)request_fail(req, 404, "UNSUPPORTED",
		    "the registry %s has no list of referrers", req->route.upstream);
		break;
	}
	registry_cancel(&p->call);
	p->ended = true;
	request_drive(c);
	return true;
}

static void
on_head(void *arg, const struct upstream_answer *a)
{
	struct pass *p = arg;
	struct request *req = p->req;
	struct buf *out;

	request_revoked(req, a->status);
	if (answered_instead(p, a))
		return;
	if (body_unread(p)) /* the upstream has decided before the body was read */
		req->keep_alive = false;
	p->promised = a->content_length;
	p->no_body = answer_has_no_body(req, a->status);
	req->chunked = !p->no_body && p->promised < 0 && req->head.minor > 0;
	if (!p->no_body && p->promised < 0 && req->head.minor == 0)
		req->keep_alive = false;
	out = request_begin(req, request_told(req, a->status));
	req->outcome = outcome(req, a->status);
	req->answer_host = a->host_name;
	request_relay_fields(req, out, a->headers, a->nheaders);
	req->answer_host = NULL; /* it was the answer's */
	if (a->status == 401 && request_has_own_realm(req))
		request_own_challenge(req, out, a->headers, a->nheaders);
	if (req->chunked)
		http_field(out, "Transfer-Encoding", "chunked");
	else if (p->promised >= 0 && a->status != 204 && a->status != 304)
		http_field_u64(out, "Content-Length", (uint64_t)p->promised);
	http_end(out);
}

static void
on_data(void *arg, const void *data, size_t n)
{
	struct pass *p = arg;
	struct request *req = p->req;

	if (p->no_body || n == 0)
		return;
	if (req->chunked)
		buf_printf(conn_output(req->conn), "%zx\r\n", n);
	conn_send(req->conn, data, n);
	if (req->chunked)
		conn_send(req->conn, "\r\n", 2);
	req->bytes += n;
	if (!p->paused && buf_len(conn_output(req->conn)) > PASS_HIGH_WATER) {
		p->paused = true;
		registry_pause(p->call);
	}
}

static void
on_turn(void *arg)
{
	const struct pass *p = arg;

	request_turn(p->req);
}

static void
ended(struct pass *p, enum upstream_result r, const char *detail)
{
	struct request *req = p->req;
	bool short_body = !p->no_body && p->promised >= 0 && req->bytes < (uint64_t)p->promised;

	p->ended = true;
	if (p->bad_body) {
		(void)request_fail(
		    req, 400, "UNSUPPORTED", "the request's body is not encoded as its head says");
	} else if (!req->head_sent) {
		(void)request_no_answer(req, r == UPSTREAM_OK ? UPSTREAM_PROTOCOL : r, detail);
	} else if (r != UPSTREAM_OK || short_body) {
		(void)request_cut(req,
		    detail != NULL && *detail != '\0' ? detail
						      : "the registry's answer ended early");
		p->broken = true;
	} else if (req->chunked) {
		conn_send(req->conn, "0\r\n\r\n", 5);
	}
}

static void
on_done(void *arg, enum upstream_result r, const char *detail)
{
	struct pass *p = arg;
	struct conn *c = p->req->conn;

	p->call = NULL;
	if (body_unread(p))
		p->req->keep_alive = false;
	ended(p, r, detail);
	request_drive(c);
}

/* --- the step --------------------------------------------------------------------------------- */

static void
start(struct request *req)
{
	static const struct upstream_ops ops = {on_head, on_data, on_done, on_body, on_turn};
	bool reading = req->head.method == HTTP_GET || req->head.method == HTTP_HEAD;
	struct pass *p = xcalloc(1, sizeof(*p));
	struct upstream_header headers[HTTP_MAX_HEADERS];
	struct upstream_request r = {
	    .method = req->head.method_name,
	    .scheme = req->route.scheme,
	    .host = req->route.host,
	    .registry = req->route.registry,
	    .target = req->route.target,
	    .authorization = req->authorization,
	    .headers = headers,
	    .range_first = -1,
	    .range_last = -1,
	    .follow = reading,
	    .deadline_ms = reading ? request_deadline(req) : 0,
	    .first_host = req->first_host,
	    .has_body = req->head.chunked || req->head.body_length > 0 || !reading,
	    .body_length = req->head.body_length,
	};

	p->req = req;
	p->promised = -1;
	http_body_init(&p->body, &req->head);
	r.nheaders = forwarded_fields(req, headers);
	req->pass = p;
	shm_count(req->s->shm, req->s->listener, COUNT_PASSED, 1);
	if (req->head.expect_continue && body_unread(p)) {
		conn_send(req->conn, "HTTP/1.1 100 Continue\r\n\r\n", 25);
		conn_flush(req->conn);
	}
	if (conn_get_phase(req->conn) != CONN_CLOSED)
		p->call = registry_start(req->s->registries, &r, &ops, p);
}

enum step
step_pass(struct request *req)
{
	struct pass *p = req->pass;

	if (p == NULL) {
		start(req);
		return STEP_WAIT;
	}
	if (p->ended)
		return STEP_DONE;
	if (p->paused && !conn_has_output(req->conn)) {
		p->paused = false;
		registry_resume(p->call);
	}
	return STEP_WAIT;
}
