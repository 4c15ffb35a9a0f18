/* `check` against a small real registry: the ladder, coalescing, and what is remembered. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/CUnit.h>
#include <event2/event.h>

#include "check_quirk.h"
#include "origin_stub.h"
#include "suites.h"
#include "trial.h"

enum { LARGE = 64 * 1024 * 1024, MAX_REFUSAL = 64 * 1024 };

static struct origin *registry;
static struct registries *registries;
static struct check *check;
static unsigned went_up, shared;

/* --- the registry --- */

static void
send_status(struct origin_conn *c, const struct origin_request *r, int status, const char *fields,
    const char *body)
{
	origin_send(c, "HTTP/1.1 %d Some\r\nContent-Length: %zu\r\n%s\r\n%s", status, strlen(body),
	    fields, strcmp(r->method, "HEAD") == 0 ? "" : body);
}

static void
send_partial(struct origin_conn *c)
{
	origin_send(c,
	    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/12345\r\nContent-Length: "
	    "1\r\n\r\nx");
}

/* "/<HEAD's status>/<GET's status>/…": 206, 416 and "large" 200 as registries give them. */
static void
answer_by_path(struct origin_conn *c, const struct origin_request *r)
{
	int head, get;

	if (sscanf(r->target, "/%d/%d", &head, &get) != 2)
		send_status(c, r, 400, "", "bad path");
	else if (strcmp(r->method, "HEAD") == 0)
		send_status(c, r, head,
		    "X-By: head\r\nWWW-Authenticate: Basic\r\nWWW-Authenticate: Bearer\r\n",
		    "hello");
	else if (get == 206)
		send_partial(c);
	else if (get == 416)
		send_status(c, r, 416, "Content-Range: bytes */0\r\n", "");
	else
		send_status(c, r, get,
		    "X-By: get\r\nWWW-Authenticate: Basic\r\nWWW-Authenticate: Bearer\r\n",
		    "{\"errors\":[]}");
}

/* More than the sockets' buffers hold: it can only be written when it is read. */
static void
answer_large(struct origin_conn *c, const struct origin_request *r, int status)
{
	if (strcmp(r->method, "HEAD") == 0) {
		send_status(c, r, 403, "", "");
		return;
	}
	origin_send(c, "HTTP/1.1 %d Some\r\nContent-Length: %d\r\n\r\n", status, LARGE);
	origin_note(c, origin_write_pattern(c, 0, LARGE));
}

static void
answer(struct origin_conn *c, const struct origin_request *r)
{
	static const char html[] = "Content-Type: text/html; charset=utf-8\r\n";

	if (strncmp(r->target, "/wait", 5) == 0) {
		origin_wait(c);
		send_status(c, r, 200, "", "hello");
	} else if (strcmp(r->target, "/html") == 0) {
		send_status(c, r, 200, html, "<html>");
	} else if (strcmp(r->target, "/html-by-get") == 0) {
		send_status(c, r, strcmp(r->method, "HEAD") == 0 ? 405 : 200, html, "<html>");
	} else if (strcmp(r->target, "/large") == 0) {
		answer_large(c, r, 200);
	} else if (strcmp(r->target, "/large-refusal") == 0) {
		answer_large(c, r, 404);
	} else if (strcmp(r->target, "/cut-refusal") == 0) {
		origin_send(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\n%s",
		    strcmp(r->method, "HEAD") == 0 ? "" : "cut");
		origin_close(c);
	} else if (strcmp(r->target, "/nothing") == 0) {
		origin_reset(c);
	} else if (strcmp(r->target, "/nowhere") == 0) {
		origin_send(c, "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n");
	} else {
		answer_by_path(c, r);
	}
}

/* --- asking --- */

struct asked {
	struct check_question q;
	struct check_ticket *ticket;
	void (*then)(struct asked *a);
	struct asked *other;
	unsigned answers, order;
	bool done;
	enum check_verdict verdict;
	enum upstream_result result;
	bool by_get;
	int status;
	int64_t size;
	char detail[128], by[16], second_challenge[32], digest[80];
	char *body;
	size_t body_length;
};

static unsigned next_order;

static void
copy(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from == NULL ? "none" : from);
}

static void
take_answer(void *arg, const struct check_answer *a)
{
	struct asked *k = arg;

	k->answers++;
	k->order = ++next_order;
	k->done = true;
	k->ticket = NULL;
	k->verdict = a->verdict;
	k->by_get = a->by_get;
	k->size = a->size;
	if (a->verdict == CHECK_FAILED) {
		k->result = a->result;
		copy(k->detail, sizeof(k->detail), a->detail);
	} else {
		k->status = a->head->status;
		copy(k->by, sizeof(k->by), upstream_header(a->head, "X-By", 0));
		copy(k->second_challenge, sizeof(k->second_challenge),
		    upstream_header(a->head, "www-authenticate", 1));
	}
	free(k->body);
	k->body = a->body == NULL ? NULL : memcpy(malloc(a->body_length), a->body, a->body_length);
	k->body_length = a->body_length;
	if (k->then != NULL)
		k->then(k);
}

static void
want(struct asked *k, const char *target)
{
	memset(k, 0, sizeof(*k));
	k->q = (struct check_question){
	    .scheme = "http", .host = origin_host(registry), .target = target};
}

static void
ask(struct asked *k)
{
	unsigned before = k->answers;

	k->done = false;
	k->ticket = check_ask(check, &k->q, take_answer, k);
	CU_ASSERT_EQUAL(k->answers, before);
}

static void
go(struct asked *k)
{
	ask(k);
	CU_ASSERT(trial_run_until(&k->done));
	CU_ASSERT_EQUAL(k->answers, 1);
}

static void
count(void *arg, bool was_shared)
{
	CU_ASSERT_PTR_EQUAL(arg, &went_up);
	if (was_shared)
		shared++;
	else
		went_up++;
}

static void
begin(void)
{
	struct upstream_config config = trial_config();

	registry = origin_start(answer);
	trial_begin(&config);
	registries = registries_new(
	    &(struct registries_config){.base = trial_base,
		.upstream = trial_upstream,
		.first_byte_ms = 60000});
	check = check_new(registries, count, &went_up);
	went_up = shared = next_order = 0;
}

static void
end(void)
{
	check_free(&check);
	registries_free(&registries);
	trial_end();
	origin_stop(&registry);
}

/* --- the ladder --- */

static bool
asked_by(unsigned nth, const char *method)
{
	return strncmp(origin_head(registry, nth), method, strlen(method)) == 0;
}

static void
test_allowed_by_head(void)
{
	struct asked k;

	want(&k, "/200/500");
	k.q.accept = "a/b, c/d";
	k.q.authorization = "Bearer token";
	go(&k);
	CU_ASSERT_EQUAL(k.verdict, CHECK_ALLOWED);
	CU_ASSERT_EQUAL(k.status, 200);
	CU_ASSERT_EQUAL(k.size, 5);
	CU_ASSERT_FALSE(k.by_get);
	CU_ASSERT_EQUAL(origin_requests(registry), 1);
	CU_ASSERT(asked_by(0, "HEAD /200/500 "));
	CU_ASSERT_EQUAL(origin_saw(registry, 0, "Accept", "a/b, c/d"), 1);
	CU_ASSERT_EQUAL(origin_saw(registry, 0, "Authorization", "Bearer token"), 1);
}

static void
test_no_accept_is_passed_on_as_none(void)
{
	struct asked k;

	want(&k, "/204/500");
	go(&k);
	CU_ASSERT_EQUAL(k.verdict, CHECK_ALLOWED);
	CU_ASSERT_EQUAL(origin_saw(registry, 0, "Accept", NULL), 0);
	CU_ASSERT_EQUAL(origin_saw(registry, 0, "Authorization", NULL), 0);
}

/* One rung: HEAD gives `head`, GET gives `get`; how many requests, and by which the client is
 * answered. */
struct rung {
	int head, get;
	bool credential, want_body;
	unsigned requests;
	enum check_verdict verdict;
	int status;
};

static void
expect_rung(const struct rung *g)
{
	struct asked k;
	char target[32];
	unsigned before = origin_requests(registry);
	bool by_get = g->requests == 2;

	snprintf(target, sizeof(target), "/%d/%d", g->head, g->get);
	want(&k, target);
	k.q.authorization = g->credential ? "Bearer token" : NULL;
	k.q.want_body = g->want_body;
	k.q.accept = "a/b";
	go(&k);
	CU_ASSERT_EQUAL(k.verdict, g->verdict);
	CU_ASSERT_EQUAL(k.status, g->status);
	CU_ASSERT_EQUAL(k.by_get, by_get);
	CU_ASSERT_EQUAL(origin_requests(registry) - before, g->requests);
	CU_ASSERT(asked_by(before, "HEAD "));
	if (by_get) {
		CU_ASSERT(asked_by(before + 1, "GET "));
		CU_ASSERT_EQUAL(origin_saw(registry, before + 1, "Range", "bytes=0-0"), 1);
		CU_ASSERT_EQUAL(origin_saw(registry, before + 1, "Accept", "a/b"), 1);
		CU_ASSERT_EQUAL(
		    origin_saw(registry, before + 1, "Authorization", NULL), g->credential ? 1 : 0);
	}
	if (g->verdict == CHECK_REFUSED) {
		CU_ASSERT_STRING_EQUAL(k.by, by_get ? "get" : "head");
		CU_ASSERT_STRING_EQUAL(k.second_challenge, "Bearer");
		CU_ASSERT_EQUAL(k.body_length, by_get ? strlen("{\"errors\":[]}") : 0);
		CU_ASSERT(!by_get || memcmp(k.body, "{\"errors\":[]}", k.body_length) == 0);
	}
	free(k.body);
}

static void
expect_rungs(const struct rung *g, size_t n)
{
	for (size_t i = 0; i < n; i++)
		expect_rung(&g[i]);
}

static void
test_refused_twice_relays_what_get_says(void)
{
	static const struct rung rungs[] = {
	    {401, 401, true, false, 2, CHECK_REFUSED, 401},
	    {403, 404, false, false, 2, CHECK_REFUSED, 404},
	    {405, 403, false, false, 2, CHECK_REFUSED, 403},
	    {501, 429, true, false, 2, CHECK_REFUSED, 429},
	    {403, 503, false, false, 2, CHECK_REFUSED, 503},
	};

	expect_rungs(rungs, sizeof(rungs) / sizeof(rungs[0]));
}

static void
test_refused_by_head_alone(void)
{
	static const struct rung rungs[] = {
	    {401, 200, false, false, 1, CHECK_REFUSED, 401},
	    {404, 200, true, false, 1, CHECK_REFUSED, 404},
	    {429, 200, false, false, 1, CHECK_REFUSED, 429},
	    {429, 200, true, true, 1, CHECK_REFUSED, 429}, /* each request counts */
	    {500, 200, true, false, 1, CHECK_REFUSED, 500},
	    {503, 200, true, true, 1, CHECK_REFUSED, 503},
	    {502, 200, false, true, 1, CHECK_REFUSED, 502},
	};

	expect_rungs(rungs, sizeof(rungs) / sizeof(rungs[0]));
}

static void
test_a_wanted_body_is_fetched_by_get(void)
{
	static const struct rung rungs[] = {
	    {401, 401, false, true, 2, CHECK_REFUSED, 401},
	    {404, 404, true, true, 2, CHECK_REFUSED, 404},
	    {400, 400, false, true, 2, CHECK_REFUSED, 400},
	};

	expect_rungs(rungs, sizeof(rungs) / sizeof(rungs[0]));
}

static void
expect_allowed_by_get(int head, int get, bool credential, bool want_body, int64_t size)
{
	struct asked k;
	char target[32];

	begin();
	snprintf(target, sizeof(target), "/%d/%d", head, get);
	want(&k, target);
	k.q.authorization = credential ? "Bearer token" : NULL;
	k.q.want_body = want_body;
	k.q.blob = true;
	go(&k);
	CU_ASSERT_EQUAL(k.verdict, CHECK_ALLOWED);
	CU_ASSERT(k.by_get);
	CU_ASSERT_EQUAL(k.status, get);
	CU_ASSERT_EQUAL(k.size, size);
	end();
}

static void
test_get_may_allow_what_head_did_not(void)
{
	end();
	expect_allowed_by_get(401, 206, true, false, 12345); /* ECR Public */
	expect_allowed_by_get(403, 200, false, false, 13);   /* a URL signed for GET */
	expect_allowed_by_get(405, 206, false, false, 12345);
	expect_allowed_by_get(501, 416, false, false, 0); /* an empty blob has no first byte */
	expect_allowed_by_get(404, 206, false, true, 12345);
	begin();
}

static void
expect_failed(const char *target, bool blob, enum upstream_result r, const char *detail)
{
	struct asked k;

	want(&k, target);
	k.q.blob = blob;
	go(&k);
	CU_ASSERT_EQUAL(k.verdict, CHECK_FAILED);
	CU_ASSERT_EQUAL(k.result, r);
	CU_ASSERT_PTR_NOT_NULL(strstr(k.detail, detail));
}

static void
test_a_login_page_is_no_manifest(void)
{
	struct asked k;

	expect_failed("/html", false, UPSTREAM_PROTOCOL, "text/html");
	expect_failed("/html-by-get", false, UPSTREAM_PROTOCOL, "text/html");
	want(&k, "/html");
	k.q.blob = true; /* a blob may be a page */
	go(&k);
	CU_ASSERT_EQUAL(k.verdict, CHECK_ALLOWED);
}

static void
test_no_answer_is_a_failure(void)
{
	expect_failed("/nothing", true, UPSTREAM_CONNECT, "");
	expect_failed("/nowhere", true, UPSTREAM_REDIRECT, "Location");
	expect_failed("/304/200", true, UPSTREAM_REDIRECT, "nowhere");
	expect_failed("/300/200", true, UPSTREAM_REDIRECT, "nowhere");
	expect_failed("/403/204", true, UPSTREAM_PROTOCOL, "status");
}

static void
test_a_large_body_is_not_read(void)
{
	struct asked k, next;

	want(&k, "/large");
	go(&k);
	CU_ASSERT_EQUAL(k.verdict, CHECK_ALLOWED);
	CU_ASSERT_EQUAL(k.size, LARGE);
	want(&next, "/200/200");
	go(&next); /* turns of the loop go by */
	CU_ASSERT_EQUAL(next.verdict, CHECK_ALLOWED);
	CU_ASSERT_EQUAL(k.answers, 1);
	CU_ASSERT_EQUAL(origin_noted(registry), 0);
}

static void
test_of_a_large_refusal_64_kib_are_kept(void)
{
	struct asked k;

	want(&k, "/large-refusal");
	go(&k);
	CU_ASSERT_EQUAL(k.verdict, CHECK_REFUSED);
	CU_ASSERT_EQUAL(k.status, 404);
	CU_ASSERT_EQUAL(k.body_length, MAX_REFUSAL);
	CU_ASSERT_EQUAL((unsigned char)k.body[MAX_REFUSAL - 1], origin_pattern(MAX_REFUSAL - 1));
	free(k.body);
}

static void
test_a_refusal_that_is_cut_is_a_refusal(void)
{
	struct asked k;

	want(&k, "/cut-refusal");
	k.q.want_body = true;
	go(&k);
	CU_ASSERT_EQUAL(k.verdict, CHECK_REFUSED);
	CU_ASSERT_EQUAL(k.body_length, 3);
	free(k.body);
}

/* --- what is remembered --- */

static void
test_a_registry_that_answers_head_badly_is_asked_by_get(void)
{
	struct asked k;

	want(&k, "/405/206");
	k.q.blob = true;
	go(&k);
	CU_ASSERT_EQUAL(origin_requests(registry), 2);
	want(&k, "/405/206/other");
	k.q.blob = true;
	go(&k);
	CU_ASSERT_EQUAL(k.verdict, CHECK_ALLOWED);
	CU_ASSERT_EQUAL(origin_requests(registry), 3);
	CU_ASSERT(asked_by(2, "GET "));
	want(&k, "/200/404"); /* that was of blobs */
	go(&k);
	CU_ASSERT_EQUAL(k.verdict, CHECK_ALLOWED);
	CU_ASSERT(asked_by(3, "HEAD "));
	want(&k, "/200/404"); /* and GET's no is a no */
	k.q.blob = true;
	go(&k);
	CU_ASSERT_EQUAL(k.verdict, CHECK_REFUSED);
	CU_ASSERT_EQUAL(k.status, 404);
	CU_ASSERT_EQUAL(origin_requests(registry), 5);
	free(k.body);
}

static void
test_a_refusal_by_both_is_no_quirk(void)
{
	struct asked k;

	want(&k, "/403/403");
	go(&k);
	free(k.body);
	want(&k, "/200/500");
	go(&k);
	CU_ASSERT_EQUAL(k.verdict, CHECK_ALLOWED);
	CU_ASSERT(asked_by(2, "HEAD "));
}

static void
test_quirks_are_forgotten_after_ten_minutes(void)
{
	struct quirks q = {0};

	CU_ASSERT_FALSE(quirks_has(&q, "https://a", true, 1000));
	quirks_note(&q, "https://a", true, 1000);
	CU_ASSERT(quirks_has(&q, "https://a", true, 1000 + 600000 - 1));
	CU_ASSERT_FALSE(quirks_has(&q, "https://a", true, 1000 + 600000));
	CU_ASSERT_FALSE(quirks_has(&q, "https://a", false, 1000));
	CU_ASSERT_FALSE(quirks_has(&q, "http://a", true, 1000));
	quirks_note(&q, "https://a", true, 600000);
	CU_ASSERT(quirks_has(&q, "https://a", true, 1000 + 600000));
	quirks_free(&q);
}

static void
test_quirks_are_bounded(void)
{
	struct quirks q = {0};
	char name[32];

	for (unsigned i = 0; i <= QUIRK_MAX; i++) {
		snprintf(name, sizeof(name), "https://r%u", i);
		quirks_note(&q, name, false, 1000 + i);
	}
	CU_ASSERT_FALSE(quirks_has(&q, "https://r0", false, 2000));
	CU_ASSERT(quirks_has(&q, "https://r1", false, 2000));
	CU_ASSERT(quirks_has(&q, name, false, 2000));
	quirks_free(&q);
}

/* --- coalescing --- */

static bool
registry_is_idle(void *arg)
{
	return origin_requests(registry) < *(unsigned *)arg;
}

static void
run_until_requests(unsigned n)
{
	CU_ASSERT(trial_run_while(registry_is_idle, &n));
}

static void
test_identical_questions_share_one_request(void)
{
	enum { MANY = 64 };
	struct asked k[MANY];

	for (int i = 0; i < MANY; i++) {
		want(&k[i], "/wait");
		k[i].q.authorization = "Bearer token";
		ask(&k[i]);
	}
	origin_let_go(registry);
	for (int i = 0; i < MANY; i++) {
		CU_ASSERT(trial_run_until(&k[i].done));
		CU_ASSERT_EQUAL(k[i].verdict, CHECK_ALLOWED);
		CU_ASSERT_EQUAL(k[i].order, (unsigned)i + 1); /* first come, first told */
		CU_ASSERT_EQUAL(k[i].answers, 1);
	}
	CU_ASSERT_EQUAL(origin_requests(registry), 1);
	CU_ASSERT_EQUAL(went_up, 1);
	CU_ASSERT_EQUAL(shared, MANY - 1);
}

static void
test_questions_that_differ_share_nothing(void)
{
	enum { KINDS = 8 };
	struct asked k[KINDS];

	for (int i = 0; i < KINDS; i++)
		want(&k[i], "/wait");
	k[1].q.authorization = "Bearer one";
	k[2].q.authorization = "Bearer two";
	k[3].q.authorization = "";
	k[4].q.accept = "a/b";
	k[5].q.want_body = true;
	k[6].q.target = "/wait?other";
	k[7].q.accept = "";
	for (int i = 0; i < KINDS; i++) {
		ask(&k[i]);
		origin_let_go(registry);
	}
	for (int i = 0; i < KINDS; i++) {
		CU_ASSERT(trial_run_until(&k[i].done));
		CU_ASSERT_EQUAL(k[i].verdict, CHECK_ALLOWED);
	}
	CU_ASSERT_EQUAL(origin_requests(registry), KINDS);
	CU_ASSERT_EQUAL(went_up, KINDS);
	CU_ASSERT_EQUAL(shared, 0);
}

static void
test_one_may_join_until_the_answer(void)
{
	struct asked first, late;

	want(&first, "/wait");
	ask(&first);
	run_until_requests(1);
	want(&late, "/wait");
	ask(&late);
	origin_let_go(registry);
	CU_ASSERT(trial_run_until(&late.done));
	CU_ASSERT(first.done);
	CU_ASSERT_EQUAL(origin_requests(registry), 1);
}

static void
test_no_answer_is_used_again(void)
{
	struct asked k;

	for (unsigned i = 1; i <= 3; i++) {
		want(&k, "/200/500");
		go(&k);
		CU_ASSERT_EQUAL(origin_requests(registry), i);
	}
}

static void
ask_other(struct asked *k)
{
	k->then = NULL;
	ask(k->other);
}

static void
test_a_question_from_within_its_answer_goes_upstream(void)
{
	struct asked first, second, again;

	want(&first, "/wait");
	want(&second, "/wait");
	want(&again, "/wait");
	first.then = ask_other;
	first.other = &again;
	ask(&first);
	ask(&second);
	origin_let_go(registry);
	CU_ASSERT(trial_run_until(&second.done));
	CU_ASSERT_FALSE(again.done);
	origin_let_go(registry);
	CU_ASSERT(trial_run_until(&again.done));
	CU_ASSERT_EQUAL(origin_requests(registry), 2);
	CU_ASSERT_EQUAL(first.answers + second.answers + again.answers, 3);
}

static void
cancel_other(struct asked *k)
{
	check_cancel(&k->other->ticket);
}

static void
test_an_answer_may_cancel_another_waiter(void)
{
	struct asked first, second, third;

	want(&first, "/wait");
	want(&second, "/wait");
	want(&third, "/wait");
	first.then = cancel_other;
	first.other = &second;
	ask(&first);
	ask(&second);
	ask(&third);
	origin_let_go(registry);
	CU_ASSERT(trial_run_until(&third.done));
	CU_ASSERT_EQUAL(second.answers, 0);
	CU_ASSERT_PTR_NULL(second.ticket);
}

static void
test_a_waiter_that_leaves_does_not_end_the_others(void)
{
	struct asked first, second;

	want(&first, "/wait");
	want(&second, "/wait");
	ask(&first);
	ask(&second);
	run_until_requests(1);
	check_cancel(&first.ticket);
	CU_ASSERT_PTR_NULL(first.ticket);
	origin_let_go(registry);
	CU_ASSERT(trial_run_until(&second.done));
	CU_ASSERT_EQUAL(second.verdict, CHECK_ALLOWED);
	CU_ASSERT_EQUAL(first.answers, 0);
	CU_ASSERT_EQUAL(origin_requests(registry), 1);
}

static void
test_the_last_waiter_takes_the_request_with_it(void)
{
	struct asked first, second, other;

	want(&first, "/wait");
	want(&second, "/wait");
	ask(&first);
	ask(&second);
	run_until_requests(1);
	check_cancel(&first.ticket);
	check_cancel(&second.ticket);
	origin_let_go(registry);
	want(&other, "/200/500");
	go(&other);
	CU_ASSERT_EQUAL(first.answers + second.answers, 0);
	want(&first, "/wait"); /* the same question is a new one */
	ask(&first);
	origin_let_go(registry);
	CU_ASSERT(trial_run_until(&first.done));
	CU_ASSERT_EQUAL(origin_requests(registry), 3);
	CU_ASSERT_EQUAL(went_up, 3);
}

static void
test_cancel_before_anything_went_out(void)
{
	struct asked k, other;

	want(&k, "/wait");
	ask(&k);
	check_cancel(&k.ticket);
	check_cancel(&k.ticket); /* of nothing */
	want(&other, "/200/500");
	go(&other);
	CU_ASSERT_EQUAL(k.answers, 0);
	CU_ASSERT_EQUAL(origin_requests(registry), 1);
}

static void
test_free_with_questions_in_flight(void)
{
	struct asked waiting, fresh;

	want(&waiting, "/wait");
	ask(&waiting);
	run_until_requests(1);
	want(&fresh, "/200/200");
	ask(&fresh);
	check_free(&check);
	CU_ASSERT_PTR_NULL(check);
	event_base_loop(trial_base, EVLOOP_NONBLOCK);
	CU_ASSERT_EQUAL(waiting.answers + fresh.answers, 0);
}

void
suite_check(void)
{
	CU_pSuite s = CU_add_suite_with_setup_and_teardown("check", NULL, NULL, begin, end);

	CU_ADD_TEST(s, test_allowed_by_head);
	CU_ADD_TEST(s, test_no_accept_is_passed_on_as_none);
	CU_ADD_TEST(s, test_refused_twice_relays_what_get_says);
	CU_ADD_TEST(s, test_refused_by_head_alone);
	CU_ADD_TEST(s, test_a_wanted_body_is_fetched_by_get);
	CU_ADD_TEST(s, test_get_may_allow_what_head_did_not);
	CU_ADD_TEST(s, test_a_login_page_is_no_manifest);
	CU_ADD_TEST(s, test_no_answer_is_a_failure);
	CU_ADD_TEST(s, test_a_large_body_is_not_read);
	CU_ADD_TEST(s, test_of_a_large_refusal_64_kib_are_kept);
	CU_ADD_TEST(s, test_a_refusal_that_is_cut_is_a_refusal);
	CU_ADD_TEST(s, test_a_registry_that_answers_head_badly_is_asked_by_get);
	CU_ADD_TEST(s, test_a_refusal_by_both_is_no_quirk);
	CU_ADD_TEST(s, test_quirks_are_forgotten_after_ten_minutes);
	CU_ADD_TEST(s, test_quirks_are_bounded);
	CU_ADD_TEST(s, test_identical_questions_share_one_request);
	CU_ADD_TEST(s, test_questions_that_differ_share_nothing);
	CU_ADD_TEST(s, test_one_may_join_until_the_answer);
	CU_ADD_TEST(s, test_no_answer_is_used_again);
	CU_ADD_TEST(s, test_a_question_from_within_its_answer_goes_upstream);
	CU_ADD_TEST(s, test_an_answer_may_cancel_another_waiter);
	CU_ADD_TEST(s, test_a_waiter_that_leaves_does_not_end_the_others);
	CU_ADD_TEST(s, test_the_last_waiter_takes_the_request_with_it);
	CU_ADD_TEST(s, test_cancel_before_anything_went_out);
	CU_ADD_TEST(s, test_free_with_questions_in_flight);
}
