/* A part of an object that is not on disk, fetched by itself with the client's own credentials and
 * passed through: because the one fill of the object has not come so far (WIRE.md 7.2), or because
 * there is none. Its bytes cannot be checked against the digest: that is the client's to do, when it has
 * put the parts together.
 *
 * Beside a fill, whatever goes wrong ends in waiting for the fill. Alone, it is tried again, and an
 * upstream without ranges sends the whole, of which the part is taken: a range is answered with 206
 * always (WIRE.md 7.1). */
#include <event2/event.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "notes.h"
#include "refusal.h"
#include "registry.h"
#include "request_private.h"
#include "shm.h"
#include "xalloc.h"

enum {
	RANGED_WAIT_MS = 700,          /* how long bytes are waited for */
	RANGED_PROBE_MS = 50,          /* how often the fill's speed is looked at meanwhile */
	RANGED_MOST = 64,              /* beside fills at the same time, a listener */
	RANGED_HIGH_WATER = 256 * 1024,
	RANGED_MAX_TRIES = 4, /* alone, without a byte of progress */
	RANGED_RETRY_MS = 250,
};

enum ranged_phase {
	RANGED_IDLE,  /* between two transfers */
	RANGED_LEARN, /* its first byte, to learn the object's size and whether it may be had */
	RANGED_RUN,   /* a transfer of [at, end) */
	RANGED_RETRY, /* alone: waits before the next try */
	RANGED_ENDED, /* the transfer is over, well or not */
};

struct ranged {
	struct request *req;
	struct event *timer;
	struct registry_call *call;
	struct refusal *refusal; /* the registry's no */
	enum ranged_phase phase;
	uint64_t began_ms, began_at;  /* since when the fill is looked at, and what it had then */
	uint64_t since_ms, waited_at; /* of the wait: since when, and the offset that it is for */
	bool whole;                       /* alone: this answer is the whole object … */
	uint64_t skip;                    /* … of which this many bytes are still to be left out */
	unsigned tries;
	bool waits;      /* since_ms is valid */
	bool in_vain;    /* it has waited for a part that was near, and did not come */
	bool useless;    /* beside a fill: the upstream gives no ranges, or not this one */
	bool all_or_none; /* it gives the whole only */
	bool counted, paused;
};

static void
stop(struct ranged *r)
{
	registry_cancel(&r->call);
	if (r->counted)
		r->req->s->ranged--;
	r->counted = false;
	r->paused = false;
}

void
ranged_free(struct ranged **rp)
{
	struct ranged *r = *rp;

	if (r == NULL)
		return;
	stop(r);
	refusal_free(&r->refusal);
	event_free(r->timer);
	free(r);
	*rp = NULL;
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct request *req = arg;

	(void)fd;
	(void)what;
	request_drive(req->conn);
}

static struct ranged *
ranged_of(struct request *req)
{
	struct ranged *r = req->ranged;

	if (r != NULL)
		return r;
	r = xcalloc(1, sizeof(*r));
	r->req = req;
	r->timer = event_new(req->s->base, -1, 0, on_timer, req);
	if (r->timer == NULL)
		panic("cannot make a timer");
	req->ranged = r;
	return r;
}

static void
arm(struct ranged *r, unsigned ms)
{
	const struct timeval delay = {ms / 1000, (ms % 1000) * 1000};

	if (event_add(r->timer, &delay) != 0)
		panic("cannot arm a timer");
}

/* --- waiting for the fill -------------------------------------------------------------------- */

bool
ranged_wanted(struct request *req)
{
	if (req->head_sent)
		return req->status == 206;
	return req->head.method == HTTP_GET && !req->ignore_range &&
	    http_is_range(request_range(req));
}

bool
ranged_may(struct request *req, bool own)
{
	return req->s->pass_ranges && req->route.kind == ROUTE_BLOB &&
	    (req->route.trusted || own) && (req->ranged == NULL || !req->ranged->useless) &&
	    ranged_wanted(req);
}

/* Will the fill, at the speed that it was seen to have, be there in time? */
static bool
comes_in_time(const struct ranged *r, uint64_t readable, uint64_t now)
{
	uint64_t seen_ms = now - r->began_ms + 1, left_ms = RANGED_WAIT_MS - (now - r->since_ms);
	uint64_t lacks = r->waited_at - readable;

	if (lacks <= REQUEST_NEAR && !r->in_vain)
		return true;
	return lacks / left_ms < (readable - r->began_at) / seen_ms;
}

static void
begin_wait(struct ranged *r, uint64_t readable, uint64_t now)
{
	if (r->began_ms == 0 || readable < r->began_at) { /* the first wait, or another fill */
		r->began_ms = now;
		r->began_at = readable;
	} else if (r->waits && r->waited_at == r->req->at) {
		return;
	}
	r->waits = true;
	r->since_ms = now;
	r->waited_at = r->req->at;
}

bool
ranged_is_due(struct request *req, uint64_t readable)
{
	struct ranged *r = ranged_of(req);
	uint64_t now = clock_ms();

	begin_wait(r, readable, now);
	if (now - r->since_ms >= RANGED_WAIT_MS)
		r->in_vain = true;
	if (req->s->ranged < RANGED_MOST &&
	    (now - r->since_ms >= RANGED_WAIT_MS ||
		(now - r->began_ms >= RANGED_PROBE_MS && !comes_in_time(r, readable, now))))
		return true;
	arm(r, RANGED_PROBE_MS);
	return false;
}

/* --- answers --------------------------------------------------------------------------------- */

static bool
is_encoded(const struct upstream_answer *a)
{
	const char *coding = upstream_header(a, "Content-Encoding", 0);

	return coding != NULL && strcasecmp(coding, "identity") != 0;
}

/* An answer that is about something else, as far as it says. */
static bool
is_other_object(const struct request *req, const struct upstream_answer *a)
{
	char text[DIGEST_STR_SIZE];

	return a->registry_digest != NULL &&
	    strcmp(a->registry_digest, digest_str(&req->digest, text)) != 0;
}

/* The object's size, -1: not said. */
static int64_t
size_of(const struct upstream_answer *a)
{
	const char *range = upstream_header(a, "Content-Range", 0);
	uint64_t first, last;
	int64_t size;

	if (a->status == 416)
		return http_parse_unsatisfied(range);
	if (is_encoded(a))
		return -1;
	if (a->status == 200)
		return a->content_length;
	return http_parse_content_range(range, &first, &last, &size) ? size : -1;
}

static void
note_answer(struct request *req, const struct upstream_answer *a)
{
	const char *type = upstream_header(a, "Content-Type", 0);

	notes_take(&req->notes, a);
	if (req->route.kind == ROUTE_MANIFEST && req->media_type[0] == '\0' && type != NULL &&
	    a->status != 416)
		req->media_type = arena_strndup(&req->arena, type, strcspn(type, "; \t"));
}

static void
ended(struct ranged *r)
{
	stop(r);
	r->phase = RANGED_ENDED;
}

static void
on_learn_head(struct ranged *r, const struct upstream_answer *a)
{
	struct request *req = r->req;
	struct conn *c = req->conn;

	if ((a->status != 200 && a->status != 206 && a->status != 416) || is_other_object(req, a)) {
		r->refusal = refusal_new(a);
		return;
	}
	note_answer(req, a);
	if (req->alone || size_of(a) >= 0)
		req->size = size_of(a);
	r->all_or_none = a->status == 200;
	ended(r);
	request_drive(c);
}

/* "bytes <first>-<last>/<size>" of exactly what was asked for. */
static bool
is_our_range(const struct request *req, const char *value)
{
	uint64_t first, last;
	int64_t size;

	return http_parse_content_range(value, &first, &last, &size) && first == req->at &&
	    last == req->end - 1 && size == req->size;
}

static bool
is_usable(struct ranged *r, const struct upstream_answer *a)
{
	const struct request *req = r->req;

	r->skip = 0;
	r->whole = a->status == 200;
	if (is_encoded(a) || is_other_object(req, a))
		return false;
	if (a->status == 206)
		return is_our_range(req, upstream_header(a, "Content-Range", 0));
	r->skip = req->at;
	return r->whole && req->alone &&
	    (a->content_length < 0 || a->content_length == req->size);
}

static void
on_head(void *arg, const struct upstream_answer *a)
{
	struct ranged *r = arg;
	struct request *req = r->req;

	refusal_free(&r->refusal);
	req->first_host = a->host;
	if (r->phase == RANGED_LEARN) {
		on_learn_head(r, a);
		return;
	}
	if (is_usable(r, a)) {
		req->was_ranged = !req->alone;
		return;
	}
	log_debug("request %" PRIx64 ": %s gives no range, but %d", req->id, req->route.host,
	    a->status);
	r->refusal = refusal_new(a);
	if (req->alone)
		return;
	r->useless = true;
	ended(r);
	request_drive(req->conn);
}

static void
on_data(void *arg, const void *p, size_t n)
{
	struct ranged *r = arg;
	struct request *req = r->req;
	const unsigned char *bytes = p;
	size_t skipped = r->skip < n ? (size_t)r->skip : n;

	if (r->refusal != NULL) {
		refusal_add_body(r->refusal, p, n);
		return;
	}
	r->tries = 0;
	r->skip -= skipped;
	bytes += skipped;
	n -= skipped;
	if (n > req->end - req->at)
		n = (size_t)(req->end - req->at);
	conn_send(req->conn, bytes, n);
	req->at += n;
	req->bytes += n;
	shm_count(req->s->shm, req->s->listener, COUNT_BYTES_RANGED, n);
	if (!r->paused && buf_len(conn_output(req->conn)) > RANGED_HIGH_WATER) {
		r->paused = true;
		registry_pause(r->call);
	}
}

static void
on_turn(void *arg)
{
	const struct ranged *r = arg;

	request_turn(r->req);
}

/* --- the end of a transfer ------------------------------------------------------------------- */

static bool
is_worth_a_try(enum upstream_result r)
{
	return r == UPSTREAM_OK || r == UPSTREAM_DOWN || r == UPSTREAM_SILENT || upstream_may_pass(r);
}

/* There is nothing else to wait for. */
static void
alone_ended(struct ranged *r, enum upstream_result result, const char *detail)
{
	struct request *req = r->req;

	if (r->refusal != NULL && (r->phase == RANGED_LEARN || r->refusal->status < 500)) {
		request_goto(req, REQUEST_DONE);
		(void)request_refuse(req, r->refusal);
		return;
	}
	if (r->phase == RANGED_LEARN || !is_worth_a_try(result) ||
	    ++r->tries > RANGED_MAX_TRIES) {
		request_goto(req, REQUEST_DONE);
		(void)request_no_answer(
		    req, result == UPSTREAM_OK ? UPSTREAM_BROKEN : result, detail);
		return;
	}
	stop(r);
	req->first_host += req->first_host > 0; /* where it broke, the next one goes on */
	r->phase = RANGED_RETRY;
	arm(r, RANGED_RETRY_MS);
}

static void
on_done(void *arg, enum upstream_result result, const char *detail)
{
	struct ranged *r = arg;
	struct request *req = r->req;
	struct conn *c = req->conn;
	bool all = r->phase == RANGED_RUN && r->refusal == NULL && req->at == req->end;

	r->call = NULL;
	if (!all && req->alone) {
		alone_ended(r, result, detail);
	} else {
		if (!all)
			log_debug("request %" PRIx64 ": no range beside its fill: %s", req->id,
			    upstream_result_name(result));
		r->useless |= !all;
		ended(r);
	}
	request_drive(c);
}

static void
start(struct ranged *r)
{
	static const struct upstream_ops ops = {on_head, on_data, on_done, NULL, on_turn};
	struct request *req = r->req;
	struct upstream_header accept;
	struct upstream_request get;

	stop(r);
	r->phase = req->head_sent ? RANGED_RUN : RANGED_LEARN;
	if (req->head_sent || !req->alone)
		req->deadline_ms = 0; /* the registry has answered before */
	get = request_get(req, &accept);
	get.range_first = req->head_sent ? (int64_t)req->at : 0;
	get.range_last = req->head_sent ? (int64_t)req->end - 1 : 0;
	if (!req->alone) {
		r->counted = true;
		req->s->ranged++;
		shm_count(req->s->shm, req->s->listener, COUNT_RANGED, 1);
	}
	r->call = registry_start(req->s->registries, &get, &ops, r);
}

/* --- the step -------------------------------------------------------------------------------- */

enum step
ranged_give_whole(struct request *req)
{
	req->alone = false;
	req->ignore_range = true;
	request_goto(req, REQUEST_UNCACHED);
	return STEP_NEXT;
}

/* The size is known now, or will not be by this way. */
static enum step
learned(struct ranged *r)
{
	struct request *req = r->req;

	r->waits = false;
	r->in_vain = true; /* or the size would have come */
	r->useless |= !req->alone && (r->all_or_none || req->size < 0);
	if (req->alone &&
	    (req->size < 0 || (r->all_or_none && strchr(request_range(req), ',') != NULL)))
		return ranged_give_whole(req);
	req->checked |= req->size >= 0;
	request_goto(req, req->size >= 0 ? REQUEST_ADMIT : REQUEST_FILL);
	return STEP_NEXT;
}

static enum step
transfer_ended(struct ranged *r)
{
	bool was_learning = !r->req->head_sent;

	r->phase = RANGED_IDLE;
	r->waits = false;
	if (was_learning)
		return learned(r);
	request_goto(r->req, REQUEST_BODY);
	return STEP_NEXT;
}

/* How far its fill has come: the rest is read from the file when that is far enough. False: the fill
 * has shown that this upstream lies. */
static bool
look_at_fill(struct ranged *r)
{
	struct request *req = r->req;
	struct fill_status st;

	if (req->fill == NULL)
		return true;
	fill_look(req->fill, &st);
	if (st.end == FILL_END_DIGEST)
		return false;
	if (r->phase == RANGED_LEARN && st.size >= 0)
		req->size = st.size;
	if ((r->phase == RANGED_RUN && st.readable > req->at) ||
	    (r->phase == RANGED_LEARN && (st.size >= 0 || st.end != FILL_END_NONE)))
		ended(r);
	return true;
}

enum step
step_ranged(struct request *req)
{
	struct ranged *r = ranged_of(req);

	if (!look_at_fill(r)) {
		stop(r);
		return request_fail(req, 502, "DIGEST_INVALID",
		    "the registry %s delivered other bytes than the digest names",
		    req->route.upstream);
	}
	if (r->phase == RANGED_RUN && r->whole && req->at == req->end)
		ended(r);
	if (r->phase == RANGED_ENDED)
		return transfer_ended(r);
	if (r->phase == RANGED_IDLE ||
	    (r->phase == RANGED_RETRY && !evtimer_pending(r->timer, NULL)))
		start(r);
	if (r->paused && !conn_has_output(req->conn)) {
		r->paused = false;
		registry_resume(r->call);
	}
	return STEP_WAIT;
}

enum step
ranged_alone(struct request *req)
{
	fill_leave(&req->fill);
	registry_cancel(&req->spare);
	if (req->fd >= 0)
		close(req->fd);
	req->fd = -1;
	req->alone = true;
	shm_count(req->s->shm, req->s->listener, COUNT_UNCACHED, 1);
	request_goto(req, REQUEST_RANGED);
	return STEP_NEXT;
}
