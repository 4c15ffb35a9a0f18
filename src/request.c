/* Requests: their life and the machine that runs their steps. */
#include "request.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "clock.h"
#include "log.h"
#include "login.h"
#include "notes.h"
#include "request_private.h"
#include "shm.h"
#include "xalloc.h"

enum {
	ARENA_EXTRA = 65536, /* of a request's arena, besides two copies of its head */
	DRIVE_MAX = 64,      /* requests of one connection in one turn of the loop */
};

static enum step step_route(struct request *req);
static enum step
step_done(struct request *req)
{
	(void)req;
	return STEP_DONE;
}

static const struct {
	const char *name;
	enum step (*step)(struct request *req);
} steps[] = {
    [REQUEST_LOGIN] = {"login", step_login},
    [REQUEST_ROUTE] = {"route", step_route},
    [REQUEST_LOOKUP] = {"lookup", step_lookup},
    [REQUEST_CHECK] = {"check", step_check},
    [REQUEST_RESOLVE] = {"resolve", step_resolve},
    [REQUEST_JOIN] = {"join", step_join},
    [REQUEST_FILL] = {"fill", step_fill},
    [REQUEST_ADMIT] = {"admit", step_admit},
    [REQUEST_HEAD] = {"head", step_head},
    [REQUEST_BODY] = {"body", step_body},
    [REQUEST_RANGED] = {"ranged", step_ranged},
    [REQUEST_PASS] = {"pass", step_pass},
    [REQUEST_UNCACHED] = {"uncached", step_uncached},
    [REQUEST_TOKEN] = {"token", step_token},
    [REQUEST_DONE] = {"done", step_done},
};

const char *
request_state_name(enum request_state s)
{
	return steps[s].name;
}

void
request_goto(struct request *req, enum request_state state)
{
	log_trace("request %" PRIx64 ": %s -> %s", req->id, request_state_name(req->state),
	    request_state_name(state));
	req->state = state;
}

void
services_init(struct services *s)
{
	*s = (struct services){0};
	TAILQ_INIT(&s->waiting);
}

/* --- route ------------------------------------------------------------------------------------ */

static enum step
route_failed(struct request *req, enum route_result r)
{
	const char *host = req->head.host;
	const char *target =
	    arena_strndup(&req->arena, req->head.target, strcspn(req->head.target, "?"));

	switch (r) {
	case ROUTE_NO_UPSTREAM:
		return request_fail(req, 404, "NAME_UNKNOWN",
		    "no registry is configured for the host \"%s\"", host);
	case ROUTE_UNKNOWN:
		return request_fail(req, 404, "NAME_UNKNOWN", "%s", req->route.trouble);
	case ROUTE_CONFLICT:
		return request_fail(req, 400, "NAME_INVALID", "%s", req->route.trouble);
	case ROUTE_BAD_HOST:
		return request_fail(
		    req, 400, "NAME_INVALID", "the host \"%s\" leads to no valid registry", host);
	case ROUTE_BAD_NAME:
		return request_fail(
		    req, 400, "NAME_INVALID", "no valid repository name: %.200s", target);
	case ROUTE_BAD_DIGEST:
		return request_fail(req, 400, "DIGEST_INVALID", "no valid digest: %.200s", target);
	case ROUTE_BAD_REFERENCE:
		return request_fail(
		    req, 400, "MANIFEST_INVALID", "no valid tag or digest: %.200s", target);
	default:
		return request_fail(req, 400, "UNSUPPORTED", "no valid path: %.200s", target);
	}
}

static bool
is_object(enum route_kind k)
{
	return k == ROUTE_MANIFEST || k == ROUTE_BLOB;
}

static bool
has_body(const struct http_head *h)
{
	return h->chunked || h->body_length != 0;
}

static enum step
step_route(struct request *req)
{
	struct http_head *h = &req->head;
	bool reading = h->method == HTTP_GET || h->method == HTTP_HEAD;
	const struct route_question q = {
	    h->host, h->target, http_header_joined(h, "X-Dragonfly-Registry", &req->arena), reading};
	enum step step;
	enum route_result r = route_request(req->s->routes, &q, &req->arena, &req->route);

	if (r != ROUTE_OK)
		return route_failed(req, r);
	if (req->route.kind == ROUTE_TOKEN) {
		request_goto(req, REQUEST_TOKEN);
		return STEP_NEXT;
	}
	if (req->s->read_only && !reading && h->method != HTTP_OPTIONS)
		return request_fail(req, 405, "UNSUPPORTED", "this cache is read-only");
	if (has_body(h) && req->route.kind != ROUTE_PASS)
		return request_fail(
		    req, 400, "UNSUPPORTED", "a request without a body was expected");
	req->authorization = req->s->login != NULL ? NULL : request_credential(req);
	req->accept = http_header_joined(h, "Accept", &req->arena);
	if (arena_failed(&req->arena))
		return request_fail(req, 400, "UNSUPPORTED", "the request head is too large");
	if (request_held(req, reading, &step))
		return step;
	if (req->route.kind == ROUTE_OWN_PING)
		return request_own_ping(req);
	req->digest = req->route.digest;
	req->has_digest = req->route.has_digest;
	if (is_object(req->route.kind))
		request_goto(req, req->has_digest ? REQUEST_LOOKUP : REQUEST_CHECK);
	else
		request_goto(req, REQUEST_PASS);
	return STEP_NEXT;
}

/* --- life ------------------------------------------------------------------------------------- */

static struct request *
request_new(struct conn *c)
{
	struct services *s = conns_user(c);
	struct request *req = xcalloc(1, sizeof(*req));

	req->conn = c;
	req->s = s;
	req->fd = -1;
	req->size = -1;
	req->end = UINT64_MAX;
	req->media_type = "";
	req->started_us = clock_us();
	req->started_ms = req->started_us / 1000;
	arena_init(&req->arena, 2 * s->max_head + ARENA_EXTRA);
	return req;
}

/* Lets go of everything that the request holds, in any state. */
static void
request_free(struct request *req)
{
	if (req->s->access_log)
		request_log(req);
	request_measure(req);
	shm_count(req->s->shm, req->s->listener, COUNT_BYTES_SENT, req->bytes);
	if (req->in_admit)
		TAILQ_REMOVE(&req->s->waiting, req, admit);
	request_release_place(req);
	login_cancel(&req->login);
	check_cancel(&req->ticket);
	fill_leave(&req->fill);
	registry_cancel(&req->spare);
	pass_free(&req->pass);
	uncached_free(&req->uncached);
	ranged_free(&req->ranged);
	resolve_free(&req->resolve);
	exchange_free(&req->exchange);
	notes_free(&req->notes);
	if (req->fd >= 0)
		close(req->fd);
	arena_reset(&req->arena);
	free(req);
}

static void
request_end(struct request *req)
{
	struct conn *c = req->conn;
	bool keep_alive = req->keep_alive;

	conn_set_user(c, NULL);
	request_free(req);
	if (conn_get_phase(c) == CONN_CLOSED)
		return;
	if (!keep_alive)
		conn_finish(c, "answered");
	else
		conn_set_phase(c, buf_len(conn_input(c)) > 0 ? CONN_READING : CONN_IDLE);
}

/* --- beginning -------------------------------------------------------------------------------- */

static void
begin(struct request *req)
{
	struct services *s = req->s;

	req->id = ++s->last_id << 8 | s->listener;
	req->keep_alive = req->head.keep_alive && req->head.minor > 0 && !s->draining;
	conn_set_user(req->conn, req);
	conn_set_phase(req->conn, CONN_BUSY);
	shm_count(s->shm, s->listener, COUNT_REQUESTS, 1);
}

static void
begin_bad(struct request *req, const char *error)
{
	begin(req);
	req->keep_alive = false;
	req->head = (struct http_head){.minor = 1, .method = HTTP_OTHER}; /* what was read of it is not whole */
	request_goto(req, REQUEST_DONE);
	(void)request_fail(req, 400, "UNSUPPORTED", "bad request: %s", error);
}

/* Is it worth while to read what has come? Who sends a byte at a time must not have us read all of it
 * for each: again only at its end, or when it is twice as much. */
static bool
may_be_whole(struct conn *c)
{
	const struct services *s = conns_user(c);
	const struct buf *in = conn_input(c);
	size_t n = buf_len(in), seen = conn_seen(c), from = seen < 3 ? 0 : seen - 3;

	return seen == 0 || n >= 2 * seen || n >= s->max_head ||
	    memmem(buf_data(in) + from, n - from, "\r\n\r\n", 4) != NULL;
}

/* Reads the next head. False: there is none yet. */
static bool
begin_next(struct conn *c)
{
	struct buf *in = conn_input(c);
	struct request *req;
	const char *error = NULL;
	size_t consumed = 0;

	if (buf_len(in) == 0 || conn_has_output(c) || !may_be_whole(c))
		return false;
	req = request_new(c);
	switch (http_parse_head(
	    (const char *)buf_data(in), buf_len(in), &req->arena, &req->head, &consumed, &error)) {
	case HTTP_OK:
		if (consumed > req->s->max_head) { /* it came all at once */
			begin_bad(req, "the head is too large");
			return true;
		}
		buf_consume(in, consumed);
		conn_consumed(c);
		begin(req);
		if (request_is_too_many(req))
			request_goto(req, REQUEST_DONE);
		return true;
	case HTTP_BAD:
		begin_bad(req, error);
		return true;
	default:
		break;
	}
	if (buf_len(in) >= req->s->max_head) {
		begin_bad(req, "the head is too large");
		return true;
	}
	conn_set_seen(c, buf_len(in));
	arena_reset(&req->arena);
	free(req);
	if (conn_get_phase(c) == CONN_IDLE)
		conn_set_phase(c, CONN_READING);
	return false;
}

/* --- the machine ------------------------------------------------------------------------------ */

/* True: the request has ended. */
static bool
run_steps(struct request *req)
{
	struct conn *c = req->conn;
	enum step result;

	do
		result = steps[req->state].step(req);
	while (result == STEP_NEXT && conn_get_phase(c) != CONN_CLOSED);
	/* a step that sends may find the connection broken: then the request is gone already */
	return result == STEP_DONE && conn_get_phase(c) != CONN_CLOSED;
}

void
request_drive(struct conn *c)
{
	for (int i = 0; i < DRIVE_MAX; i++) {
		struct request *req = conn_user(c);

		if (conn_get_phase(c) == CONN_CLOSED || conn_get_phase(c) == CONN_LINGER)
			return;
		if (req == NULL && !begin_next(c))
			return;
		req = conn_user(c);
		if (!run_steps(req))
			return;
		request_end(req);
		if (conn_get_phase(c) != CONN_CLOSED)
			conn_flush(c);
	}
	conn_kick(c); /* other connections get their turn */
}

static void
on_input(struct conn *c)
{
	struct request *req = conn_user(c);

	if (req == NULL)
		request_drive(c);
	else if (req->pass != NULL)
		pass_input(req);
	else if (req->exchange != NULL)
		exchange_input(req);
}

void
request_turn(struct request *req)
{
	struct conn *c = req->conn; /* it may close, and free the request */

	if (conn_flush(c))
		request_drive(c);
}

static void
on_gone(struct conn *c, const char *reason)
{
	struct request *req = conn_user(c);
	struct services *s = conns_user(c);

	shm_connections_add(s->shm, s->listener, -1);
	shm_address_add(s->shm, s->listener, conn_address(c), -1);
	if (req == NULL)
		return;
	log_debug("request %" PRIx64 ": ended in %s: %s", req->id, request_state_name(req->state),
	    reason);
	if (reason == conn_file_unreadable)
		request_unreadable(req);
	conn_set_user(c, NULL);
	request_free(req);
}

const struct conn_hooks request_hooks = {on_input, request_drive, on_gone};

void
request_drain(struct conn *c)
{
	struct request *req = conn_user(c);

	if (req != NULL)
		req->keep_alive = false;
	else if (conn_get_phase(c) == CONN_IDLE || conn_get_phase(c) == CONN_READING)
		conn_close(c, "draining");
}
