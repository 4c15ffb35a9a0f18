/* `upstream` against a small real server: what goes out, what is made of what comes back, and
 * how calls end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <CUnit/CUnit.h>
#include <event2/event.h>

#include "origin_stub.h"
#include "suites.h"
#include "trial.h"

static struct origin *origin;

static bool
is(const struct origin_request *r, const char *target)
{
	return strcmp(r->target, target) == 0;
}

static void
send_fields(struct origin_conn *c, int n, size_t value_bytes)
{
	char *value = malloc(value_bytes + 1);

	memset(value, 'v', value_bytes);
	value[value_bytes] = '\0';
	origin_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
	for (int i = 1; i < n; i++)
		origin_send(c, "X-%d: %s\r\n", i, value);
	origin_send(c, "\r\n");
	free(value);
}

static void
answer_head_shapes(struct origin_conn *c, const struct origin_request *r)
{
	if (is(r, "/interim"))
		origin_send(c,
		    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
		    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: 1\r\n\r\nok");
	else if (is(r, "/fold"))
		origin_send(c,
		    "HTTP/1.1 200 OK\r\nA: one\r\n  two\r\n\tthree \r\nContent-Length: 0\r\n\r\n");
	else if (is(r, "/trailer"))
		origin_send(c,
		    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		    "2\r\nab\r\n1\r\nc\r\n0\r\nX-Trailer: 1\r\n\r\n");
	else if (is(r, "/fields-128"))
		send_fields(c, 128, 10);
	else if (is(r, "/fields-129"))
		send_fields(c, 129, 10);
	else if (is(r, "/fields-large"))
		send_fields(c, 60, 3000);
	else if (is(r, "/line-large"))
		send_fields(c, 2, 200000);
	else if (is(r, "/two-lengths"))
		origin_send(
		    c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc");
	else if (is(r, "/not-http"))
		origin_send(c, "220 mail.example ESMTP\r\n\r\n");
	else if (is(r, "/upgrade"))
		origin_send(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
	else
		origin_send(c,
		    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nB: 2\r\nA: 1\r\nb: 3\r\n"
		    "Docker-Content-Digest: sha256:d1\r\n\r\n%s",
		    strcmp(r->method, "HEAD") == 0 ? "" : "hello");
	if (is(r, "/not-http"))
		origin_close(c);
}

/* Some bytes every tenth of a second, until the client has had enough of it. */
static void
trickle(struct origin_conn *c)
{
	const struct timespec tenth = {.tv_nsec = 100000000};

	origin_send(c, "HTTP/1.1 200 OK\r\n\r\n");
	while (origin_write_pattern(c, 0, 100))
		nanosleep(&tenth, NULL);
}

static void
answer_ends(struct origin_conn *c, const struct origin_request *r)
{
	if (is(r, "/cut"))
		origin_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
	else if (is(r, "/cut-chunked"))
		origin_send(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello");
	else if (is(r, "/no-length"))
		origin_send(c, "HTTP/1.1 200 OK\r\n\r\nhello");
	else if (is(r, "/excess"))
		origin_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloEXCESS");
	else if (is(r, "/head-reset"))
		origin_reset(c);
	else if (is(r, "/reset")) {
		origin_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
		origin_wait(c);
		origin_reset(c);
	} else if (is(r, "/trickle")) {
		trickle(c);
	} else if (is(r, "/stand-still")) {
		origin_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
		origin_wait(c);
	} else if (is(r, "/silent")) {
		origin_wait(c);
	} else if (is(r, "/quiet-close")) {
		origin_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	} else if (is(r, "/head-with-body")) {
		origin_send(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n");
		origin_wait(c);
		origin_send(c, "not found");
		return;
	} else {
		answer_head_shapes(c, r);
		return;
	}
	origin_close(c);
}

static struct trial
get(const char *target)
{
	struct trial t;

	trial_want(&t, origin_host(origin), target);
	CU_ASSERT(trial_go(&t));
	return t;
}

static void
begin(void)
{
	struct upstream_config config = trial_config();

	origin = origin_start(answer_ends);
	trial_begin(&config);
}

static void
end(void)
{
	trial_end();
	origin_stop(&origin);
}

static void
test_head_then_body_then_done(void)
{
	struct trial t = get("/hello");

	CU_ASSERT_EQUAL(t.status, 200);
	CU_ASSERT_EQUAL(t.content_length, 5);
	CU_ASSERT_STRING_EQUAL(
	    t.fields, "Content-Length=5|B=2|A=1|b=3|Docker-Content-Digest=sha256:d1|");
	CU_ASSERT_STRING_EQUAL(t.digest, "sha256:d1");
	CU_ASSERT(trial_body_is(&t, "hello"));
	CU_ASSERT_EQUAL(t.turns, 1);
	CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
	CU_ASSERT_STRING_EQUAL(t.detail, "");
	trial_free(&t);
}

static void
test_nth_value_of_a_field(void)
{
	const struct upstream_header h[] = {
	    {"WWW-Authenticate", "Basic"}, {"A", "1"}, {"www-authenticate", "Bearer"}};
	const struct upstream_answer a = {.headers = h, .nheaders = 3};

	CU_ASSERT_STRING_EQUAL(upstream_header(&a, "www-AUTHENTICATE", 0), "Basic");
	CU_ASSERT_STRING_EQUAL(upstream_header(&a, "WWW-Authenticate", 1), "Bearer");
	CU_ASSERT_PTR_NULL(upstream_header(&a, "WWW-Authenticate", 2));
	CU_ASSERT_PTR_NULL(upstream_header(&a, "B", 0));
}

static void
test_head_method_has_head_and_no_data(void)
{
	struct trial t;

	trial_want(&t, origin_host(origin), "/hello");
	t.r.method = "HEAD";
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.heads, 1);
	CU_ASSERT_EQUAL(t.content_length, 5);
	CU_ASSERT_EQUAL(buf_len(&t.body), 0);
	CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
	CU_ASSERT_EQUAL(strncmp(origin_head(origin, 0), "HEAD /hello HTTP/1.1\r\n", 22), 0);
	trial_free(&t);
}

static void
test_plain_request_says_only_what_it_must(void)
{
	struct trial t = get("/v2/a//b/../manifests/sha256%3aAB?n=%2f&ns=x+y");
	char expected[512];

	snprintf(expected, sizeof(expected),
	    "GET /v2/a//b/../manifests/sha256%%3aAB?n=%%2f&ns=x+y HTTP/1.1\r\n"
	    "Host: %s\r\nAccept-Encoding: identity\r\nUser-Agent: registry-cache-test\r\n\r\n",
	    origin_host(origin));
	CU_ASSERT_STRING_EQUAL(origin_head(origin, 0), expected);
	trial_free(&t);
}

static void
test_headers_of_the_caller(void)
{
	static const struct upstream_header h[] = {
	    {"Accept", "a/b, c/d;q=0.5"},
	    {"User-Agent", "client/1"},
	    {"Accept-Encoding", "gzip"},
	    {"Expect", "100-continue"},
	    {"Connection", "close"},
	    {"Host", "evil"},
	    {"X-Empty", ""},
	    {"X-Bad", "1\r\nX-Injected: 1"},
	    {"Authorization", "Basic stolen"},
	    {"Range", "bytes=0-"},
	    {"X-Fine", "yes"},
	};
	struct trial t;

	trial_want(&t, origin_host(origin), "/hello");
	t.r.headers = h;
	t.r.nheaders = sizeof(h) / sizeof(h[0]);
	t.r.authorization = "Bearer token";
	t.r.range_first = 2;
	t.r.range_last = 4;
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "Accept", "a/b, c/d;q=0.5"), 1);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "Accept", NULL), 1);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "User-Agent", "client/1"), 1);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "User-Agent", NULL), 1);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "Accept-Encoding", "identity"), 1);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "Accept-Encoding", NULL), 1);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "Expect", NULL), 0);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "Connection", NULL), 0);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "Host", origin_host(origin)), 1);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "Host", NULL), 1);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "X-Empty", ""), 1);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "X-Injected", NULL), 0);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "Authorization", "Bearer token"), 1);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "Authorization", NULL), 1);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "Range", "bytes=2-4"), 1);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "Range", NULL), 1);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "X-Fine", "yes"), 1);
	/* the server ignored the range: that is the caller's to see */
	CU_ASSERT_EQUAL(t.status, 200);
	CU_ASSERT(trial_body_is(&t, "hello"));
	trial_free(&t);
}

static void
test_open_range(void)
{
	struct trial t;

	trial_want(&t, origin_host(origin), "/hello");
	t.r.range_first = 5000000000;
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "Range", "bytes=5000000000-"), 1);
	trial_free(&t);
}

/* Nothing of a request stays on its handle, which the next one uses. */
static void
test_handles_keep_nothing(void)
{
	static const struct upstream_header h[] = {{"Accept", "x"}, {"Cookie", "c"}};
	struct trial first, second;

	trial_want(&first, origin_host(origin), "/hello");
	first.r.headers = h;
	first.r.nheaders = 2;
	first.r.authorization = "Basic 1";
	first.r.method = "DELETE";
	CU_ASSERT(trial_go(&first));
	second = get("/hello");
	CU_ASSERT_EQUAL(origin_connections(origin), 1);
	CU_ASSERT_EQUAL(strncmp(origin_head(origin, 0), "DELETE ", 7), 0);
	CU_ASSERT_EQUAL(strncmp(origin_head(origin, 1), "GET ", 4), 0);
	CU_ASSERT_EQUAL(origin_saw(origin, 1, "Authorization", NULL), 0);
	CU_ASSERT_EQUAL(origin_saw(origin, 1, "Accept", NULL), 0);
	CU_ASSERT_EQUAL(origin_saw(origin, 1, "Cookie", NULL), 0);
	trial_free(&first);
	trial_free(&second);
}

static void
test_interim_answers_are_skipped(void)
{
	struct trial t = get("/interim");

	CU_ASSERT_EQUAL(t.status, 200);
	CU_ASSERT_STRING_EQUAL(t.fields, "Content-Length=2|A=1|");
	CU_ASSERT(trial_body_is(&t, "ok"));
	trial_free(&t);
}

static void
test_folded_lines_are_joined(void)
{
	struct trial t = get("/fold");

	CU_ASSERT_STRING_EQUAL(t.fields, "A=one two three|Content-Length=0|");
	trial_free(&t);
}

static void
test_trailers_are_no_fields(void)
{
	struct trial t = get("/trailer");

	CU_ASSERT_STRING_EQUAL(t.fields, "Transfer-Encoding=chunked|");
	CU_ASSERT_EQUAL(t.content_length, -1);
	CU_ASSERT(trial_body_is(&t, "abc"));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
	trial_free(&t);
}

static void
test_128_fields_are_taken(void)
{
	struct trial t = get("/fields-128");

	CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
	CU_ASSERT_EQUAL(t.heads, 1);
	trial_free(&t);
}

static void
expect_no_head(const char *target, enum upstream_result r)
{
	struct trial t = get(target);

	CU_ASSERT_EQUAL(t.result, r);
	CU_ASSERT_EQUAL(t.heads, 0);
	CU_ASSERT_NOT_EQUAL(strlen(t.detail), 0);
	trial_free(&t);
}

static void
test_head_over_the_limits_is_refused(void)
{
	expect_no_head("/fields-129", UPSTREAM_PROTOCOL);
	expect_no_head("/fields-large", UPSTREAM_PROTOCOL);
	expect_no_head("/line-large", UPSTREAM_PROTOCOL);
}

static void
test_what_is_not_http_is_refused(void)
{
	expect_no_head("/two-lengths", UPSTREAM_PROTOCOL);
	expect_no_head("/not-http", UPSTREAM_PROTOCOL);
	expect_no_head("/upgrade", UPSTREAM_PROTOCOL);
}

static void
test_connection_that_dies_before_the_head(void)
{
	expect_no_head("/head-reset", UPSTREAM_CONNECT);
}

static void
expect_bad_request(const char *host, const char *target)
{
	struct trial t;

	trial_want(&t, host, target);
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_PROTOCOL);
	CU_ASSERT_EQUAL(origin_requests(origin), 0);
	trial_free(&t);
}

static void
test_what_is_no_url_is_not_asked(void)
{
	char user_in_host[64];

	snprintf(user_in_host, sizeof(user_in_host), "user:pw@%s", origin_host(origin));
	expect_bad_request(user_in_host, "/");
	expect_bad_request(origin_host(origin), "no-slash");
	expect_bad_request(origin_host(origin), "/a\r\nX: 1");
	expect_bad_request(origin_host(origin), "/a#b");
}

static void
test_nobody_listens(void)
{
	struct trial t;
	char host[64];

	snprintf(host, sizeof(host), "%s", origin_host(origin));
	origin_stop(&origin);
	trial_want(&t, host, "/");
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_CONNECT);
	CU_ASSERT_PTR_NOT_NULL(strstr(t.detail, "onnect"));
	trial_free(&t);
	origin = origin_start(answer_ends);
}

static void
test_cut_body_is_broken(void)
{
	struct trial t = get("/cut"), chunked = get("/cut-chunked");

	CU_ASSERT_EQUAL(t.result, UPSTREAM_BROKEN);
	CU_ASSERT(trial_body_is(&t, "hello"));
	CU_ASSERT_EQUAL(chunked.result, UPSTREAM_BROKEN);
	CU_ASSERT(trial_body_is(&chunked, "hello"));
	trial_free(&t);
	trial_free(&chunked);
}

static void
let_go(struct trial *t)
{
	(void)t;
	origin_let_go(origin);
}

static void
test_reset_in_the_body_is_broken(void)
{
	struct trial t;

	trial_want(&t, origin_host(origin), "/reset");
	t.on_data = let_go;
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.status, 200);
	CU_ASSERT_EQUAL(t.result, UPSTREAM_BROKEN);
	trial_free(&t);
}

static void
test_body_without_length_ends_with_its_connection(void)
{
	struct trial t = get("/no-length");

	CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
	CU_ASSERT_EQUAL(t.content_length, -1);
	CU_ASSERT(trial_body_is(&t, "hello"));
	trial_free(&t);
}

static void
test_bytes_beyond_the_length_are_not_delivered(void)
{
	struct trial t = get("/excess"), next = get("/hello");

	CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
	CU_ASSERT(trial_body_is(&t, "hello"));
	CU_ASSERT_EQUAL(next.result, UPSTREAM_OK);
	CU_ASSERT(trial_body_is(&next, "hello"));
	trial_free(&t);
	trial_free(&next);
}

static void
test_calls_use_one_connection_again(void)
{
	for (int i = 0; i < 20; i++) {
		struct trial t = get("/hello");

		CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
		trial_free(&t);
	}
	CU_ASSERT_EQUAL(origin_connections(origin), 1);
}

/* The server closes after each answer and does not say so. */
static void
test_stale_connections_are_never_seen(void)
{
	unsigned failed = 0;

	for (int i = 0; i < 200; i++) {
		struct trial t = get("/quiet-close");

		failed += t.result != UPSTREAM_OK || t.status != 200;
		trial_free(&t);
	}
	CU_ASSERT_EQUAL(failed, 0);
	CU_ASSERT(origin_connections(origin) > 1);
}

/* What is left of an answer on a kept connection is not taken for the next one. */
static void
test_leftovers_on_a_kept_connection_do_no_harm(void)
{
	struct trial t, next;

	trial_want(&t, origin_host(origin), "/head-with-body");
	t.r.method = "HEAD";
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.status, 404);
	origin_let_go(origin);
	next = get("/hello");
	CU_ASSERT_EQUAL(next.result, UPSTREAM_OK);
	CU_ASSERT(trial_body_is(&next, "hello"));
	trial_free(&t);
	trial_free(&next);
}

static void
test_no_answer_in_time(void)
{
	trial_change_limits(15000, 200);
	expect_no_head("/silent", UPSTREAM_TIMEOUT);
}

static void
expect_stands_still(const char *target)
{
	struct trial t = get(target);

	CU_ASSERT_EQUAL(t.status, 200);
	CU_ASSERT(trial_body_is(&t, "hello"));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_BROKEN);
	CU_ASSERT_STRING_EQUAL(t.detail, "the transfer stands still");
	trial_free(&t);
}

static void
test_a_transfer_that_stands_still_is_broken(void)
{
	trial_change_limits(200, 15000);
	expect_stands_still("/stand-still");
}

static void
test_slower_than_low_speed_is_broken(void)
{
	struct upstream_config config = trial_config();
	struct trial t;

	trial_end();
	config.idle_timeout_ms = 500;
	config.low_speed = 1024 * 1024;
	trial_begin(&config);
	trial_want(&t, origin_host(origin), "/trickle");
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_BROKEN);
	CU_ASSERT_STRING_EQUAL(t.detail, "the transfer stands still");
	CU_ASSERT(buf_len(&t.body) > 5); /* it never stood still */
	trial_free(&t);
}

static void
test_every_result_has_a_name(void)
{
	for (int r = UPSTREAM_OK; r <= UPSTREAM_BODY_FAILED; r++)
		CU_ASSERT(strlen(upstream_result_name((enum upstream_result)r)) > 0);
}

/* --- TLS --- */

static char cert_path[64], key_path[64];

static void
begin_tls(void)
{
	snprintf(cert_path, sizeof(cert_path), "/tmp/upstream-test.%d.crt", (int)getpid());
	snprintf(key_path, sizeof(key_path), "/tmp/upstream-test.%d.key", (int)getpid());
	origin_make_certificate(cert_path, key_path);
	origin = origin_start_tls(answer_ends, cert_path, key_path);
}

static void
end_tls(void)
{
	trial_end();
	origin_stop(&origin);
	unlink(cert_path);
	unlink(key_path);
}

static void
tls_get(struct trial *t, const char *host)
{
	trial_want(t, host, "/hello");
	t->r.scheme = "https";
	CU_ASSERT(trial_go(t));
}

static void
test_ca_path_is_trusted_besides_the_system(void)
{
	struct upstream_config config = trial_config();
	struct trial t;

	config.ca_path = cert_path;
	trial_begin(&config);
	for (int i = 0; i < 3; i++) {
		tls_get(&t, origin_host(origin));
		CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
		CU_ASSERT(trial_body_is(&t, "hello"));
		trial_free(&t);
	}
	CU_ASSERT_EQUAL(origin_connections(origin), 1);
}

static void
test_unknown_certificate_is_refused(void)
{
	struct upstream_config config = trial_config();
	struct trial t;

	trial_begin(&config);
	tls_get(&t, origin_host(origin));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_UNTRUSTED);
	CU_ASSERT_PTR_NOT_NULL(strstr(t.detail, "certificate"));
	CU_ASSERT_EQUAL(origin_requests(origin), 0);
	trial_free(&t);
}

static void
test_certificate_of_another_name_is_refused(void)
{
	struct upstream_config config = trial_config();
	struct trial t;
	char host[64];

	config.ca_path = cert_path;
	trial_begin(&config);
	snprintf(host, sizeof(host), "localhost:%u", origin_port(origin));
	tls_get(&t, host);
	CU_ASSERT_EQUAL(t.result, UPSTREAM_UNTRUSTED);
	CU_ASSERT_EQUAL(origin_requests(origin), 0);
	trial_free(&t);
}

static void
test_ca_file_that_cannot_be_read(void)
{
	struct upstream_config config = trial_config();
	struct event_base *base = event_base_new();

	config.ca_path = "/nonexistent/ca.crt";
	CU_ASSERT_PTR_NULL(upstream_new(base, &config));
	event_base_free(base);
}

void
suite_upstream(void)
{
	CU_pSuite s = CU_add_suite_with_setup_and_teardown("upstream", NULL, NULL, begin, end);
	CU_pSuite tls =
	    CU_add_suite_with_setup_and_teardown("upstream-tls", NULL, NULL, begin_tls, end_tls);

	CU_ADD_TEST(s, test_head_then_body_then_done);
	CU_ADD_TEST(s, test_nth_value_of_a_field);
	CU_ADD_TEST(s, test_head_method_has_head_and_no_data);
	CU_ADD_TEST(s, test_plain_request_says_only_what_it_must);
	CU_ADD_TEST(s, test_headers_of_the_caller);
	CU_ADD_TEST(s, test_open_range);
	CU_ADD_TEST(s, test_handles_keep_nothing);
	CU_ADD_TEST(s, test_interim_answers_are_skipped);
	CU_ADD_TEST(s, test_folded_lines_are_joined);
	CU_ADD_TEST(s, test_trailers_are_no_fields);
	CU_ADD_TEST(s, test_128_fields_are_taken);
	CU_ADD_TEST(s, test_head_over_the_limits_is_refused);
	CU_ADD_TEST(s, test_what_is_not_http_is_refused);
	CU_ADD_TEST(s, test_connection_that_dies_before_the_head);
	CU_ADD_TEST(s, test_what_is_no_url_is_not_asked);
	CU_ADD_TEST(s, test_nobody_listens);
	CU_ADD_TEST(s, test_cut_body_is_broken);
	CU_ADD_TEST(s, test_reset_in_the_body_is_broken);
	CU_ADD_TEST(s, test_body_without_length_ends_with_its_connection);
	CU_ADD_TEST(s, test_bytes_beyond_the_length_are_not_delivered);
	CU_ADD_TEST(s, test_calls_use_one_connection_again);
	CU_ADD_TEST(s, test_stale_connections_are_never_seen);
	CU_ADD_TEST(s, test_leftovers_on_a_kept_connection_do_no_harm);
	CU_ADD_TEST(s, test_no_answer_in_time);
	CU_ADD_TEST(s, test_a_transfer_that_stands_still_is_broken);
	CU_ADD_TEST(s, test_slower_than_low_speed_is_broken);
	CU_ADD_TEST(s, test_every_result_has_a_name);
	CU_ADD_TEST(s, test_ca_file_that_cannot_be_read);
	CU_ADD_TEST(tls, test_ca_path_is_trusted_besides_the_system);
	CU_ADD_TEST(tls, test_unknown_certificate_is_refused);
	CU_ADD_TEST(tls, test_certificate_of_another_name_is_refused);
	add_upstream_flow_suite();
	add_upstream_upload_suite();
	add_upstream_redirect_suite();
}
