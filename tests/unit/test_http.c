/* Request heads: what is read, and above all what is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/CUnit.h>

#include "http.h"
#include "suites.h"

/* An assertion that names its case when it fails. */
#define CHECK(ok, which) \
	CU_assertImplementation((ok) ? CU_TRUE : CU_FALSE, __LINE__, which, __FILE__, "", CU_FALSE)

/* What a client sends, between the request line and the empty line. */
#define GET(fields) "GET /v2/ HTTP/1.1\r\nHost: a\r\n" fields "\r\n"

static struct arena arena;
static struct http_head head;
static size_t consumed;
static const char *error;

static enum http_parse
parse_bytes(const char *data, size_t len)
{
	char *exact = malloc(len + 1); /* so that a sanitizer sees who reads on */
	enum http_parse r;

	memcpy(exact, data, len);
	arena_reset(&arena);
	arena_init(&arena, 256 * 1024);
	error = NULL;
	consumed = 0;
	r = http_parse_head(exact, len, &arena, &head, &consumed, &error);
	free(exact);
	return r;
}

static enum http_parse
parse(const char *text)
{
	return parse_bytes(text, strlen(text));
}

static bool
said(const char *words)
{
	return error != NULL && strstr(error, words) != NULL;
}

/* --- heads ------------------------------------------------------------------------------------ */

static void
a_containerd_head_is_read(void)
{
	static const char text[] =
	    "HEAD /v2/library/alpine/manifests/3.20?ns=docker.io HTTP/1.1\r\n"
	    "Host: Cache.Example:7000\r\n"
	    "User-Agent: containerd/v2.1.4\r\n"
	    "Accept: application/vnd.docker.distribution.manifest.v2+json, */*\r\n"
	    "Authorization:Bearer abc  \t\r\n"
	    "X-Empty:\r\n"
	    "X-Blank:  \r\n"
	    "\r\n";

	CU_ASSERT_EQUAL_FATAL(parse(text), HTTP_OK);
	CU_ASSERT_EQUAL(consumed, sizeof(text) - 1);
	CU_ASSERT_EQUAL(head.method, HTTP_HEAD);
	CU_ASSERT_STRING_EQUAL(head.method_name, "HEAD");
	CU_ASSERT_STRING_EQUAL(head.target, "/v2/library/alpine/manifests/3.20?ns=docker.io");
	CU_ASSERT_STRING_EQUAL(head.host, "cache.example:7000");
	CU_ASSERT_EQUAL(head.minor, 1);
	CU_ASSERT_TRUE(head.keep_alive);
	CU_ASSERT_FALSE(head.chunked);
	CU_ASSERT_EQUAL(head.body_length, 0);
	CU_ASSERT_EQUAL(head.nheaders, 6);
	CU_ASSERT_STRING_EQUAL(http_header_get(&head, "host"), "Cache.Example:7000");
	CU_ASSERT_STRING_EQUAL(http_header_get(&head, "AUTHORIZATION"), "Bearer abc");
	CU_ASSERT_STRING_EQUAL(http_header_get(&head, "x-empty"), "");
	CU_ASSERT_STRING_EQUAL(http_header_get(&head, "x-blank"), "");
	CU_ASSERT_PTR_NULL(http_header_get(&head, "range"));
}

static void
lines_of_one_field_are_joined_in_order(void)
{
	CU_ASSERT_EQUAL_FATAL(
	    parse(GET("Accept: b\r\nX: 1\r\naccept: a;q=1, c\r\nACCEPT: d\r\n")), HTTP_OK);
	CU_ASSERT_STRING_EQUAL(http_header_joined(&head, "Accept", &arena), "b, a;q=1, c, d");
	CU_ASSERT_STRING_EQUAL(http_header_joined(&head, "X", &arena), "1");
	CU_ASSERT_PTR_NULL(http_header_joined(&head, "Range", &arena));
	CU_ASSERT_STRING_EQUAL(http_header_get(&head, "Accept"), "b");
}

static void
methods_are_told_apart(void)
{
	static const struct {
		const char *line;
		enum http_method method;
	} cases[] = {
		{"GET", HTTP_GET}, {"HEAD", HTTP_HEAD}, {"POST", HTTP_POST}, {"PUT", HTTP_PUT},
		{"PATCH", HTTP_PATCH}, {"DELETE", HTTP_DELETE}, {"OPTIONS", HTTP_OPTIONS},
		{"TRACE", HTTP_OTHER}, {"M-SEARCH", HTTP_OTHER},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[128];

		snprintf(text, sizeof(text), "%s / HTTP/1.1\r\nHost: a\r\n\r\n", cases[i].line);
		CU_ASSERT_EQUAL_FATAL(parse(text), HTTP_OK);
		CU_ASSERT_EQUAL(head.method, cases[i].method);
		CU_ASSERT_STRING_EQUAL(head.method_name, cases[i].line);
		if (cases[i].method != HTTP_OTHER)
			CU_ASSERT_STRING_EQUAL(http_method_name(head.method), cases[i].line);
	}
}

static void
what_follows_a_head_is_left_alone(void)
{
	static const char first[] = GET("Content-Length: 3\r\n"),
			  rest[] = "abcGET / HTTP/1.1\r\n\r\n";
	char text[256];

	snprintf(text, sizeof(text), "\r\n\r\n%s%s", first, rest);
	CU_ASSERT_EQUAL_FATAL(parse(text), HTTP_OK);
	CU_ASSERT_EQUAL(consumed, strlen(first) + 4);
	CU_ASSERT_EQUAL(head.body_length, 3);
}

static void
a_part_of_a_head_asks_for_more(void)
{
	static const char text[] =
	    "\r\nPUT http://Real.example:81/a HTTP/1.1\r\n"
	    "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n";

	for (size_t n = 0; n < sizeof(text) - 1; n++)
		CU_ASSERT_EQUAL(parse_bytes(text, n), HTTP_MORE);
	CU_ASSERT_EQUAL(parse(text), HTTP_OK);
}

static void
persistence_follows_version_and_connection(void)
{
	static const struct {
		const char *text;
		bool keep_alive;
	} cases[] = {
		{GET(""), true},
		{GET("Connection: close\r\n"), false},
		{GET("Connection: foo, CLOSE ,bar\r\n"), false},
		{GET("Connection: foo\r\nConnection: close\r\n"), false},
		{GET("Connection: closed, not-close\r\n"), true},
		{GET("Connection: keep-alive, close\r\n"), false},
		{GET("Connection: Upgrade\r\nUpgrade: h2c\r\n"), true},
		{"GET / HTTP/1.0\r\n\r\n", false},
		{"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
		{"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CHECK(parse(cases[i].text) == HTTP_OK && head.keep_alive == cases[i].keep_alive,
		    cases[i].text);
	}
}

static void
http_1_0_needs_no_host(void)
{
	CU_ASSERT_EQUAL_FATAL(parse("GET / HTTP/1.0\r\n\r\n"), HTTP_OK);
	CU_ASSERT_EQUAL(head.minor, 0);
	CU_ASSERT_STRING_EQUAL(head.host, "");
	CU_ASSERT_EQUAL(head.nheaders, 0);
}

static void
expect_counts_in_http_1_1_only(void)
{
	CU_ASSERT_EQUAL_FATAL(parse(GET("Expect: 100-Continue\r\n")), HTTP_OK);
	CU_ASSERT_TRUE(head.expect_continue);
	CU_ASSERT_EQUAL_FATAL(parse("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n"), HTTP_OK);
	CU_ASSERT_FALSE(head.expect_continue);
}

static void
framing_is_read(void)
{
	CU_ASSERT_EQUAL_FATAL(parse(GET("Content-Length: 9223372036854775807\r\n")), HTTP_OK);
	CU_ASSERT_EQUAL(head.body_length, INT64_MAX);
	CU_ASSERT_FALSE(head.chunked);
	CU_ASSERT_EQUAL_FATAL(parse(GET("transfer-encoding:\tChunked \r\n")), HTTP_OK);
	CU_ASSERT_EQUAL(head.body_length, -1);
	CU_ASSERT_TRUE(head.chunked);
}

static void
the_authority_of_an_absolute_target_wins(void)
{
	CU_ASSERT_EQUAL_FATAL(
	    parse("GET HTTP://Real.Example:81/v2/?a=/b HTTP/1.1\r\nHost: other\r\n\r\n"), HTTP_OK);
	CU_ASSERT_STRING_EQUAL(head.host, "real.example:81");
	CU_ASSERT_STRING_EQUAL(head.target, "/v2/?a=/b");
	CU_ASSERT_EQUAL_FATAL(
	    parse("GET https://r.example HTTP/1.1\r\nHost: other\r\n\r\n"), HTTP_OK);
	CU_ASSERT_STRING_EQUAL(head.host, "r.example");
	CU_ASSERT_STRING_EQUAL(head.target, "/");
	CU_ASSERT_EQUAL_FATAL(parse("GET http://[::1]:5000?q=/ HTTP/1.0\r\n\r\n"), HTTP_OK);
	CU_ASSERT_STRING_EQUAL(head.host, "[::1]:5000");
	CU_ASSERT_STRING_EQUAL(head.target, "/?q=/");
}

static void
every_way_to_smuggle_is_refused(void)
{
	static const struct {
		const char *text, *said;
	} cases[] = {
		{GET("Content-Length: 3\r\nContent-Length: 3\r\n"), "Content-Length"},
		{GET("Content-Length: 3\r\nContent-Length: 4\r\n"), "Content-Length"},
		{GET("Content-Length: 3, 3\r\n"), "Content-Length"},
		{GET("Content-Length: +3\r\n"), "Content-Length"},
		{GET("Content-Length: -3\r\n"), "Content-Length"},
		{GET("Content-Length: 0x3\r\n"), "Content-Length"},
		{GET("Content-Length: 3 4\r\n"), "Content-Length"},
		{GET("Content-Length:\r\n"), "Content-Length"},
		{GET("Content-Length: 9223372036854775808\r\n"), "Content-Length"},
		{GET("Content-Length: 99999999999999999999999\r\n"), "Content-Length"},
		{GET("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), ""},
		{GET("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), ""},
		{GET("Transfer-Encoding: xchunked\r\n"), "Transfer-Encoding"},
		{GET("Transfer-Encoding: chunkedx\r\n"), "Transfer-Encoding"},
		{GET("Transfer-Encoding: chunked, identity\r\n"), "Transfer-Encoding"},
		{GET("Transfer-Encoding: identity, chunked\r\n"), "Transfer-Encoding"},
		{GET("Transfer-Encoding: gzip, chunked\r\n"), "Transfer-Encoding"},
		{GET("Transfer-Encoding: identity\r\n"), "Transfer-Encoding"},
		{GET("Transfer-Encoding:\r\n"), "Transfer-Encoding"},
		{GET("Transfer-Encoding: \x0b" "chunked\r\n"), ""},
		{GET("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), ""},
		{GET("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), ""},
		{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0"},
		{GET("Content-Length : 3\r\n"), ""},
		{GET("Transfer-Encoding : chunked\r\n"), ""},
		{GET("Transfer\tEncoding: chunked\r\n"), ""},
		{GET("X: a\r\n b\r\n"), "folded"},
		{GET("X: a\r\n\tContent-Length: 3\r\n"), "folded"},
		{GET("X:\r\n chunked\r\n"), "folded"},
		{"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "folded"},
		{GET("X: a\nContent-Length: 3\r\n"), "CR"},
		{GET("X: a\rContent-Length: 3\r\n"), ""},
		{GET("X: a\r\r\n"), ""},
		{GET("\r: a\r\n"), ""},
		{GET("X\r: a\r\n"), ""},
		{GET("X:\ra\r\n"), ""},
		{GET("no colon here\r\n"), ""},
		{GET(": no name\r\n"), ""},
		{GET("X Y: a\r\n"), ""},
		{GET("X;: a\r\n"), ""},
		{GET("(X): a\r\n"), ""},
		{GET("X\x7f: a\r\n"), ""},
		{GET("X\xc3\xa4: a\r\n"), ""},
		{GET("X: a\x01\r\n"), ""},
		{GET("X: a\x7f\r\n"), ""},
		{"GET / HTTP/1.1\nHost: a\n\n", "CR"},
		{"GET / HTTP/1.1\r\nHost: a\r\n\n", "CR"},
		{"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
		{"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CHECK(parse(cases[i].text) == HTTP_BAD && said(cases[i].said), cases[i].text);
	}
}

static void
malformed_request_lines_are_refused(void)
{
	static const char *const lines[] = {
		"GET /", "GET / HTTP/0.9", "GET / HTTP/1.2", "GET / HTTP/2.0", "GET / HTTP/1.1 ",
		"GET / http/1.1", "GET / RTSP/1.0", "GET / HTTP/1.10", "GET / HTTP/01.1",
		"GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET\t/ HTTP/1.1", "GET /\tHTTP/1.1",
		"GET /a b HTTP/1.1", "GET /a HTTP/1.1 HTTP/1.1", " GET / HTTP/1.1", "GET HTTP/1.1",
		"GET  HTTP/1.1", "get / HTTP/1.1", "Get / HTTP/1.1", "G3T / HTTP/1.1",
		"FETCH / HTTP/1.1", "DESCRIBE / RTSP/1.0", "SOURCE / ICE/1.0",
		"CONNECT a:443 HTTP/1.1", "CONNECT / HTTP/1.1 ", "OPTIONS * HTTP/1.1",
		"GET * HTTP/1.1", "GET a HTTP/1.1", "GET ftp://a/ HTTP/1.1",
		"GET http:/// HTTP/1.1", "GET http:// HTTP/1.1", "GET http://u@a/ HTTP/1.1",
		"GET http://a,b/ HTTP/1.1", "GET //a#b HTTP/1.1", "GET /a#b HTTP/1.1",
		"GET /\x7f HTTP/1.1", "GET /\x01 HTTP/1.1", "GET /\xc3\xa4 HTTP/1.1",
		"GET /\x0c HTTP/1.1", "GET /\r HTTP/1.1", "\x80 / HTTP/1.1", "{\"a\":1}",
		"SSH-2.0-OpenSSH_9.2", "ABCDEFGHIJKLMNOPQ / HTTP/1.1",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		char text[256];

		snprintf(text, sizeof(text), "%s\r\nHost: a\r\n\r\n", lines[i]);
		CHECK(parse(text) == HTTP_BAD && said(""), lines[i]);
	}
}

static void
a_host_has_to_be_one(void)
{
	static const char *const refused[] = {
		"", "Host:\r\n", "Host: \t\r\n", "Host: a\r\nHost: a\r\n", "Host: a\r\nhost: b\r\n",
		"Host: a b\r\n", "Host: a,b\r\n", "Host: a/b\r\n", "Host: u@a\r\n",
		"Host: a\\b\r\n", "Host: a?b\r\n", "Host: %61\r\n", "Host: :80\r\n",
		"Host: \xc3\xa4\r\n", "Host: a;b\r\n", "Host: a\x01\r\n",
	};
	static char text[1024], name[400];

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n%s\r\n", refused[i]);
		CHECK(parse(text) == HTTP_BAD, refused[i]);
	}
	memset(name, 'a', 262);
	snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", name);
	CU_ASSERT_EQUAL(parse(text), HTTP_BAD);
	CU_ASSERT_TRUE(said("Host"));
	CU_ASSERT_EQUAL(parse("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), HTTP_BAD);
	CU_ASSERT_EQUAL(parse("GET http://a/ HTTP/1.1\r\n\r\n"), HTTP_BAD);
	CU_ASSERT_EQUAL(parse("GET http://a/ HTTP/1.1\r\nHost: b\r\nHost: c\r\n\r\n"), HTTP_BAD);
}

static void
nul_bytes_are_refused_everywhere(void)
{
	static const char text[] = GET("X-Field: value\r\nY: z\r\n");
	char copy[sizeof(text)];

	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		memcpy(copy, text, sizeof(text));
		copy[i] = '\0';
		CHECK(parse_bytes(copy, sizeof(text) - 1) == HTTP_BAD, text + i);
	}
}

static void
what_is_no_http_is_refused_at_once(void)
{
	CU_ASSERT_EQUAL(parse("\x16"), HTTP_BAD);
	CU_ASSERT_EQUAL(parse("\x16\x03\x01\x02"), HTTP_BAD);
	CU_ASSERT_TRUE(said("TLS on a plain HTTP port"));
	CU_ASSERT_EQUAL(parse("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), HTTP_BAD);
	CU_ASSERT_TRUE(said("HTTP/2"));
	CU_ASSERT_EQUAL(parse("PRI "), HTTP_BAD);
	CU_ASSERT_EQUAL(parse("PRI / HTTP/1.1\r\n"), HTTP_BAD);
	CU_ASSERT_EQUAL(parse("PR"), HTTP_MORE);
	CU_ASSERT_EQUAL(parse("g"), HTTP_BAD);
	CU_ASSERT_EQUAL(parse("GET / HTTP/1.1\n"), HTTP_BAD);
	CU_ASSERT_EQUAL(parse("GET /\r\n"), HTTP_BAD);
	CU_ASSERT_EQUAL(parse("GET / HTTP/1.1\r\nA: b\n"), HTTP_BAD);
	CU_ASSERT_EQUAL(parse("GET / HTTP/1.1\r\n X: a\r\n"), HTTP_BAD);
	CU_ASSERT_EQUAL(parse("AAAAAAAAAAAAAAAAAAAAAAAAA"), HTTP_BAD);
	CU_ASSERT_EQUAL(parse_bytes("GET /\0", 6), HTTP_BAD);
	CU_ASSERT_EQUAL(parse("GET / HTTP/1.1\r\nA: b\rc"), HTTP_BAD);
}

/* Makes "GET /aaa… HTTP/1.1" with a target of `n` bytes and `fields` fields besides Host. */
static char *
long_head(size_t n, size_t fields)
{
	char *text = malloc(n + 32 * fields + 128), *p = stpcpy(text, "GET /");

	memset(p, 'a', n - 1);
	p = stpcpy(p + n - 1, " HTTP/1.1\r\nHost: a\r\n");
	for (size_t i = 0; i < fields; i++)
		p += sprintf(p, "X-%zu: %zu\r\n", i, i);
	strcpy(p, "\r\n");
	return text;
}

static void
limits_are_kept(void)
{
	static const struct {
		size_t target, fields;
		enum http_parse result;
	} cases[] = {
		{HTTP_MAX_TARGET, HTTP_MAX_HEADERS - 1, HTTP_OK},
		{HTTP_MAX_TARGET + 1, 1, HTTP_BAD},
		{10, HTTP_MAX_HEADERS, HTTP_BAD},
		{10, 5000, HTTP_BAD},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *text = long_head(cases[i].target, cases[i].fields);

		CU_ASSERT_EQUAL(parse(text), cases[i].result);
		if (cases[i].result == HTTP_OK)
			CU_ASSERT_EQUAL(head.nheaders, cases[i].fields + 1);
		free(text);
	}
}

static void
an_endless_request_line_is_refused_before_its_end(void)
{
	static char text[HTTP_MAX_TARGET + 100] = "GET /";

	memset(text + 5, 'a', sizeof(text) - 6);
	CU_ASSERT_EQUAL(parse_bytes(text, sizeof(text) - 1), HTTP_BAD);
	CU_ASSERT_TRUE(said("too long"));
	CU_ASSERT_EQUAL(parse_bytes(text, HTTP_MAX_TARGET), HTTP_MORE);
	for (size_t i = 0; i < 40; i++)
		memcpy(text + 2 * i, "\r\n", 2);
	CU_ASSERT_EQUAL(parse_bytes(text, 80), HTTP_BAD);
}

static void
a_full_arena_is_a_refusal(void)
{
	static const char text[] = GET("X: y\r\n");

	for (size_t limit = 0; limit < 80; limit += 8) {
		struct arena small;

		arena_init(&small, limit);
		CU_ASSERT_EQUAL(
		    http_parse_head(text, sizeof(text) - 1, &small, &head, &consumed, &error),
		    HTTP_BAD);
		CU_ASSERT_TRUE(said("too large"));
		arena_reset(&small);
	}
}

void
suite_http(void)
{
	CU_pSuite s = CU_add_suite("http", NULL, NULL);

	CU_ADD_TEST(s, a_containerd_head_is_read);
	CU_ADD_TEST(s, lines_of_one_field_are_joined_in_order);
	CU_ADD_TEST(s, methods_are_told_apart);
	CU_ADD_TEST(s, what_follows_a_head_is_left_alone);
	CU_ADD_TEST(s, a_part_of_a_head_asks_for_more);
	CU_ADD_TEST(s, persistence_follows_version_and_connection);
	CU_ADD_TEST(s, http_1_0_needs_no_host);
	CU_ADD_TEST(s, expect_counts_in_http_1_1_only);
	CU_ADD_TEST(s, framing_is_read);
	CU_ADD_TEST(s, the_authority_of_an_absolute_target_wins);
	CU_ADD_TEST(s, every_way_to_smuggle_is_refused);
	CU_ADD_TEST(s, malformed_request_lines_are_refused);
	CU_ADD_TEST(s, a_host_has_to_be_one);
	CU_ADD_TEST(s, nul_bytes_are_refused_everywhere);
	CU_ADD_TEST(s, what_is_no_http_is_refused_at_once);
	CU_ADD_TEST(s, limits_are_kept);
	CU_ADD_TEST(s, an_endless_request_line_is_refused_before_its_end);
	CU_ADD_TEST(s, a_full_arena_is_a_refusal);
}
