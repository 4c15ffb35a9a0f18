/* Answers with several ranges: multipart/byteranges (RFC 9110 section 14.6, RFC 2046 section 5.1.1).
 * What is between the ranges' own bytes is made here; those are sent by whoever sends one range. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "conn.h"
#include "request_private.h"
#include "log.h"

enum { PART_HEAD_SIZE = 512 };

/* It must not be in the object: a random word of 128 bits is not. */
static void
make_boundary(struct request *req)
{
	unsigned char word[16];

	if (getrandom(word, sizeof(word), 0) != (ssize_t)sizeof(word))
		panic("getrandom");
	for (size_t i = 0; i < sizeof(word); i++)
		snprintf(req->boundary + 2 * i, 3, "%02x", word[i]);
}

static const char *
type_of_object(const struct request *req)
{
	return req->route.kind == ROUTE_MANIFEST && req->media_type[0] != '\0'
	    ? req->media_type
	    : "application/octet-stream";
}

static size_t
format_head(const struct request *req, size_t part, char out[PART_HEAD_SIZE])
{
	const struct http_span *s = &req->spans[part];
	int n = snprintf(out, PART_HEAD_SIZE,
	    "%s--%s\r\nContent-Type: %.200s\r\nContent-Range: bytes %" PRIu64 "-%" PRIu64
	    "/%" PRId64 "\r\n\r\n",
	    part == 0 ? "" : "\r\n", req->boundary, type_of_object(req), s->first, s->end - 1,
	    req->size);

	return (size_t)n;
}

static size_t
format_end(const struct request *req, char out[PART_HEAD_SIZE])
{
	return (size_t)snprintf(out, PART_HEAD_SIZE, "\r\n--%s--\r\n", req->boundary);
}

static void
use_part(struct request *req, size_t part)
{
	req->span = part;
	req->first = req->at = req->spans[part].first;
	req->end = req->spans[part].end;
}

uint64_t
parts_begin(struct request *req, struct http_span *spans, size_t n)
{
	char text[PART_HEAD_SIZE];
	uint64_t length;

	req->spans = spans;
	req->nspans = n;
	make_boundary(req);
	length = format_end(req, text);
	for (size_t i = 0; i < n; i++)
		length += format_head(req, i, text) + (spans[i].end - spans[i].first);
	use_part(req, 0);
	return length;
}

const char *
parts_type(struct request *req)
{
	return arena_printf(&req->arena, "multipart/byteranges; boundary=%s", req->boundary);
}

static void
put(struct request *req, const char *text, size_t n)
{
	conn_send(req->conn, text, n);
	req->bytes += n;
}

void
parts_send_head(struct request *req)
{
	char text[PART_HEAD_SIZE];

	put(req, text, format_head(req, req->span, text));
}

bool
parts_next(struct request *req)
{
	char text[PART_HEAD_SIZE];

	if (req->spans == NULL)
		return false;
	if (req->span + 1 == req->nspans) {
		put(req, text, format_end(req, text));
		return false;
	}
	use_part(req, req->span + 1);
	parts_send_head(req);
	return true;
}
