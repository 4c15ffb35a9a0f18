/* Fuzz target: request heads and bodies. What was read keeps its promises, and does not depend
 * on how the bytes came. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"

enum { ARENA_LIMIT = 256 * 1024 };

#define MUST(what) do { if (!(what)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
	enum http_parse parse;
	size_t consumed;
	const char *error;
	struct http_head head;
	struct arena arena;
};

/* Reads a copy of exactly `len` bytes, gone when this returns: nothing of the head may lead into
 * it. */
static void
parse(const char *data, size_t len, struct result *r)
{
	char *copy = malloc(len + (len == 0));

	MUST(copy != NULL);
	memcpy(copy, data, len);
	*r = (struct result){0};
	arena_init(&r->arena, ARENA_LIMIT);
	r->parse = http_parse_head(copy, len, &r->arena, &r->head, &r->consumed, &r->error);
	free(copy);
	MUST((r->parse == HTTP_BAD) == (r->error != NULL));
}

static void
check_text(const char *s, bool spaces)
{
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		MUST(c != 0x7f && (c >= 0x20 || (spaces && c == '\t')));
		MUST(spaces || (c != ' ' && c < 0x80));
	}
}

static void
check_framing(const struct http_head *h)
{
	unsigned lengths = 0, codings = 0, hosts = 0;

	for (size_t i = 0; i < h->nheaders; i++) {
		lengths += http_name_is(h->headers[i].name, "Content-Length");
		codings += http_name_is(h->headers[i].name, "Transfer-Encoding");
		hosts += http_name_is(h->headers[i].name, "Host");
	}
	MUST(lengths + codings <= 1 && hosts <= 1);
	MUST(h->chunked == (codings == 1));
	MUST(h->chunked ? h->body_length == -1 : h->body_length >= 0);
	MUST(lengths == 1 || h->chunked || h->body_length == 0);
	MUST(hosts == 1 || h->minor == 0);
}

static void
check_head(const struct http_head *h)
{
	MUST(h->minor == 0 || h->minor == 1);
	MUST(h->target[0] == '/' && strlen(h->target) <= HTTP_MAX_TARGET + 1);
	check_text(h->target, false);
	check_text(h->host, false);
	check_text(h->method_name, false);
	MUST(h->nheaders <= HTTP_MAX_HEADERS);
	for (const char *p = h->host; *p != '\0'; p++)
		MUST(*p < 'A' || *p > 'Z');
	for (size_t i = 0; i < h->nheaders; i++) {
		const char *value = h->headers[i].value;
		size_t len = strlen(value);

		MUST(h->headers[i].name[0] != '\0' && strpbrk(h->headers[i].name, ": \t") == NULL);
		check_text(h->headers[i].name, false);
		check_text(value, true);
		MUST(len == 0 ||
		    (strchr(" \t", value[0]) == NULL && strchr(" \t", value[len - 1]) == NULL));
	}
	check_framing(h);
}

/* The same bytes in two steps: a part is refused or not enough, and the whole is read as before. */
static void
check_split(const char *data, size_t at, const struct result *whole)
{
	struct result part;

	parse(data, at, &part);
	if (part.parse == HTTP_OK)
		MUST(whole->parse == HTTP_OK && part.consumed == whole->consumed &&
		    at >= whole->consumed);
	else if (part.parse == HTTP_BAD)
		MUST(whole->parse == HTTP_BAD);
	else
		MUST(whole->parse != HTTP_OK || at < whole->consumed);
	arena_reset(&part.arena);
}

/* Reads the body `step` bytes at a time; false: broken. */
static bool
read_body(const struct http_head *h, const char *data, size_t len, size_t step, struct buf *out,
    size_t *left)
{
	struct http_body b;
	struct buf in = {0};
	bool ok = true;

	http_body_init(&b, h);
	for (size_t at = 0; ok && !b.done && at < len; at += step) {
		buf_append(&in, data + at, len - at < step ? len - at : step);
		ok = http_body_read(&b, &in, out, SIZE_MAX);
		MUST(!ok || b.done || buf_len(&in) == 0);
		*left = buf_len(&in) + (len - at < step ? 0 : len - at - step);
	}
	buf_free(&in);
	return ok;
}

static void
check_body(const struct http_head *h, const char *data, size_t len)
{
	struct buf one = {0}, two = {0};
	size_t left_one = len, left_two = len;
	bool ok = read_body(h, data, len, 1, &one, &left_one);

	MUST(read_body(h, data, len, len + 1, &two, &left_two) == ok);
	if (ok)
		MUST(left_one == left_two && buf_len(&one) == buf_len(&two));
	MUST(h->chunked || ok);
	MUST(h->chunked ||
	    buf_len(&one) == ((uint64_t)h->body_length < len ? (uint64_t)h->body_length : len));
	if (ok && buf_len(&one) > 0)
		MUST(memcmp(buf_data(&one), buf_data(&two), buf_len(&one)) == 0);
	buf_free(&one);
	buf_free(&two);
}

static void
check_values(struct result *r)
{
	const char *range = http_header_get(&r->head, "Range");
	struct http_span *spans = calloc(http_count_ranges(range), sizeof(*spans));
	size_t n;

	MUST(spans != NULL);
	http_etag_matches(
	    http_header_joined(&r->head, "If-None-Match", &r->arena), "\"sha256:ab\"");
	for (uint64_t size = 0; size < 4096; size = size * 2 + 1)
		if (http_parse_ranges(range, size, spans, &n) != HTTP_RANGE_NONE)
			for (size_t i = 0; i < n; i++)
				MUST(spans[i].first < spans[i].end && spans[i].end <= size);
	free(spans);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *bytes = (const char *)data;
	struct result whole;

	parse(bytes, size, &whole);
	if (whole.parse == HTTP_OK) {
		MUST(whole.consumed <= size && !arena_failed(&whole.arena));
		check_head(&whole.head);
		check_values(&whole);
		check_body(&whole.head, bytes + whole.consumed, size - whole.consumed);
		check_split(bytes, whole.consumed, &whole);
		check_split(bytes, whole.consumed - 1, &whole);
	}
	check_split(bytes, size / 2, &whole);
	check_split(bytes, size / 3, &whole);
	arena_reset(&whole.arena);
	return 0;
}
