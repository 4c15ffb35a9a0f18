/* `upstream`: redirects and proxies (WIRE.md 9.1). Two servers: "registry", and "cdn" on another
 * port. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "origin_stub.h"
#include "trial.h"

static struct origin *registry, *cdn;

/* The digest names the place that said it. */
static void
redirect(struct origin_conn *c, const struct origin_request *r, int status, const char *location)
{
	origin_send(c,
	    "HTTP/1.1 %d See There\r\nLocation: %s\r\nDocker-Content-Digest: sha256:%s\r\n"
	    "Content-Length: 0\r\n\r\n",
	    status, location, r->target);
}

static void
to_cdn(struct origin_conn *c, const struct origin_request *r, const char *target)
{
	char location[256];

	snprintf(location, sizeof(location), "http://127.0.0.1:%u%s", r->other_port, target);
	redirect(c, r, 307, location);
}

static void
answer_status(struct origin_conn *c, int status)
{
	origin_send(c, "HTTP/1.1 %d Some\r\nLocation: /final\r\nContent-Length: 0\r\n\r\n", status);
}

/* "/hops-N" leads N redirects further; "/status-N" answers with that status. */
static void
answer_numbered(struct origin_conn *c, const struct origin_request *r)
{
	char location[64];
	int n;

	if (sscanf(r->target, "/hops-%d", &n) == 1 && n > 0) {
		snprintf(location, sizeof(location), "/hops-%d", n - 1);
		redirect(c, r, 302, location);
	} else if (sscanf(r->target, "/status-%d", &n) == 1) {
		answer_status(c, n);
	} else {
		origin_send(c,
		    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDocker-Content-Digest: "
		    "sha256:final\r\n\r\n%s",
		    strcmp(r->method, "HEAD") == 0 ? "" : "hello");
	}
}

static void
answer_with_body(struct origin_conn *c, size_t n)
{
	origin_send(c, "HTTP/1.1 302 Found\r\nLocation: final\r\nContent-Length: %zu\r\n\r\n", n);
	origin_write_pattern(c, 0, n);
}

static void
answer(struct origin_conn *c, const struct origin_request *r)
{
	static const struct {
		const char *target, *location;
	} plain[] = {
	    {"/relative/a", "b?x=1"},
	    {"/parent/a/b", "../c"},
	    {"/rooted", "/final"},
	    {"/fragment", "/final#part"},
	    {"/loop", "/loop"},
	    {"/ftp", "ftp://127.0.0.1/x"},
	    {"/file", "file:///etc/passwd"},
	    {"/user", "http://user:pw@127.0.0.1/x"},
	    {"/nonsense", "http://"},
	    {"/link-local", "http://169.254.169.254/latest/meta-data"},
	    {"/link-local-v6", "http://[fe80::1]/"},
	    {"/mapped", "http://[::ffff:169.254.169.254]/"},
	};

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
		if (strcmp(r->target, plain[i].target) == 0) {
			redirect(c, r, 302, plain[i].location);
			return;
		}
	if (strcmp(r->target, "/cdn") == 0)
		to_cdn(c, r, "/final?sig=%2Babc");
	else if (strcmp(r->target, "/cdn-and-back") == 0)
		to_cdn(c, r, "/back");
	else if (strcmp(r->target, "/cdn-twice") == 0)
		to_cdn(c, r, "/rooted");
	else if (strcmp(r->target, "/back") == 0)
		to_cdn(c, r, "/home");
	else if (strcmp(r->target, "/body-small") == 0)
		answer_with_body(c, 1000);
	else if (strcmp(r->target, "/body-large") == 0)
		answer_with_body(c, 8 * 1024 * 1024);
	else if (strcmp(r->target, "/no-location") == 0)
		origin_send(c, "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n");
	else
		answer_numbered(c, r);
}

/* As a proxy: tells what it was asked for; "http://registry.test/away" leads to the cdn. */
static void
answer_proxy(struct origin_conn *c, const struct origin_request *r)
{
	if (strcmp(r->target, "http://registry.test/away") == 0)
		to_cdn(c, r, "/final");
	else if (strcmp(r->method, "CONNECT") == 0)
		origin_send(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
	else
		origin_send(c, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
		    strlen(r->target), r->target);
}

static void
begin_config(const struct upstream_config *config, origin_handler *first)
{
	registry = origin_start(first);
	cdn = origin_start(answer);
	origin_set_other_port(registry, origin_port(cdn));
	origin_set_other_port(cdn, origin_port(registry));
	trial_begin(config);
}

static void
begin(void)
{
	struct upstream_config config = trial_config();

	begin_config(&config, answer);
}

static void
end(void)
{
	trial_end();
	origin_stop(&registry);
	origin_stop(&cdn);
}

static const struct upstream_header headers[] = {
    {"Accept", "a/b"},
    {"Cookie", "secret"},
    {"X-Private", "secret"},
    {"If-Range", "\"e\""},
};

static void
want(struct trial *t, const char *target)
{
	trial_want(t, origin_host(registry), target);
	t->r.follow = true;
	t->r.authorization = "Bearer token";
	t->r.headers = headers;
	t->r.nheaders = sizeof(headers) / sizeof(headers[0]);
	t->r.range_first = 3;
}

static void
expect_final(const char *target, const char *asked)
{
	struct trial t;
	unsigned nth = origin_requests(registry) + 1;
	char line[128];

	want(&t, target);
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
	CU_ASSERT_EQUAL(t.status, 200);
	CU_ASSERT_EQUAL(t.redirects, 1);
	CU_ASSERT(trial_body_is(&t, "hello"));
	snprintf(line, sizeof(line), "GET %s HTTP/1.1\r\n", asked);
	CU_ASSERT_EQUAL(strncmp(origin_head(registry, nth), line, strlen(line)), 0);
	trial_free(&t);
}

static void
test_relative_locations(void)
{
	expect_final("/relative/a", "/relative/b?x=1");
	expect_final("/parent/a/b", "/parent/c");
	expect_final("/rooted", "/final");
	expect_final("/fragment", "/final");
	CU_ASSERT_EQUAL(origin_connections(registry), 1);
}

static void
test_same_origin_keeps_the_credential(void)
{
	struct trial t;

	want(&t, "/rooted");
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(origin_saw(registry, 1, "Authorization", "Bearer token"), 1);
	CU_ASSERT_EQUAL(origin_saw(registry, 1, "X-Private", "secret"), 1);
	CU_ASSERT_STRING_EQUAL(t.digest, "sha256:final"); /* it is the registry's own */
	trial_free(&t);
}

static void
test_another_origin_gets_no_credential(void)
{
	struct trial t;

	want(&t, "/cdn");
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.status, 200);
	CU_ASSERT_EQUAL(t.heads, 1);
	CU_ASSERT_EQUAL(t.redirects, 1);
	CU_ASSERT_STRING_EQUAL(t.digest, "sha256:/cdn");
	CU_ASSERT_EQUAL(origin_saw(registry, 0, "Authorization", "Bearer token"), 1);
	CU_ASSERT_EQUAL(strncmp(origin_head(cdn, 0), "GET /final?sig=%2Babc HTTP/1.1\r\n", 32), 0);
	CU_ASSERT_EQUAL(origin_saw(cdn, 0, "Host", origin_host(cdn)), 1);
	CU_ASSERT_EQUAL(origin_saw(cdn, 0, "Authorization", NULL), 0);
	CU_ASSERT_EQUAL(origin_saw(cdn, 0, "Cookie", NULL), 0);
	CU_ASSERT_EQUAL(origin_saw(cdn, 0, "X-Private", NULL), 0);
	CU_ASSERT_EQUAL(origin_saw(cdn, 0, "Accept", "a/b"), 1);
	CU_ASSERT_EQUAL(origin_saw(cdn, 0, "Range", "bytes=3-"), 1);
	CU_ASSERT_EQUAL(origin_saw(cdn, 0, "If-Range", "\"e\""), 1);
	CU_ASSERT_EQUAL(origin_saw(cdn, 0, "User-Agent", "registry-cache-test"), 1);
	CU_ASSERT_EQUAL(origin_saw(cdn, 0, "Accept-Encoding", "identity"), 1);
	trial_free(&t);
}

static void
test_the_digest_is_the_registry_s_own(void)
{
	struct trial t;

	want(&t, "/cdn-twice");
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.redirects, 2);
	CU_ASSERT_STRING_EQUAL(t.digest, "sha256:/cdn-twice");
	trial_free(&t);
}

static void
test_a_dropped_credential_does_not_come_back(void)
{
	struct trial t;

	want(&t, "/cdn-and-back");
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.status, 200);
	CU_ASSERT_EQUAL(t.redirects, 2);
	CU_ASSERT_EQUAL(strncmp(origin_head(registry, 1), "GET /home ", 10), 0);
	CU_ASSERT_EQUAL(origin_saw(registry, 1, "Authorization", NULL), 0);
	trial_free(&t);
}

static void
test_head_stays_head(void)
{
	struct trial t;

	want(&t, "/cdn");
	t.r.method = "HEAD";
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.status, 200);
	CU_ASSERT_EQUAL(strncmp(origin_head(cdn, 0), "HEAD /final", 11), 0);
	trial_free(&t);
}

static void
test_every_kind_of_redirect_is_followed(void)
{
	static const int status[] = {301, 302, 303, 307, 308};

	for (unsigned i = 0; i < 5; i++) {
		char target[32];

		snprintf(target, sizeof(target), "/status-%d", status[i]);
		expect_final(target, "/final");
	}
}

static void
expect_as_is(struct trial *t, int status)
{
	CU_ASSERT(trial_go(t));
	CU_ASSERT_EQUAL(t->result, UPSTREAM_OK);
	CU_ASSERT_EQUAL(t->status, status);
	CU_ASSERT_EQUAL(t->redirects, 0);
	trial_free(t);
}

static void
test_other_3xx_are_delivered(void)
{
	static const int status[] = {300, 304, 305, 306};

	for (unsigned i = 0; i < 4; i++) {
		struct trial t;
		char target[32];

		snprintf(target, sizeof(target), "/status-%d", status[i]);
		want(&t, target);
		expect_as_is(&t, status[i]);
	}
}

static void
test_not_followed_unless_asked_to(void)
{
	struct trial t;

	want(&t, "/rooted");
	t.r.follow = false;
	expect_as_is(&t, 302);
	want(&t, "/rooted");
	t.r.method = "POST";
	expect_as_is(&t, 302);
}

static void
expect_refused(const char *target, unsigned requests)
{
	struct trial t;
	unsigned before = origin_requests(registry) + origin_requests(cdn);

	want(&t, target);
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_REDIRECT);
	CU_ASSERT_EQUAL(t.heads, 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(t.detail, "redirect"));
	CU_ASSERT_EQUAL(origin_requests(registry) + origin_requests(cdn) - before, requests);
	trial_free(&t);
}

static void
test_ten_redirects_and_no_more(void)
{
	struct trial t;

	want(&t, "/hops-10");
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.status, 200);
	CU_ASSERT_EQUAL(t.redirects, 10);
	trial_free(&t);
	expect_refused("/hops-11", 11);
	expect_refused("/loop", 11);
}

static void
test_locations_that_lead_nowhere(void)
{
	expect_refused("/no-location", 1);
	expect_refused("/ftp", 1);
	expect_refused("/file", 1);
	expect_refused("/user", 1);
	expect_refused("/nonsense", 1);
}

static void
test_link_local_targets_are_refused(void)
{
	expect_refused("/link-local", 1);
	expect_refused("/link-local-v6", 1);
	expect_refused("/mapped", 1);
}

static void
test_the_body_of_a_redirect_is_not_seen(void)
{
	struct trial t;

	expect_final("/body-small", "/final");
	CU_ASSERT_EQUAL(origin_connections(registry), 1);
	want(&t, "/body-large");
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.status, 200);
	CU_ASSERT(trial_body_is(&t, "hello"));
	trial_free(&t);
}

static bool
runs_before_redirect(void *arg)
{
	(void)arg;
	return origin_requests(registry) == 0;
}

static void
test_cancel_between_two_hops(void)
{
	struct trial t;

	want(&t, "/loop");
	trial_start(&t);
	CU_ASSERT(trial_run_while(runs_before_redirect, NULL));
	upstream_cancel(&t.call);
	trial_free(&t);
	want(&t, "/final");
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.status, 200);
	trial_free(&t);
}

/* --- TLS to plain --- */

static void
test_https_never_leads_to_http(void)
{
	struct upstream_config config = trial_config();
	char cert[64], key[64];
	struct trial t;

	end();
	snprintf(cert, sizeof(cert), "/tmp/redirect-test.%d.crt", (int)getpid());
	snprintf(key, sizeof(key), "/tmp/redirect-test.%d.key", (int)getpid());
	origin_make_certificate(cert, key);
	config.ca_path = cert;
	registry = origin_start_tls(answer, cert, key);
	cdn = origin_start(answer);
	origin_set_other_port(registry, origin_port(cdn));
	trial_begin(&config);
	want(&t, "/cdn");
	t.r.scheme = "https";
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_REDIRECT);
	CU_ASSERT_STRING_EQUAL(t.detail, "redirect from https to http");
	CU_ASSERT_EQUAL(origin_requests(cdn), 0);
	trial_free(&t);
	unlink(cert);
	unlink(key);
}

/* --- proxies --- */

/* "registry" is a proxy for everything but 127.0.0.1. Through it a registry has no private
 * address of its own. */
static void
begin_proxy_config(const struct upstream_config *config)
{
	char url[64];

	begin_config(config, answer_proxy);
	snprintf(url, sizeof(url), "http://%s", origin_host(registry));
	setenv("http_proxy", url, 1);
	setenv("https_proxy", url, 1);
	setenv("no_proxy", "127.0.0.1", 1);
}

static void
begin_proxy(void)
{
	struct upstream_config config = trial_config();

	begin_proxy_config(&config);
}

static void
end_proxy(void)
{
	unsetenv("http_proxy");
	unsetenv("https_proxy");
	unsetenv("no_proxy");
	end();
}

static void
test_the_environment_names_a_proxy(void)
{
	struct trial t;

	trial_want(&t, "registry.test", "/v2/?x=1");
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
	CU_ASSERT(trial_body_is(&t, "http://registry.test/v2/?x=1"));
	trial_free(&t);
}

static void
test_no_proxy_is_heeded(void)
{
	struct trial t;

	trial_want(&t, origin_host(cdn), "/final");
	CU_ASSERT(trial_go(&t));
	CU_ASSERT(trial_body_is(&t, "hello"));
	CU_ASSERT_EQUAL(origin_requests(registry), 0);
	trial_free(&t);
}

static void
test_a_proxy_that_refuses_is_no_answer(void)
{
	struct trial t;

	trial_want(&t, "registry.test", "/v2/");
	t.r.scheme = "https";
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_CONNECT);
	CU_ASSERT_EQUAL(t.heads, 0);
	CU_ASSERT_EQUAL(strncmp(origin_head(registry, 0), "CONNECT registry.test:443 ", 26), 0);
	trial_free(&t);
}

static void
expect_private_refused(void)
{
	struct trial t;
	unsigned before = origin_requests(cdn);

	trial_want(&t, "registry.test", "/away");
	t.r.follow = true;
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_REDIRECT);
	CU_ASSERT_STRING_EQUAL(t.detail, "redirect to a private address");
	CU_ASSERT_EQUAL(origin_requests(cdn), before);
	trial_free(&t);
}

static void
test_a_private_target_is_refused(void)
{
	expect_private_refused();
	CU_ASSERT_EQUAL(origin_connections(cdn), 0);
}

/* Another call may talk to that address, and leave a connection: it is not for the redirect to
 * use. */
static void
test_a_private_target_is_refused_on_a_kept_connection(void)
{
	test_no_proxy_is_heeded();
	expect_private_refused();
	CU_ASSERT_EQUAL(origin_connections(cdn), 1);
}

static void
test_a_private_target_may_be_allowed(void)
{
	struct upstream_config config = trial_config();
	struct trial t;

	end_proxy();
	config.allow_private_redirects = true;
	begin_proxy_config(&config);
	trial_want(&t, "registry.test", "/away");
	t.r.follow = true;
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
	CU_ASSERT(trial_body_is(&t, "hello"));
	trial_free(&t);
}

void
add_upstream_redirect_suite(void)
{
	CU_pSuite s =
	    CU_add_suite_with_setup_and_teardown("upstream-redirect", NULL, NULL, begin, end);
	CU_pSuite proxy = CU_add_suite_with_setup_and_teardown(
	    "upstream-proxy", NULL, NULL, begin_proxy, end_proxy);

	CU_ADD_TEST(s, test_relative_locations);
	CU_ADD_TEST(s, test_same_origin_keeps_the_credential);
	CU_ADD_TEST(s, test_another_origin_gets_no_credential);
	CU_ADD_TEST(s, test_the_digest_is_the_registry_s_own);
	CU_ADD_TEST(s, test_a_dropped_credential_does_not_come_back);
	CU_ADD_TEST(s, test_head_stays_head);
	CU_ADD_TEST(s, test_every_kind_of_redirect_is_followed);
	CU_ADD_TEST(s, test_other_3xx_are_delivered);
	CU_ADD_TEST(s, test_not_followed_unless_asked_to);
	CU_ADD_TEST(s, test_ten_redirects_and_no_more);
	CU_ADD_TEST(s, test_locations_that_lead_nowhere);
	CU_ADD_TEST(s, test_link_local_targets_are_refused);
	CU_ADD_TEST(s, test_the_body_of_a_redirect_is_not_seen);
	CU_ADD_TEST(s, test_cancel_between_two_hops);
	CU_ADD_TEST(s, test_https_never_leads_to_http);
	CU_ADD_TEST(proxy, test_the_environment_names_a_proxy);
	CU_ADD_TEST(proxy, test_no_proxy_is_heeded);
	CU_ADD_TEST(proxy, test_a_proxy_that_refuses_is_no_answer);
	CU_ADD_TEST(proxy, test_a_private_target_is_refused);
	CU_ADD_TEST(proxy, test_a_private_target_is_refused_on_a_kept_connection);
	CU_ADD_TEST(proxy, test_a_private_target_may_be_allowed);
}
