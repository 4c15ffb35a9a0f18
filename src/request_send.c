/* Sending objects: a place among the bodies in flight, the head (conditions, ranges), the body
 * from a file that is whole or still being filled. RFC 9110 sections 13 (conditions), 14
 * (ranges); WIRE.md 4.2, 7. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "notes.h"
#include "request_private.h"
#include "shm.h"

/* --- a place
 * ------------------------------------------------------------------------------------- */

void
request_release_place(struct request *req)
{
	if (req->has_place)
		shm_body_end(req->s->shm, req->s->listener);
	req->has_place = false;
}

enum step
step_admit(struct request *req)
{
	struct services *s = req->s;

	if (req->in_admit)
		return STEP_WAIT;
	if (s->streamers > 0 && req->head.method != HTTP_HEAD && !req->has_place) {
		req->has_place = shm_body_begin(s->shm, s->listener, s->streamers);
		if (req->waiting_ms == 0)
			req->waiting_ms = clock_ms();
		if (!req->has_place && clock_ms() - req->waiting_ms >= s->timeout_ms)
			return request_fail(
			    req, 503, "TOOMANYREQUESTS", "too many bodies are being sent");
		if (!req->has_place) {
			TAILQ_INSERT_TAIL(&s->waiting, req, admit);
			req->in_admit = true;
			return STEP_WAIT;
		}
	}
	request_goto(req, REQUEST_HEAD);
	return STEP_NEXT;
}

/* --- head
 * ---------------------------------------------------------------------------------------- */

static const char *
outcome(const struct request *req)
{
	if (req->led)
		return req->resumed ? "resumed" : "fill";
	return req->joined ? "follow" : "hit";
}

struct buf *
request_object_head(struct request *req, int status)
{
	char text[DIGEST_STR_SIZE];
	struct buf *out = request_begin(req, status);
	bool manifest = req->route.kind == ROUTE_MANIFEST && req->media_type[0] != '\0';

	digest_str(&req->digest, text);
	if (status != 304)
		http_field(
		    out, "Content-Type", manifest ? req->media_type : "application/octet-stream");
	if (req->has_digest) {
		http_field(out, "Docker-Content-Digest", text);
		http_field(out, "ETag", arena_printf(&req->arena, "\"%s\"", text));
	}
	notes_write(req->notes, out);
	return out;
}

static bool
not_modified(struct request *req)
{
	char text[DIGEST_STR_SIZE];
	const char *wanted = http_header_joined(&req->head, "If-None-Match", &req->arena);

	return wanted != NULL &&
	    http_etag_matches(
		wanted, arena_printf(&req->arena, "\"%s\"", digest_str(&req->digest, text)));
}

/* A Range whose If-Range names another representation is ignored (RFC 9110 section 13.1.5). */
static const char *
range_wanted(struct request *req)
{
	char text[DIGEST_STR_SIZE];
	const char *condition = http_header_get(&req->head, "If-Range");
	const char *etag = arena_printf(&req->arena, "\"%s\"", digest_str(&req->digest, text));

	if (condition != NULL && strcmp(condition, etag) != 0)
		return NULL;
	return http_header_get(&req->head, "Range");
}

static enum step
head_unsatisfiable(struct request *req)
{
	struct buf *out = request_begin(req, 416);

	req->outcome = outcome(req);
	http_field(out, "Content-Range", arena_printf(&req->arena, "bytes */%" PRId64, req->size));
	http_field_u64(out, "Content-Length", 0);
	http_end(out);
	return STEP_DONE;
}

static enum step
head_not_modified(struct request *req)
{
	req->outcome = outcome(req);
	http_end(request_object_head(req, 304));
	return STEP_DONE;
}

/* HTTP/1.0 knows no chunks: step_fill() has waited for the size. */
static enum step
head_chunked(struct request *req)
{
	struct buf *out = request_object_head(req, 200);

	req->chunked = true;
	http_field(out, "Transfer-Encoding", "chunked");
	http_end(out);
	request_goto(req, REQUEST_BODY);
	return STEP_NEXT;
}

static void
count_hit(struct request *req)
{
	req->outcome = outcome(req);
	if (!req->hit || req->joined)
		return;
	shm_count(req->s->shm, req->s->listener, COUNT_HITS, 1);
	index_touch(req->s->index, &req->object, clock_wall());
}

enum step
step_head(struct request *req)
{
	uint64_t size = req->size < 0 ? 0 : (uint64_t)req->size, last = 0;
	enum http_range range;
	struct buf *out;

	count_hit(req);
	if (not_modified(req))
		return head_not_modified(req);
	if (req->size < 0)
		return head_chunked(req);
	range = req->head.method == HTTP_GET
	    ? http_parse_range(range_wanted(req), size, &req->first, &last)
	    : HTTP_RANGE_NONE;
	if (range == HTTP_RANGE_BEYOND)
		return head_unsatisfiable(req);
	if (range == HTTP_RANGE_NONE) {
		req->first = 0;
		last = size - 1;
	}
	req->at = req->first;
	req->end = range == HTTP_RANGE_NONE ? size : last + 1;
	out = request_object_head(req, range == HTTP_RANGE_ONE ? 206 : 200);
	http_field(out, "Accept-Ranges", "bytes");
	if (range == HTTP_RANGE_ONE)
		http_field(out, "Content-Range",
		    arena_printf(&req->arena, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, req->first,
			last, size));
	http_field_u64(out, "Content-Length", req->end - req->first);
	http_end(out);
	if (req->head.method == HTTP_HEAD)
		return STEP_DONE;
	request_goto(req, REQUEST_BODY);
	return STEP_NEXT;
}

enum step
request_answer_head(struct request *req)
{
	struct buf *out;

	req->outcome = "checked";
	if (not_modified(req))
		return head_not_modified(req);
	out = request_object_head(req, 200);
	http_field(out, "Accept-Ranges", "bytes");
	if (req->size >= 0)
		http_field_u64(out, "Content-Length", (uint64_t)req->size);
	http_end(out);
	return STEP_DONE;
}

/* --- body
 * ---------------------------------------------------------------------------------------- */

/* A small object goes out in one system call with its head. */
static enum step
send_small(struct request *req)
{
	size_t n = (size_t)(req->end - req->at);
	struct buf *out = conn_output(req->conn);
	ssize_t got = pread(req->fd, buf_room(out, n), n, (off_t)req->at);

	if (got != (ssize_t)n)
		return request_cut(
		    req, got < 0 ? strerror(errno) : "the file is shorter than it was");
	buf_grew(out, n);
	req->at += n;
	req->bytes += n;
	return STEP_DONE;
}

static void
send_piece(struct request *req, uint64_t n)
{
	if (req->chunked)
		buf_printf(conn_output(req->conn), "%" PRIx64 "\r\n", n);
	conn_send_file(req->conn, req->fd, req->at, n);
	if (req->chunked)
		conn_send(req->conn, "\r\n", 2);
	req->at += n;
	req->bytes += n;
}

static enum step
body_done(struct request *req)
{
	if (!req->route.trusted && req->led &&
	    index_put_proof(req->s->index, req->route.upstream, &req->digest) == INDEX_ERROR)
		shm_count(req->s->shm, req->s->listener, COUNT_INDEX_ERRORS, 1);
	req->outcome = outcome(req); /* it may have been resumed since its head */
	if (req->chunked)
		conn_send(req->conn, "0\r\n\r\n", 5);
	return STEP_DONE;
}

/* How far the file may be read now. */
static uint64_t
readable(struct request *req, enum fill_end *end)
{
	struct fill_status st;

	*end = FILL_END_DONE;
	if (req->fill == NULL)
		return (uint64_t)req->size;
	fill_look(req->fill, &st);
	req->resumed |= st.resumed;
	*end = st.end;
	if (st.size >= 0)
		req->size = st.size;
	return st.end == FILL_END_DONE && st.size >= 0 ? (uint64_t)st.size : st.readable;
}

enum step
step_body(struct request *req)
{
	enum fill_end end;
	uint64_t may;

	for (;;) {
		if (conn_sends_file(req->conn))
			return STEP_WAIT; /* hooks.drained drives on */
		may = readable(req, &end);
		if (req->chunked && end == FILL_END_DONE)
			req->end = may;
		may = may < req->end ? may : req->end;
		if (req->at >= req->end)
			return body_done(req);
		if (may <= req->at && end != FILL_END_NONE && end != FILL_END_DONE) {
			request_goto(req, REQUEST_FILL);
			return STEP_NEXT;
		}
		if (may <= req->at)
			return STEP_WAIT; /* fill's `changed` drives on */
		if (req->hit && may == req->end && may - req->at <= REQUEST_SMALL_BODY)
			return send_small(req);
		send_piece(req, may - req->at);
		if (!conn_flush(req->conn))
			return STEP_WAIT;
	}
}
