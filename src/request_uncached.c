/* An object straight from upstream, because the cache cannot keep it or may not vouch for it. Its
 * digest is checked on the way and the last block is held back until it is known to be right. It
 * also goes on where a fill had to stop: what was sent so far is hashed again from the fill's
 * file, the rest comes by Range. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "log.h"
#include "media.h"
#include "notes.h"
#include "refusal.h"
#include "registry.h"
#include "request_private.h"
#include "shm.h"
#include "xalloc.h"

enum {
	HIGH_WATER = 256 * 1024,
	HASH_STEP = 1024 * 1024, /* bytes of the prefix hashed in one turn of the loop */
	MAX_TRIES = 4,           /* without a byte of progress */
	RETRY_MS = 250,
};

struct uncached {
	struct request *req;
	struct registry_call *call;
	struct event *timer;
	struct hasher *hasher; /* NULL: the digest was found right */
	struct buf tail;       /* hashed, held back */
	struct refusal *refusal;
	uint64_t got;    /* offset in the object of the next byte from upstream */
	uint64_t skip;   /* bytes that come again and are there already */
	uint64_t hashed; /* of the prefix */
	unsigned tries;
	bool paused, ended;
};

void
uncached_free(struct uncached **up)
{
	struct uncached *u = *up;

	if (u == NULL)
		return;
	registry_cancel(&u->call);
	if (u->timer != NULL)
		event_free(u->timer);
	hasher_free(&u->hasher);
	buf_free(&u->tail);
	refusal_free(&u->refusal);
	free(u);
	*up = NULL;
}

static void call_start(struct uncached *u);

/* --- to the client ---------------------------------------------------------------------------- */

static void
send_head(struct uncached *u)
{
	struct request *req = u->req;
	struct buf *out;

	if (req->head_sent)
		return;
	req->chunked = req->size < 0 && req->head.minor > 0;
	if (req->size < 0 && req->head.minor == 0)
		req->keep_alive = false;
	out = request_object_head(req, 200);
	req->outcome = "uncached";
	if (req->chunked)
		http_field(out, "Transfer-Encoding", "chunked");
	else if (req->size >= 0)
		http_field_u64(out, "Content-Length", (uint64_t)req->size);
	http_end(out);
}

static void
emit(struct uncached *u, const void *p, size_t n)
{
	struct request *req = u->req;

	if (req->end != UINT64_MAX && n > req->end - req->at)
		n = (size_t)(req->end - req->at);
	if (n == 0)
		return;
	send_head(u);
	if (req->chunked)
		buf_printf(conn_output(req->conn), "%zx\r\n", n);
	conn_send(req->conn, p, n);
	if (req->chunked)
		conn_send(req->conn, "\r\n", 2);
	req->at += n;
	req->bytes += n;
}

/* All but the last block. */
static void
release(struct uncached *u)
{
	size_t held = u->hasher != NULL ? FILL_HELD_BACK : 0;

	if (buf_len(&u->tail) <= held)
		return;
	emit(u, buf_data(&u->tail), buf_len(&u->tail) - held);
	buf_consume(&u->tail, buf_len(&u->tail) - held);
}

/* --- ending ----------------------------------------------------------------------------------- */

static void
fail(struct uncached *u, const char *why)
{
	u->ended = true;
	(void)request_fail(
	    u->req, 502, "UNAVAILABLE", "the registry %s: %s", u->req->route.upstream, why);
}

static bool
digest_right(struct uncached *u)
{
	struct digest got;

	hasher_final(u->hasher, &got);
	hasher_free(&u->hasher);
	if (digest_equal(&got, &u->req->digest))
		return true;
	shm_count(u->req->s->shm, u->req->s->listener, COUNT_DIGEST_FAILURES, 1);
	return false;
}

/* It has to be taken as it comes (media.h). */
static bool
is_signed_manifest(const struct request *req)
{
	return req->route.kind == ROUTE_MANIFEST && media_is_signed(req->media_type);
}

static void
note_proof(struct request *req)
{
	if (req->s->index != NULL && !req->route.trusted)
		(void)index_put_proof(req->s->index, req->route.upstream, &req->digest);
}

static void
finish(struct uncached *u)
{
	struct request *req = u->req;

	if (is_signed_manifest(req)) {
		hasher_free(&u->hasher);
	} else if (!digest_right(u)) {
		fail(u, "it delivered other bytes than the digest names");
		return;
	} else {
		note_proof(req);
	}
	if (req->size < 0)
		req->size = (int64_t)u->got;
	send_head(u);
	release(u);
	if (req->chunked)
		conn_send(req->conn, "0\r\n\r\n", 5);
	u->ended = true;
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	call_start(arg);
}

static void
retry_or_fail(struct uncached *u, const char *why)
{
	struct timeval delay = {0, RETRY_MS * 1000};

	log_warn("request %" PRIx64 ": uncached at byte %" PRIu64 ": %s", u->req->id, u->got, why);
	if (++u->tries > MAX_TRIES && u->refusal != NULL) {
		u->ended = true;
		(void)request_refuse(u->req, u->refusal);
		return;
	}
	if (u->tries > MAX_TRIES) {
		fail(u, why);
		return;
	}
	if (u->timer != NULL)
		event_free(u->timer);
	u->timer = event_new(u->req->s->base, -1, 0, on_timer, u);
	if (u->timer == NULL || event_add(u->timer, &delay) != 0)
		fail(u, why);
}

/* HEAD of a manifest that had to be asked for by GET, and that the cache cannot keep. */
static void
answer_head(struct uncached *u)
{
	send_head(u);
	registry_cancel(&u->call);
	registry_cancel(&u->req->spare);
	u->ended = true;
}

/* --- from upstream ---------------------------------------------------------------------------- */

static void
on_head(void *arg, const struct upstream_answer *a)
{
	struct uncached *u = arg;
	struct request *req = u->req;
	const char *type = upstream_header(a, "Content-Type", 0);
	uint64_t first = 0;

	u->skip = 0;
	req->first_host = a->host;
	refusal_free(&u->refusal);
	if (a->status == 206 && u->got > 0 && upstream_header(a, "Content-Range", 0) != NULL &&
	    sscanf(upstream_header(a, "Content-Range", 0), "bytes %" SCNu64, &first) == 1 &&
	    first == u->got)
		return;
	if (a->status != 200) {
		u->refusal = refusal_new(a);
		return;
	}
	u->skip = u->got;
	if (req->head_sent || u->got > 0)
		return;
	notes_take(&req->notes, a);
	req->size = a->content_length;
	if (req->media_type[0] == '\0' && type != NULL)
		req->media_type = arena_strndup(&req->arena, type, strcspn(type, "; \t"));
	if (req->head.method == HTTP_HEAD) {
		answer_head(u);
		request_drive(req->conn);
	}
}

static void
on_data(void *arg, const void *p, size_t n)
{
	struct uncached *u = arg;
	const unsigned char *bytes = p;
	size_t skipped = u->skip < n ? (size_t)u->skip : n;

	if (u->refusal != NULL) {
		refusal_add_body(u->refusal, p, n);
		return;
	}
	u->skip -= skipped;
	bytes += skipped;
	n -= skipped;
	if (n == 0)
		return;
	u->tries = 0;
	u->got += n;
	hasher_update(u->hasher, bytes, n);
	buf_append(&u->tail, bytes, n);
	release(u);
	if (!u->paused && buf_len(conn_output(u->req->conn)) > HIGH_WATER) {
		u->paused = true;
		registry_pause(u->call);
	}
}

static void
on_turn(void *arg)
{
	const struct uncached *u = arg;

	request_turn(u->req);
}

static bool
is_complete(const struct uncached *u)
{
	const struct request *req = u->req;

	return req->size < 0 || u->got >= (uint64_t)req->size;
}

static bool
is_down(enum upstream_result r)
{
	return r == UPSTREAM_DOWN || r == UPSTREAM_SILENT;
}

static void
on_done(void *arg, enum upstream_result r, const char *detail)
{
	struct uncached *u = arg;
	struct request *req = u->req;
	struct conn *c = req->conn;

	u->call = NULL;
	if (u->refusal != NULL && u->refusal->status < 500) {
		u->ended = true;
		(void)request_refuse(req, u->refusal);
	} else if (u->got == 0 && (r == UPSTREAM_TIMEOUT || (is_down(r) && u->tries == 0))) {
		u->ended = true;
		(void)request_no_answer(req, r, detail);
	} else if (u->refusal != NULL) {
		retry_or_fail(u, "it answered with an error");
	} else if (r != UPSTREAM_OK && !upstream_may_pass(r) && !is_down(r)) {
		u->ended = true;
		(void)request_no_answer(req, r, detail);
	} else if (r != UPSTREAM_OK) {
		req->first_host += req->first_host > 0; /* where it breaks, the next one goes on */
		retry_or_fail(
		    u, detail != NULL && *detail != '\0' ? detail : upstream_result_name(r));
	} else if (!is_complete(u)) {
		retry_or_fail(u, "its answer ended early");
	} else {
		finish(u);
	}
	request_drive(c);
}

static const struct upstream_ops call_ops = {on_head, on_data, on_done, NULL, on_turn};

static void
call_start(struct uncached *u)
{
	struct request *req = u->req;
	struct upstream_header accept;
	struct upstream_request r = request_get(req, &accept);

	if (u->got > 0)
		r.range_first = (int64_t)u->got;
	u->call = registry_start(req->s->registries, &r, &call_ops, u);
}

/* The fill that was not to be had already asked, and was given the head. */
static void
take_spare(struct uncached *u)
{
	u->call = u->req->spare;
	u->req->spare = NULL;
	registry_retarget(u->call, &call_ops, u);
	registry_resume(u->call);
}

/* --- the prefix ------------------------------------------------------------------------------- */

static void
hash_prefix(evutil_socket_t fd, short what, void *arg)
{
	static unsigned char block[65536];
	struct uncached *u = arg;
	struct request *req = u->req;
	struct timeval now = {0, 0};

	(void)fd;
	(void)what;
	for (size_t step = 0; step < HASH_STEP && u->hashed < u->got; step += sizeof(block)) {
		size_t want = u->got - u->hashed < sizeof(block) ? (size_t)(u->got - u->hashed)
								 : sizeof(block);
		ssize_t n = pread(req->fd, block, want, (off_t)u->hashed);

		if (n <= 0) {
			fail(u, "what was sent so far cannot be read again");
			request_drive(req->conn);
			return;
		}
		hasher_update(u->hasher, block, (size_t)n);
		u->hashed += (uint64_t)n;
	}
	if (u->hashed == u->got)
		call_start(u);
	else
		event_add(u->timer, &now);
}

static void
start(struct request *req)
{
	struct uncached *u = xcalloc(1, sizeof(*u));
	struct timeval now = {0, 0};

	u->req = req;
	u->got = req->at;
	req->uncached = u;
	fill_leave(&req->fill);
	shm_count(req->s->shm, req->s->listener, COUNT_UNCACHED, 1);
	u->hasher = hasher_new((enum digest_algo)req->digest.algo);
	u->timer = event_new(req->s->base, -1, 0, hash_prefix, u);
	if (u->timer == NULL)
		fail(u, "out of timers");
	else if (u->got > 0)
		event_add(u->timer, &now);
	else if (req->spare != NULL && req->head.method == HTTP_HEAD)
		answer_head(u);
	else if (req->spare != NULL)
		take_spare(u);
	else
		call_start(u);
}

enum step
step_uncached(struct request *req)
{
	struct uncached *u = req->uncached;

	if (u == NULL && ranged_wanted(req)) /* no digest names it */
		return ranged_alone(req);
	if (u == NULL) {
		start(req);
		return req->uncached->ended ? STEP_DONE : STEP_WAIT;
	}
	if (u->ended)
		return STEP_DONE;
	if (u->paused && !conn_has_output(req->conn)) {
		u->paused = false;
		registry_resume(u->call);
	}
	return STEP_WAIT;
}
