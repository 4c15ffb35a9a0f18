/* `upstream`: requests with a body, and registries that answer before they have read it. */
#include <stdlib.h>
#include <string.h>

#include <CUnit/CUnit.h>
#include <event2/event.h>

#include "origin_stub.h"
#include "trial.h"

enum { LARGE = 4 * 1024 * 1024 };

static struct origin *origin;

static void
refuse_early(struct origin_conn *c, const struct origin_request *r, const char *connection)
{
	origin_send(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 6\r\n%s\r\n", connection);
	origin_wait(c);
	origin_send(c, "denied");
	origin_read_body(c, r); /* what still comes, until the client lets go */
	origin_close(c);
}

static void
answer(struct origin_conn *c, const struct origin_request *r)
{
	long n;

	if (strcmp(r->target, "/early") == 0) {
		refuse_early(c, r, "");
	} else if (strcmp(r->target, "/early-close") == 0) {
		refuse_early(c, r, "Connection: close\r\n");
	} else if (strcmp(r->target, "/deaf") == 0) {
		origin_wait(c);
	} else if (strcmp(r->target, "/quiet-close") == 0) {
		origin_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
		origin_close(c);
	} else {
		n = origin_read_body(c, r);
		if (n >= 0)
			origin_note(c, (long)origin_body_sum(c));
		origin_send(
		    c, "HTTP/1.1 201 Created\r\nX-Bytes: %ld\r\nContent-Length: 0\r\n\r\n", n);
	}
}

static void
begin(void)
{
	struct upstream_config config = trial_config();

	origin = origin_start(answer);
	trial_begin(&config);
}

static void
end(void)
{
	trial_end();
	origin_stop(&origin);
}

static void
want(struct trial *t, const char *method, const char *target, const char *body, bool chunked)
{
	trial_want(t, origin_host(origin), target);
	t->r.method = method;
	t->upload = body;
	t->r.has_body = true;
	t->r.body_length = chunked ? -1 : (int64_t)strlen(body);
}

static char *
large_text(void)
{
	char *text = malloc(LARGE + 1);

	for (size_t i = 0; i < LARGE; i++)
		text[i] = (char)('a' + origin_pattern(i) % 26);
	text[LARGE] = '\0';
	return text;
}

static void
expect_created(const char *method, const char *body, bool chunked, size_t piece)
{
	struct trial t;
	unsigned nth = origin_requests(origin);
	char expected[64];

	want(&t, method, "/put", body, chunked);
	t.piece = piece;
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
	CU_ASSERT_EQUAL(t.status, 201);
	snprintf(expected, sizeof(expected), "X-Bytes=%zu|Content-Length=0|", strlen(body));
	CU_ASSERT_STRING_EQUAL(t.fields, expected);
	CU_ASSERT_EQUAL((unsigned)origin_noted(origin), origin_sum_of(body));
	snprintf(expected, sizeof(expected), "%zu", strlen(body));
	CU_ASSERT_EQUAL(origin_saw(origin, nth, "Content-Length", expected), chunked ? 0 : 1);
	CU_ASSERT_EQUAL(origin_saw(origin, nth, "Transfer-Encoding", "chunked"), chunked ? 1 : 0);
	CU_ASSERT_EQUAL(origin_saw(origin, nth, "Content-Type", NULL), 0);
	CU_ASSERT_EQUAL(origin_saw(origin, nth, "Expect", NULL), 0);
	CU_ASSERT_EQUAL(strncmp(origin_head(origin, nth), method, strlen(method)), 0);
	trial_free(&t);
}

static void
test_bodies_of_known_length(void)
{
	char *large = large_text();

	expect_created("PUT", "hello", false, 65536);
	expect_created("PATCH", "hello", false, 2);
	expect_created("POST", large, false, 10000);
	expect_created("DELETE", "why", false, 65536);
	free(large);
}

static void
test_chunked_bodies(void)
{
	char *large = large_text();

	expect_created("PATCH", "hello", true, 2);
	expect_created("POST", "", true, 100);
	expect_created("PUT", large, true, 100000);
	free(large);
}

static void
test_empty_body_says_so(void)
{
	expect_created("PUT", "", false, 100);
	expect_created("POST", "", false, 100);
}

static void
test_no_body_where_one_is_usual_is_an_empty_one(void)
{
	static const char *const method[] = {"POST", "PUT", "PATCH"};

	for (unsigned i = 0; i < 3; i++) {
		struct trial t;

		trial_want(&t, origin_host(origin), "/put");
		t.r.method = method[i];
		CU_ASSERT(trial_go(&t));
		CU_ASSERT_EQUAL(t.status, 201);
		CU_ASSERT_EQUAL(origin_saw(origin, i, "Content-Length", "0"), 1);
		CU_ASSERT_EQUAL(origin_saw(origin, i, "Content-Type", NULL), 0);
		trial_free(&t);
	}
}

static void
test_delete_without_body_has_no_length(void)
{
	struct trial t;

	trial_want(&t, origin_host(origin), "/put");
	t.r.method = "DELETE";
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.status, 201);
	CU_ASSERT_EQUAL(origin_saw(origin, 0, "Content-Length", NULL), 0);
	trial_free(&t);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct trial *t = arg;

	(void)fd;
	(void)what;
	t->upload_waits = false;
	upstream_resume(t->call);
}

/* A slow client is not the registry's fault. */
static void
test_a_body_that_waits_longer_than_the_limit(void)
{
	static const struct timeval longer_than_limits = {3, 0};
	struct trial t;
	struct event *timer;

	trial_change_limits(2000, 2000);
	timer = evtimer_new(trial_base, on_timer, &t);
	want(&t, "PUT", "/put", "hello world", false);
	t.upload_waits = true;
	trial_start(&t);
	evtimer_add(timer, &longer_than_limits);
	CU_ASSERT(trial_run_until(&t.done));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
	CU_ASSERT_EQUAL((unsigned)origin_noted(origin), origin_sum_of("hello world"));
	event_free(timer);
	trial_free(&t);
}

static void
expect_body_failed(struct trial *t)
{
	CU_ASSERT(trial_go(t));
	CU_ASSERT_EQUAL(t->result, UPSTREAM_BODY_FAILED);
	CU_ASSERT_EQUAL(t->heads, 0);
	trial_free(t);
}

static void
test_a_body_that_fails_is_never_made_whole(void)
{
	struct trial t;

	want(&t, "PUT", "/put", "hello", false);
	t.upload_fails = true;
	expect_body_failed(&t);
	want(&t, "PUT", "/put", "hello", true);
	t.upload_fails = true;
	expect_body_failed(&t);
	want(&t, "PUT", "/put", "short", false);
	t.r.body_length = 10;
	expect_body_failed(&t);
	want(&t, "GET", "/put", "", false);
	t.r.has_body = false;
	CU_ASSERT(trial_go(&t)); /* the last word of the server so far: no body came to its end */
	CU_ASSERT_EQUAL(origin_noted(origin), 0);
	trial_free(&t);
}

/* The answer is there: what becomes of the body does not matter any more. */
static void
fail_upload_now(struct trial *t)
{
	t->upload_waits = false;
	t->upload_fails = true;
	origin_let_go(origin);
}

static void
expect_early_answer(const char *target, bool chunked)
{
	struct trial t;

	want(&t, "PUT", target, "hello", chunked);
	t.upload_waits = true; /* for ever */
	t.on_head = fail_upload_now;
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.status, 401);
	CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
	CU_ASSERT(trial_body_is(&t, "denied"));
	trial_free(&t);
}

static void
test_an_answer_before_the_body_is_an_answer(void)
{
	expect_early_answer("/early", false);
	expect_early_answer("/early", true);
	expect_early_answer("/early-close", false);
	expect_early_answer("/early-close", true);
}

static void
test_an_answer_in_the_middle_of_a_large_body(void)
{
	char *large = large_text();
	struct trial t;

	want(&t, "PUT", "/early", large, false);
	origin_let_go(origin);
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.status, 401);
	CU_ASSERT(trial_body_is(&t, "denied"));
	trial_free(&t);
	free(large);
}

static void
test_a_server_that_does_not_read(void)
{
	size_t n = 64 * 1024 * 1024;
	char *huge = malloc(n + 1);
	struct trial t;

	memset(huge, 'x', n);
	huge[n] = '\0';
	trial_change_limits(300, 15000);
	want(&t, "PUT", "/deaf", huge, false);
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_TIMEOUT);
	CU_ASSERT_STRING_EQUAL(t.detail, "the upload stands still");
	CU_ASSERT_EQUAL(t.heads, 0);
	trial_free(&t);
	free(huge);
}

static void
test_no_answer_after_the_body(void)
{
	struct trial t;

	trial_change_limits(15000, 300);
	want(&t, "PUT", "/deaf", "hello", false);
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_TIMEOUT);
	CU_ASSERT_STRING_EQUAL(t.detail, "no answer in time");
	trial_free(&t);
}

/* A body cannot be said twice, so it must not meet a connection that is dead already. */
static void
test_a_body_meets_no_stale_connection(void)
{
	for (int i = 0; i < 20; i++) {
		struct trial t;

		trial_want(&t, origin_host(origin), "/quiet-close");
		CU_ASSERT(trial_go(&t));
		CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
		trial_free(&t);
		expect_created("PUT", "hello", false, 65536);
	}
}

void
add_upstream_upload_suite(void)
{
	CU_pSuite s =
	    CU_add_suite_with_setup_and_teardown("upstream-upload", NULL, NULL, begin, end);

	CU_ADD_TEST(s, test_bodies_of_known_length);
	CU_ADD_TEST(s, test_chunked_bodies);
	CU_ADD_TEST(s, test_empty_body_says_so);
	CU_ADD_TEST(s, test_no_body_where_one_is_usual_is_an_empty_one);
	CU_ADD_TEST(s, test_delete_without_body_has_no_length);
	CU_ADD_TEST(s, test_a_body_that_waits_longer_than_the_limit);
	CU_ADD_TEST(s, test_a_body_that_fails_is_never_made_whole);
	CU_ADD_TEST(s, test_an_answer_before_the_body_is_an_answer);
	CU_ADD_TEST(s, test_an_answer_in_the_middle_of_a_large_body);
	CU_ADD_TEST(s, test_a_server_that_does_not_read);
	CU_ADD_TEST(s, test_no_answer_after_the_body);
	CU_ADD_TEST(s, test_a_body_meets_no_stale_connection);
}
