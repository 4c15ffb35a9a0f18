/* Sending objects: the head (conditions, ranges), the body
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

enum { BODY_GATHER = 65536 }; /* bytes of small parts that go out together */

/* --- head ------------------------------------------------------------------------------------- */

static const char *
outcome(const struct request *req)
{
	if (req->by_grace)
		return "grace";
	if (req->alone)
		return "uncached";
	if (req->was_ranged)
		return "ranged";
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
		http_field(out, "Content-Type",
		    req->spans != NULL ? parts_type(req)
			: manifest     ? req->media_type
				       : "application/octet-stream");
	if (req->has_digest) {
		http_field(out, "Docker-Content-Digest", text);
		http_field(out, "ETag", arena_printf(&req->arena, "\"%s\"", text));
	}
	if (req->by_grace) /* RFC 9111 section 5.1: since it was validated last */
		http_field_u64(out, "Age", req->grace_age_s);
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
const char *
request_range(struct request *req)
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
	if (req->led || (req->hit && !req->joined))
		request_touch_image(req);
	if (!req->hit || req->joined)
		return;
	shm_count(req->s->shm, req->s->listener, COUNT_HITS, 1);
	index_touch(req->s->index, &req->object, clock_wall_ms());
}

static enum http_range
ranges_of(struct request *req, uint64_t size, struct http_span **spans, size_t *n)
{
	const char *value = req->head.method == HTTP_GET && !req->ignore_range ? request_range(req) : NULL;

	*n = 0;
	*spans = NULL;
	if (value != NULL)
		*spans = arena_alloc(&req->arena, http_count_ranges(value) * sizeof(**spans));
	return *spans != NULL ? http_parse_ranges(value, size, *spans, n) : HTTP_RANGE_NONE;
}

static void
head_single(struct request *req, bool is_range)
{
	struct buf *out = request_object_head(req, is_range ? 206 : 200);

	http_field(out, "Accept-Ranges", "bytes");
	if (is_range)
		http_field(out, "Content-Range",
		    arena_printf(&req->arena, "bytes %" PRIu64 "-%" PRIu64 "/%" PRId64, req->first,
			req->end - 1, req->size));
	http_field_u64(out, "Content-Length", req->end - req->first);
	http_end(out);
}

/* Parts in the order that was asked for, none joined: clients count them (WIRE.md 7.4). */
static void
head_multipart(struct request *req, struct http_span *spans, size_t n)
{
	uint64_t length = parts_begin(req, spans, n);
	struct buf *out = request_object_head(req, 206);

	http_field(out, "Accept-Ranges", "bytes");
	http_field_u64(out, "Content-Length", length);
	http_end(out);
	parts_send_head(req);
}

enum step
step_head(struct request *req)
{
	uint64_t size = req->size < 0 ? 0 : (uint64_t)req->size;
	struct http_span *spans;
	enum http_range range;
	size_t n;

	count_hit(req);
	if (not_modified(req))
		return head_not_modified(req);
	if (req->size < 0)
		return head_chunked(req);
	range = ranges_of(req, size, &spans, &n);
	if (range == HTTP_RANGE_BEYOND)
		return head_unsatisfiable(req);
	if (range == HTTP_RANGE_NONE && req->alone)
		return ranged_give_whole(req);
	if (range == HTTP_RANGE_MANY) {
		head_multipart(req, spans, n);
	} else {
		req->at = req->first = range == HTTP_RANGE_ONE ? spans[0].first : 0;
		req->end = range == HTTP_RANGE_ONE ? spans[0].end : size;
		head_single(req, range == HTTP_RANGE_ONE);
	}
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

/* --- body ------------------------------------------------------------------------------------- */

/* A small object goes out in one system call with its head. False: the connection was cut. */
static bool
send_small(struct request *req)
{
	size_t n = (size_t)(req->end - req->at);
	struct buf *out = conn_output(req->conn);
	ssize_t got = pread(req->fd, buf_room(out, n), n, (off_t)req->at);

	if (got != (ssize_t)n) {
		const char *why = got < 0 ? strerror(errno) : "the file is shorter than it was";

		request_unreadable(req);
		(void)request_cut(req, why);
		return false;
	}
	buf_grew(out, n);
	req->at += n;
	req->bytes += n;
	return true;
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
	req->outcome = outcome(req); /* it may have been resumed since its head */
	if (req->chunked)
		conn_send(req->conn, "0\r\n\r\n", 5);
	return STEP_DONE;
}

/* How far the file may be read now. False: the object has another size than was promised. */
static bool
look(struct request *req, uint64_t *may, enum fill_end *end)
{
	struct fill_status st;

	*end = FILL_END_DONE;
	*may = req->fd >= 0 ? (uint64_t)req->size : 0;
	if (req->fill == NULL)
		return true;
	fill_look(req->fill, &st);
	req->resumed |= st.resumed;
	*end = st.end;
	*may = st.end == FILL_END_DONE && st.size >= 0 ? (uint64_t)st.size : st.readable;
	if (st.size >= 0 && st.size != req->size && !req->chunked)
		return false;
	if (st.size >= 0)
		req->size = st.size;
	return true;
}

/* The byte at `at` is not there yet. */
static enum step
body_lacks(struct request *req, uint64_t may, enum fill_end end)
{
	struct fill_status st;

	if (conn_has_output(req->conn) && !conn_flush(req->conn))
		return STEP_WAIT;
	if (req->alone) {
		request_goto(req, REQUEST_RANGED);
		return STEP_NEXT;
	}
	if (end != FILL_END_NONE && end != FILL_END_DONE) {
		request_goto(req, REQUEST_FILL);
		return STEP_NEXT;
	}
	fill_look(req->fill, &st);
	if (req->at == req->first && ranged_may(req, st.own) && ranged_is_due(req, may)) {
		request_goto(req, REQUEST_RANGED);
		return STEP_NEXT;
	}
	return STEP_WAIT; /* fill's `changed` drives on */
}

/* Small parts of what is here go out together. */
static enum step
send_some(struct request *req, uint64_t may)
{
	uint64_t end = may < req->end ? may : req->end;

	if (!req->hit || end < req->end || end - req->at > REQUEST_SMALL_BODY) {
		send_piece(req, end - req->at);
	} else {
		if (!send_small(req))
			return STEP_DONE;
		if (buf_len(conn_output(req->conn)) < BODY_GATHER)
			return STEP_NEXT;
	}
	return conn_flush(req->conn) ? STEP_NEXT : STEP_WAIT;
}

enum step
step_body(struct request *req)
{
	uint64_t may, before = req->bytes;
	enum step next = STEP_NEXT;
	enum fill_end end;

	while (next == STEP_NEXT) {
		if (conn_sends_file(req->conn))
			return STEP_WAIT; /* hooks.drained drives on */
		if (!look(req, &may, &end))
			return request_cut(req, "the object has another size than was said");
		if (req->chunked && end == FILL_END_DONE)
			req->end = may;
		if (req->at >= req->end && !parts_next(req))
			return body_done(req);
		if (may <= req->at)
			return body_lacks(req, may, end);
		if (req->fd < 0) { /* its head was made before the fill had a file for it */
			request_goto(req, REQUEST_FILL);
			return STEP_NEXT;
		}
		if (req->bytes - before >= CONN_TURN_BYTES) { /* others have their turn */
			conn_kick(req->conn);
			return STEP_WAIT;
		}
		next = send_some(req, may);
	}
	return next;
}
