/* What libcurl calls back with: header lines, body bytes, and the wish for bytes to upload. Runs
 * inside libcurl, so nothing here calls it; what is to be done is left to the next turn
 * (upstream_schedule).
 */
#include <string.h>

#include "upstream_private.h"

/* --- the head --- */

bool
stream_upload_refused(const struct upstream_call *c)
{
	return c->answered && c->head.status >= 300 && c->request.has_body && !c->body_ended;
}

static const char *
registry_digest(const struct upstream_call *c)
{
	const char *own = c->foreign ? NULL : head_get(&c->head, "Docker-Content-Digest");

	return own != NULL ? own : c->registry_digest;
}

static bool
give_head(struct upstream_call *c)
{
	struct upstream_answer a = {
	    .status = c->head.status,
	    .headers = head_fields(&c->head, &c->arena),
	    .nheaders = c->head.count,
	    .registry_digest = registry_digest(c),
	    .redirects = c->redirects,
	};

	if (a.headers == NULL)
		return call_fault(c, UPSTREAM_PROTOCOL, "the answer's head is too large");
	if (!head_content_length(&c->head, &a.content_length))
		return call_fault(
		    c, UPSTREAM_PROTOCOL, "the answer's Content-Length makes no sense");
	c->answered = true;
	watch_restart(c);
	if (stream_upload_refused(c)) {
		/* libcurl does not end a transfer whose upload is held, though its answer has
		 * ended. */
		c->resume_send = true;
		upstream_schedule(c);
	}
	if (c->ops.head != NULL)
		c->ops.head(c->arg, &a);
	return true;
}

size_t
stream_header(char *p, size_t size, size_t n, void *arg)
{
	struct upstream_call *c = arg;
	bool ok = !c->cancelled;

	n *= size;
	if (!ok)
		return 0;
	switch (head_line(&c->head, p, n)) {
	case HEAD_MORE:
		break;
	case HEAD_BAD:
		ok = call_fault(c, UPSTREAM_PROTOCOL, "the answer's head is broken or too large");
		break;
	case HEAD_FINAL:
		ok = redirect_wanted(c) ? redirect_note(c) : give_head(c);
		break;
	}
	return ok ? n : 0;
}

/* --- the body --- */

/* A redirect's body is read to keep its connection, unless it is long. */
static size_t
discard(struct upstream_call *c, size_t n)
{
	c->discarded += n;
	return c->discarded <= UPSTREAM_MAX_DISCARD ? n : 0;
}

size_t
stream_body(char *p, size_t size, size_t n, void *arg)
{
	struct upstream_call *c = arg;

	n *= size;
	if (c->cancelled)
		return 0;
	if (c->next_url != NULL)
		return discard(c, n);
	if (c->user_paused || c->turn_bytes + n > UPSTREAM_TURN_BYTES) {
		c->recv_held = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	c->turn_bytes += n;
	c->moved += n;
	upstream_mark_turn(c);
	c->ops.data(c->arg, p, n);
	return n;
}

/* --- the upload --- */

static size_t
hold_upload(struct upstream_call *c)
{
	c->send_held = true;
	return CURL_READFUNC_PAUSE;
}

static size_t
fail_upload(struct upstream_call *c, const char *why)
{
	call_fault(c, UPSTREAM_BODY_FAILED, why);
	return CURL_READFUNC_ABORT;
}

static size_t
took_upload(struct upstream_call *c, size_t n)
{
	c->moved += n;
	if (c->request.body_length >= 0) {
		if (n == 0 && c->body_left > 0)
			return fail_upload(c, "the request's body ended early");
		c->body_left -= (int64_t)n;
	}
	c->body_ended = n == 0 || c->body_left == 0;
	return n;
}

size_t
stream_upload(char *p, size_t size, size_t n, void *arg)
{
	struct upstream_call *c = arg;
	size_t got = 0;

	n *= size;
	if (c->cancelled)
		return CURL_READFUNC_ABORT;
	if (stream_upload_refused(c)) /* never end a body that was not sent whole */
		return hold_upload(c);
	if (c->body_ended)
		return 0;
	if (c->request.body_length >= 0 && (int64_t)n > c->body_left)
		n = (size_t)c->body_left;
	switch (c->ops.body(c->arg, p, n, &got)) {
	case UPSTREAM_BODY_DATA:
		return took_upload(c, got);
	case UPSTREAM_BODY_WAIT:
		return hold_upload(c);
	case UPSTREAM_BODY_FAIL:
		break;
	}
	return fail_upload(c, "the request's body could not be read");
}
