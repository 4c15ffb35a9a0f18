/* Request bodies, ranges, entity tags, and the heads of answers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/CUnit.h>

#include "http.h"
#include "suites.h"

/* An assertion that names its case when it fails. */
#define CHECK(ok, which) \
	CU_assertImplementation((ok) ? CU_TRUE : CU_FALSE, __LINE__, which, __FILE__, "", CU_FALSE)

/* --- bodies ----------------------------------------------------------------------------------- */

enum body_end { BODY_BROKEN, BODY_UNFINISHED, BODY_DONE };

/* Feeds `text` in steps of `step` bytes, taking at most `max` a time; what came out is in `out`. */
static enum body_end
feed(
    struct http_body *b, const char *text, size_t step, size_t max, struct buf *in, struct buf *out)
{
	size_t len = strlen(text), at = 0;

	for (;;) {
		size_t before_in, before_out = buf_len(out);

		if (at < len) {
			size_t n = len - at < step ? len - at : step;

			buf_append(in, text + at, n);
			at += n;
		}
		before_in = buf_len(in);
		if (!http_body_read(b, in, out, max))
			return BODY_BROKEN;
		CU_ASSERT_TRUE(buf_len(out) - before_out <= max);
		if (b->done)
			return BODY_DONE;
		if (at == len && buf_len(in) == before_in)
			return BODY_UNFINISHED;
	}
}

static enum body_end
read_body(const char *text, size_t step, size_t max, char *body, size_t *left)
{
	struct http_body b;
	struct buf in = {0}, out = {0};
	enum body_end r;

	http_body_init(&b, &(struct http_head){.chunked = true, .body_length = -1});
	r = feed(&b, text, step, max, &in, &out);
	if (buf_len(&out) > 0)
		memcpy(body, buf_data(&out), buf_len(&out));
	body[buf_len(&out)] = '\0';
	*left = buf_len(&in);
	buf_free(&in);
	buf_free(&out);
	return r;
}

static void
chunks_become_the_body_however_they_come(void)
{
	static const char text[] =
	    "5\r\nhello\r\n0A;name=\"v;w\";x\r\n, 10 bytes\r\n001\r\n!\r\n"
	    "0;last\r\nTrailer: dropped\r\nB:\r\n\r\n";
	char body[64];
	size_t left;

	for (size_t step = 1; step < sizeof(text); step++)
		for (size_t max = 1; max < 20; max++) {
			CU_ASSERT_EQUAL_FATAL(read_body(text, step, max, body, &left), BODY_DONE);
			CU_ASSERT_STRING_EQUAL(body, "hello, 10 bytes!");
			CU_ASSERT_EQUAL(left, 0);
		}
}

static void
a_chunked_body_ends_where_it_ends(void)
{
	char body[64];
	size_t left;

	CU_ASSERT_EQUAL(read_body("1\r\na\r\n0\r\n\r\nGET /", 64, 64, body, &left), BODY_DONE);
	CU_ASSERT_STRING_EQUAL(body, "a");
	CU_ASSERT_EQUAL(left, 5);
	CU_ASSERT_EQUAL(read_body("0\r\n\r\n", 1, 1, body, &left), BODY_DONE);
	CU_ASSERT_STRING_EQUAL(body, "");
	CU_ASSERT_EQUAL(read_body("5\r\nhell", 1, 9, body, &left), BODY_UNFINISHED);
	CU_ASSERT_EQUAL(read_body("0\r\nA: b\r\n", 1, 9, body, &left), BODY_UNFINISHED);
}

static void
loose_chunked_coding_is_refused(void)
{
	static const char *const cases[] = {
		"\r\n", "x\r\n", ";a\r\n", " 5\r\n", "5 \r\nhello\r\n", "5\t;a\r\nhello\r\n",
		"0x5\r\nhello\r\n", "+5\r\nhello\r\n", "-1\r\n", "5\nhello\r\n", "5\rhello\r\n",
		"5\r\nhello\n0\r\n\r\n", "5\r\nhelloX\r\n", "5\r\nhello\r0\r\n", "5;a\nhello\r\n",
		"5;a\rb\r\nhello\r\n", "5;\x01\r\n", "00000000000000005\r\nhello\r\n",
		"ffffffffffffffff\r\n", "8000000000000000\r\n", "10000000000000005\r\n", "0\r\n\n",
		"0\r\nA: b\n\r\n", "0\r\n A: b\r\n\r\n", "0\r\nA: b\r\n\tc\r\n\r\n",
		"0\r\n: b\r\n\r\n", "0\r\nA\x01: b\r\n\r\n", "0\r\n\r\r\n", "5,5\r\nhello\r\n",
		"5\r\n\r\nhello",
	};
	char body[64];
	size_t left;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CHECK(read_body(cases[i], 1, 50, body, &left) == BODY_BROKEN, cases[i]);
		CHECK(read_body(cases[i], 1000, 50, body, &left) == BODY_BROKEN, cases[i]);
	}
}

static void
extensions_and_trailers_are_bounded(void)
{
	static char text[20000];
	char body[8];
	size_t left;

	memset(text, 'a', sizeof(text) - 1);
	memcpy(text, "1;", 2);
	CU_ASSERT_EQUAL(read_body(text, 100, 1, body, &left), BODY_BROKEN);
	memcpy(text, "0\r\n", 3);
	CU_ASSERT_EQUAL(read_body(text, 100, 1, body, &left), BODY_BROKEN);
	for (size_t i = 3; i + 5 < sizeof(text); i += 5) /* many short ones count as well */
		memcpy(text + i, "A:b\r\n", 5);
	CU_ASSERT_EQUAL(read_body(text, 100, 1, body, &left), BODY_BROKEN);
	memcpy(text + 4003, "\r\n", 3);
	CU_ASSERT_EQUAL(read_body(text, 100, 1, body, &left), BODY_DONE);
}

static void
a_body_of_known_length_is_taken_and_no_more(void)
{
	for (size_t step = 1; step < 9; step++)
		for (size_t max = 1; max < 9; max++) {
			struct http_body b;
			struct buf in = {0}, out = {0};

			http_body_init(&b, &(struct http_head){.body_length = 5});
			CU_ASSERT_EQUAL(feed(&b, "helloGET", step, max, &in, &out), BODY_DONE);
			CU_ASSERT_EQUAL_FATAL(buf_len(&out), 5);
			CU_ASSERT_EQUAL(memcmp(buf_data(&out), "hello", 5), 0);
			buf_free(&in);
			buf_free(&out);
		}
}

static void
no_body_is_done_at_once(void)
{
	struct http_body b;
	struct buf in = {0}, out = {0};

	http_body_init(&b, &(struct http_head){.body_length = 0});
	CU_ASSERT_TRUE(b.done);
	buf_append(&in, "GET", 3);
	CU_ASSERT_TRUE(http_body_read(&b, &in, &out, 100));
	CU_ASSERT_EQUAL(buf_len(&in), 3);
	CU_ASSERT_EQUAL(buf_len(&out), 0);
	buf_free(&in);
}

/* --- ranges and entity tags ------------------------------------------------------------------- */

static void
ranges_are_read_as_the_rfc_says(void)
{
	static const struct {
		const char *value;
		uint64_t size;
		enum http_range result;
		uint64_t first, last;
	} cases[] = {
		{"bytes=0-1", 10, HTTP_RANGE_ONE, 0, 1},
		{"bytes=0-0", 1, HTTP_RANGE_ONE, 0, 0},
		{"bytes=9-9", 10, HTTP_RANGE_ONE, 9, 9},
		{"bytes=3-", 10, HTTP_RANGE_ONE, 3, 9},
		{"bytes=3-99", 10, HTTP_RANGE_ONE, 3, 9},
		{"bytes=3-10", 10, HTTP_RANGE_ONE, 3, 9},
		{"bytes=-3", 10, HTTP_RANGE_ONE, 7, 9},
		{"bytes=-30", 10, HTTP_RANGE_ONE, 0, 9},
		{"BYTES= 1-2 ", 10, HTTP_RANGE_ONE, 1, 2},
		{"bytes=0-99999999999999999999999", 10, HTTP_RANGE_ONE, 0, 9},
		{"bytes=-99999999999999999999999", 10, HTTP_RANGE_ONE, 0, 9},
		{"bytes=0-", UINT64_MAX, HTTP_RANGE_ONE, 0, UINT64_MAX - 1},
		{"bytes=10-", 10, HTTP_RANGE_BEYOND, 0, 0},
		{"bytes=10-20", 10, HTTP_RANGE_BEYOND, 0, 0},
		{"bytes=99999999999999999999999-", 10, HTTP_RANGE_BEYOND, 0, 0},
		{"bytes=18446744073709551616-", UINT64_MAX, HTTP_RANGE_BEYOND, 0, 0},
		{"bytes=500-0", 10, HTTP_RANGE_BEYOND, 0, 0},
		{"bytes=5-4", 10, HTTP_RANGE_BEYOND, 0, 0},
		{"bytes=-0", 10, HTTP_RANGE_BEYOND, 0, 0},
		{NULL, 10, HTTP_RANGE_NONE, 0, 0},
		{"", 10, HTTP_RANGE_NONE, 0, 0},
		{"bytes", 10, HTTP_RANGE_NONE, 0, 0},
		{"bytes=", 10, HTTP_RANGE_NONE, 0, 0},
		{"bytes=-", 10, HTTP_RANGE_NONE, 0, 0},
		{"bytes=a-b", 10, HTTP_RANGE_NONE, 0, 0},
		{"bytes=1", 10, HTTP_RANGE_NONE, 0, 0},
		{"bytes=1-2x", 10, HTTP_RANGE_NONE, 0, 0},
		{"bytes=+1-2", 10, HTTP_RANGE_NONE, 0, 0},
		{"bytes=0-1,3-4", 10, HTTP_RANGE_MANY, 0, 1},
		{"bytes=0-1,30-40", 10, HTTP_RANGE_MANY, 0, 1},
		{"bytes=,0-1, ", 10, HTTP_RANGE_ONE, 0, 1},
		{"bytes=10-,20-", 10, HTTP_RANGE_BEYOND, 0, 0},
		{"bytes=0-1;3-4", 10, HTTP_RANGE_NONE, 0, 0},
		{"bytes=0-1,x", 10, HTTP_RANGE_NONE, 0, 0},
		{"bytes=,", 10, HTTP_RANGE_NONE, 0, 0},
		{"bytes=0-,0-,0-", 10, HTTP_RANGE_NONE, 0, 0},
		{"bytes 0-1", 10, HTTP_RANGE_NONE, 0, 0},
		{"lines=0-1", 10, HTTP_RANGE_NONE, 0, 0},
		{"bytes=0-1", 0, HTTP_RANGE_NONE, 0, 0},
		{"bytes=-1", 0, HTTP_RANGE_NONE, 0, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct http_span spans[8] = {{0, 0}};
		size_t n;
		bool right = http_parse_ranges(cases[i].value, cases[i].size, spans, &n) == cases[i].result;

		if (right && (cases[i].result == HTTP_RANGE_ONE || cases[i].result == HTTP_RANGE_MANY))
			right = n > 0 && spans[0].first == cases[i].first &&
			    spans[0].end == cases[i].last + 1;
		CHECK(right, cases[i].value == NULL ? "none" : cases[i].value);
	}
}

static void
several_ranges_keep_their_order(void)
{
	static const char *const value = "bytes=4-5, 0-1,90-, -3,2-";
	static const struct http_span expected[] = {{4, 6}, {0, 2}, {7, 10}, {2, 10}};
	struct http_span *spans = calloc(http_count_ranges(value), sizeof(*spans));
	size_t n;

	CU_ASSERT_EQUAL(http_parse_ranges(value, 10, spans, &n), HTTP_RANGE_MANY);
	CU_ASSERT_EQUAL_FATAL(n, 4);
	for (size_t i = 0; i < n; i++)
		CU_ASSERT(spans[i].first == expected[i].first && spans[i].end == expected[i].end);
	free(spans);
}

/* podman asks for 1024 at a time. */
static void
a_thousand_ranges_are_read_and_more_are_none(void)
{
	struct http_span spans[HTTP_MAX_RANGES + 1];
	struct buf b = {0};
	size_t n;

	buf_printf(&b, "bytes=0-0");
	for (unsigned i = 1; i < HTTP_MAX_RANGES; i++)
		buf_printf(&b, ",%u-%u", 2 * i, 2 * i);
	buf_append(&b, "", 1);
	CU_ASSERT_EQUAL(
	    http_parse_ranges((const char *)buf_data(&b), 10000, spans, &n), HTTP_RANGE_MANY);
	CU_ASSERT_EQUAL(n, HTTP_MAX_RANGES);
	buf_free(&b);
	buf_printf(&b, "bytes=0-0");
	for (unsigned i = 0; i < HTTP_MAX_RANGES; i++)
		buf_printf(&b, ",%u-%u", i, i);
	buf_append(&b, "", 1);
	CU_ASSERT_EQUAL(
	    http_parse_ranges((const char *)buf_data(&b), 10000, spans, &n), HTTP_RANGE_NONE);
	buf_free(&b);
}

static void
a_content_range_is_exact_or_none(void)
{
	static const char *const bad[] = {"", "bytes", "bytes 0-9", "bytes 0-9/", "bytes 9-0/10",
		"bytes 0-10/10", "bytes 0-9/10x", "bytes */10", "lines 0-9/10", "bytes -9/10",
		"bytes 0-9/99999999999999999999", "bytes=0-9/10"};
	uint64_t first, last;
	int64_t size;

	CU_ASSERT_TRUE(http_parse_content_range("bytes 2-9/10", &first, &last, &size));
	CU_ASSERT(first == 2 && last == 9 && size == 10);
	CU_ASSERT_TRUE(http_parse_content_range("Bytes 0-0/*", &first, &last, &size));
	CU_ASSERT(first == 0 && last == 0 && size == -1);
	CU_ASSERT_FALSE(http_parse_content_range(NULL, &first, &last, &size));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!http_parse_content_range(bad[i], &first, &last, &size), bad[i]);
	CU_ASSERT_EQUAL(http_parse_unsatisfied("bytes */10"), 10);
	CU_ASSERT_EQUAL(http_parse_unsatisfied("bytes */*"), -1);
	CU_ASSERT_EQUAL(http_parse_unsatisfied("bytes 0-1/10"), -1);
	CU_ASSERT_EQUAL(http_parse_unsatisfied(NULL), -1);
}

static void
entity_tags_match_weakly(void)
{
	static const char etag[] = "\"sha256:ab\"";
	static const char *const matching[] = {
		"\"sha256:ab\"", "W/\"sha256:ab\"", "*", " * ", "\"x\", \"sha256:ab\"",
		"\"x,y\",,W/\"z\" ,\"sha256:ab\"",
	};
	static const char *const others[] = {
		"", "sha256:ab", "\"sha256:a\"", "\"sha256:abc\"", "\"sha256:ab", "w/\"sha256:ab\"",
		"x, \"sha256:ab\"", "\"*\"", "*, \"x\"", "\"x\" y \"sha256:ab\"",
	};

	for (size_t i = 0; i < sizeof(matching) / sizeof(matching[0]); i++)
		CHECK(http_etag_matches(matching[i], etag), matching[i]);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		CHECK(!http_etag_matches(others[i], etag), others[i]);
	CU_ASSERT_FALSE(http_etag_matches(NULL, etag));
}

/* --- answers ---------------------------------------------------------------------------------- */

/* The answer as a string, until the next call. */
static const char *
text_of(struct buf *b)
{
	static char text[4096];
	size_t n = buf_len(b) < sizeof(text) - 1 ? buf_len(b) : sizeof(text) - 1;

	memcpy(text, buf_data(b), n);
	text[n] = '\0';
	buf_free(b);
	return text;
}

static void
an_answer_has_status_date_and_fields(void)
{
	struct buf b = {0};
	const char *text;
	char day[4], month[4];
	int d, y, h, m, s;

	http_begin(&b, 206, false);
	http_field(&b, "Content-Type", "application/octet-stream");
	http_field_u64(&b, "Content-Length", UINT64_MAX);
	http_field_u64(&b, "Age", 0);
	http_end(&b);
	text = text_of(&b);
	CU_ASSERT_PTR_NOT_NULL_FATAL(strstr(text, "HTTP/1.1 206 Partial Content\r\nDate: "));
	CU_ASSERT_EQUAL(sscanf(text,
			    "HTTP/1.1 206 Partial Content\r\nDate: %3[A-Z-a-z], %2d %3[A-Z-a-z] "
			    "%4d %2d:%2d:%2d GMT",
			    day, &d, month, &y, &h, &m, &s),
	    7);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, " GMT\r\nContent-Type: application/octet-stream\r\n"
	    "Content-Length: 18446744073709551615\r\nAge: 0\r\n\r\n"));
	CU_ASSERT_PTR_NULL(strstr(text, "Connection"));
}

static void
a_closing_answer_says_so(void)
{
	struct buf b = {0};

	http_begin(&b, 400, true);
	CU_ASSERT_PTR_NOT_NULL(strstr(text_of(&b), "\r\nConnection: close\r\n"));
}

static void
fields_cannot_split_an_answer(void)
{
	struct buf b = {0};

	http_field(&b, "X", "a\r\nSet-Cookie: b");
	http_field(&b, "X", "a\nb");
	http_field(&b, "X", "a\rb");
	http_field(&b, "X", "a\x7f");
	http_field(&b, "X\r\nY", "a");
	http_field(&b, "X Y", "a");
	http_field(&b, "X:", "a");
	http_field(&b, "", "a");
	CU_ASSERT_EQUAL(buf_len(&b), 0);
	http_field(&b, "X", "a\tb \xc3\xa4");
	CU_ASSERT_STRING_EQUAL(text_of(&b), "X: a\tb \xc3\xa4\r\n");
}

static void
reasons_are_known(void)
{
	static const int statuses[] = {
		100, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405,
		406, 408, 409, 411, 412, 413, 414, 415, 416, 417, 421, 422, 429, 431, 500, 501, 502,
		503, 504, 505, 507,
	};

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
		CU_ASSERT_STRING_NOT_EQUAL(http_reason(statuses[i]), "Unknown");
	CU_ASSERT_STRING_EQUAL(http_reason(404), "Not Found");
	CU_ASSERT_STRING_EQUAL(http_reason(299), "Unknown");
}

static void
hop_by_hop_fields_are_known(void)
{
	CU_ASSERT_TRUE(http_is_hop_by_hop("connection"));
	CU_ASSERT_TRUE(http_is_hop_by_hop("Transfer-Encoding"));
	CU_ASSERT_TRUE(http_is_hop_by_hop("TE"));
	CU_ASSERT_TRUE(http_is_hop_by_hop("Proxy-Authorization"));
	CU_ASSERT_FALSE(http_is_hop_by_hop("Content-Length"));
	CU_ASSERT_FALSE(http_is_hop_by_hop("WWW-Authenticate"));
}

static void
error_bodies_are_json_whatever_the_message(void)
{
	struct arena arena;

	arena_init(&arena, 4096);
	CU_ASSERT_STRING_EQUAL(http_error_body(&arena, "NAME_INVALID", "a \"b\"\\\n\x01\x7f\xff"),
	    "{\"errors\":[{\"code\":\"NAME_INVALID\","
	    "\"message\":\"a \\\"b\\\"\\\\\\n\\u0001\x7f?\",\"detail\":null}]}\n");
	arena_reset(&arena);
}

void
suite_http_body(void)
{
	CU_pSuite s = CU_add_suite("http bodies and answers", NULL, NULL);

	CU_ADD_TEST(s, chunks_become_the_body_however_they_come);
	CU_ADD_TEST(s, a_chunked_body_ends_where_it_ends);
	CU_ADD_TEST(s, loose_chunked_coding_is_refused);
	CU_ADD_TEST(s, extensions_and_trailers_are_bounded);
	CU_ADD_TEST(s, a_body_of_known_length_is_taken_and_no_more);
	CU_ADD_TEST(s, no_body_is_done_at_once);
	CU_ADD_TEST(s, ranges_are_read_as_the_rfc_says);
	CU_ADD_TEST(s, several_ranges_keep_their_order);
	CU_ADD_TEST(s, a_thousand_ranges_are_read_and_more_are_none);
	CU_ADD_TEST(s, a_content_range_is_exact_or_none);
	CU_ADD_TEST(s, entity_tags_match_weakly);
	CU_ADD_TEST(s, an_answer_has_status_date_and_fields);
	CU_ADD_TEST(s, a_closing_answer_says_so);
	CU_ADD_TEST(s, fields_cannot_split_an_answer);
	CU_ADD_TEST(s, reasons_are_known);
	CU_ADD_TEST(s, hop_by_hop_fields_are_known);
	CU_ADD_TEST(s, error_bodies_are_json_whatever_the_message);
}
