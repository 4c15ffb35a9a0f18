/* The life of a call, from upstream_start() over its hops to ops->done; and what callers may do to
 * it. Callers only set flags here: libcurl is spoken to from call_step() and call_hop_ended(),
 * which run outside of its callbacks.
 */
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "upstream_private.h"
#include "xalloc.h"

enum { MAX_IDLE = 128 };

/* --- handles, used again --- */

static struct upstream_call *
call_new(struct upstream *u)
{
	struct upstream_call *c = TAILQ_FIRST(&u->idle);

	if (c != NULL) {
		TAILQ_REMOVE(&u->idle, c, entry);
		u->nidle--;
		return c;
	}
	c = xcalloc(1, sizeof(*c));
	c->u = u;
	c->easy = setup_easy(c);
	if (c->easy == NULL)
		panic("libcurl gave a handle before and does not now");
	arena_init(&c->arena, UPSTREAM_ARENA);
	return c;
}

void
call_free(struct upstream_call *c)
{
	curl_easy_cleanup(c->easy);
	arena_reset(&c->arena);
	head_free(&c->head);
	free(c);
}

/* Everything but the handle, and what embraces it, is forgotten. */
static void
call_clear(struct upstream_call *c)
{
	head_reset(&c->head);
	arena_reset(&c->arena);
	memset(&c->request, 0, sizeof(*c) - offsetof(struct upstream_call, request));
}

/* The call is over: nobody knows it any more. */
static void
release(struct upstream_call *c)
{
	struct upstream *u = c->u;

	if (c->in_multi)
		curl_multi_remove_handle(u->multi, c->easy);
	c->in_multi = false;
	upstream_unschedule(c);
	if (c->has_turned)
		TAILQ_REMOVE(&u->turned, c, turn_entry);
	TAILQ_REMOVE(&u->calls, c, entry);
	if (u->nidle >= MAX_IDLE) {
		call_free(c);
		return;
	}
	call_clear(c);
	TAILQ_INSERT_HEAD(&u->idle, c, entry);
	u->nidle++;
}

/* --- how it ended --- */

const char *
upstream_result_name(enum upstream_result r)
{
	static const char *const names[] = {
	    [UPSTREAM_OK] = "ok",
	    [UPSTREAM_CONNECT] = "no connection",
	    [UPSTREAM_TIMEOUT] = "timed out",
	    [UPSTREAM_UNTRUSTED] = "certificate not trusted",
	    [UPSTREAM_BROKEN] = "broken",
	    [UPSTREAM_PROTOCOL] = "protocol error",
	    [UPSTREAM_REDIRECT] = "bad redirect",
	    [UPSTREAM_BODY_FAILED] = "request body failed",
	    [UPSTREAM_DOWN] = "down",
	    [UPSTREAM_SILENT] = "down",
	};

	return names[r];
}

bool
upstream_may_pass(enum upstream_result r)
{
	return r == UPSTREAM_CONNECT || r == UPSTREAM_TIMEOUT || r == UPSTREAM_BROKEN;
}

bool
call_fault(struct upstream_call *c, enum upstream_result r, const char *text)
{
	if (!c->failed) {
		c->failed = true;
		c->fault = r;
		c->fault_text = text;
	}
	return false;
}

static enum upstream_result
result_of(const struct upstream_call *c, CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return UPSTREAM_OK;
	case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9 and other noise */
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_URL_MALFORMAT:
	case CURLE_OUT_OF_MEMORY: /* a header line longer than libcurl's limit */
		return UPSTREAM_PROTOCOL;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_ISSUER_ERROR:
		return UPSTREAM_UNTRUSTED;
	case CURLE_OPERATION_TIMEDOUT:
		return c->answered ? UPSTREAM_BROKEN : UPSTREAM_TIMEOUT;
	default:
		return c->answered ? UPSTREAM_BROKEN : UPSTREAM_CONNECT;
	}
}

void
call_end_turn(struct upstream_call *c)
{
	struct upstream *u = c->u;

	if (!c->has_turned)
		return;
	TAILQ_REMOVE(&u->turned, c, turn_entry);
	c->has_turned = false;
	c->turn_bytes = 0;
	if (c->cancelled)
		return;
	if (c->recv_held && !c->user_paused)
		upstream_schedule(c);
	if (c->ops.turn != NULL)
		c->ops.turn(c->arg);
}

static void
end(struct upstream_call *c, CURLcode code)
{
	enum upstream_result r = c->failed ? c->fault : result_of(c, code);
	const char *detail = c->failed ? c->fault_text : c->curl_error;

	if (code != CURLE_OK && c->address_refused && !c->answered) {
		r = UPSTREAM_REDIRECT;
		detail = "redirect to a private address";
	} else if (!c->failed && (code == CURLE_OK || *detail == '\0')) {
		detail = code == CURLE_OK ? "" : curl_easy_strerror(code);
	}
	call_end_turn(c);
	c->ending = true;
	if (!c->cancelled)
		c->ops.done(c->arg, r, detail);
	release(c);
}

/* A kept connection may hold the rest of an old answer, or be dead in a way that libcurl does
 * not see: once more then. */
static bool
deserves_retry(const struct upstream_call *c, CURLcode code)
{
	long connects = 1;

	if (code == CURLE_OK || c->answered || c->failed || c->fresh || c->address_refused)
		return false;
	if (!setup_repeatable(&c->request))
		return false;
	curl_easy_getinfo(c->easy, CURLINFO_NUM_CONNECTS, &connects);
	return connects == 0 && code != CURLE_OPERATION_TIMEDOUT;
}

void
call_hop_ended(struct upstream_call *c, CURLcode code)
{
	bool retry = deserves_retry(c, code);

	curl_multi_remove_handle(c->u->multi, c->easy);
	c->in_multi = false;
	if (c->cancelled) {
		release(c);
	} else if (c->next_url != NULL && !c->failed) {
		redirect_take(c);
		upstream_schedule(c);
	} else if (retry) {
		c->fresh = true;
		upstream_schedule(c);
	} else {
		end(c, code);
	}
}

/* --- what is due --- */

static void
begin_hop(struct upstream_call *c)
{
	head_reset(&c->head);
	c->recv_held = c->send_held = c->resume_send = false;
	if (!setup_hop(c)) {
		end(c, CURLE_URL_MALFORMAT);
		return;
	}
	watch_begin(c);
	if (curl_multi_add_handle(c->u->multi, c->easy) != CURLM_OK)
		panic("libcurl does not take a handle");
	c->in_multi = true;
}

/* Note that libcurl may call back from inside curl_easy_pause(), and hold again. */
static void
go_on(struct upstream_call *c)
{
	bool recv = c->recv_held && !c->user_paused;
	bool send = c->send_held && c->resume_send;
	int still;

	c->resume_send = false;
	if (!recv && !send)
		return;
	still = (c->recv_held && !recv ? CURLPAUSE_RECV : 0) |
	    (c->send_held && !send ? CURLPAUSE_SEND : 0);
	c->recv_held = c->recv_held && !recv;
	c->send_held = c->send_held && !send;
	if (curl_easy_pause(c->easy, still) == CURLE_WRITE_ERROR)
		call_hop_ended(c, CURLE_WRITE_ERROR);
}

void
call_step(struct upstream_call *c)
{
	if (c->cancelled)
		release(c);
	else if (!c->in_multi)
		begin_hop(c);
	else
		go_on(c);
}

/* --- what callers may do --- */

struct upstream_call *
upstream_start(
    struct upstream *u, const struct upstream_request *r, const struct upstream_ops *ops, void *arg)
{
	struct upstream_call *c = call_new(u);

	c->ops = *ops;
	c->arg = arg;
	setup_copy_request(c, r);
	c->body_left = r->has_body ? r->body_length : 0;
	c->body_ended = !r->has_body || r->body_length == 0;
	TAILQ_INSERT_TAIL(&u->calls, c, entry);
	upstream_schedule(c);
	watch_arm(u);
	return c;
}

bool
upstream_is_redirected(const struct upstream_call *c)
{
	return c->redirects > 0 || c->next_url != NULL;
}

void
upstream_pause(struct upstream_call *c)
{
	c->user_paused = true;
}

void
upstream_resume(struct upstream_call *c)
{
	c->user_paused = false;
	c->resume_send = true;
	if (c->recv_held || c->request.has_body)
		upstream_schedule(c);
}

void
upstream_cancel(struct upstream_call **call)
{
	struct upstream_call *c = *call;

	*call = NULL;
	if (c == NULL)
		return;
	c->cancelled = true;
	if (!c->ending)
		upstream_schedule(c);
}
