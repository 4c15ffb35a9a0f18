/* Host and path to upstream and object: rules, trust, grammar, and every path that is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/CUnit.h>

#include "route.h"
#include "suites.h"

/* An assertion that names its case when it fails. */
#define CHECK(ok, which) \
	CU_assertImplementation((ok) ? CU_TRUE : CU_FALSE, __LINE__, which, __FILE__, "", CU_FALSE)

#define HEX64 "4abcf20661432fb2d719aaf90656f55c287f8ca915dc1c92ec14ff61e67fbaf8"
#define SHA256 "sha256:" HEX64
#define SHA512 "sha512:" HEX64 HEX64

static struct arena arena;
static struct route route;

static struct route_table *
table_of(const struct route_rule *rules, size_t n)
{
	size_t bad;
	char *error;
	struct route_table *t = route_table_new(rules, n, &bad, &error);

	CU_ASSERT_PTR_NOT_NULL_FATAL(t);
	return t;
}

static enum route_result
ask(const struct route_table *t, const char *host, const char *target, bool reading)
{
	arena_reset(&arena);
	arena_init(&arena, 64 * 1024);
	return route_request(
	    t, &(struct route_question){host, target, NULL, reading}, &arena, &route);
}

/* Against one default backend. */
static enum route_result
ask_path(const char *target, bool reading)
{
	static const struct route_rule rule = {
	    .host = "registry.example", .scheme = "https", .trusted = -1};
	struct route_table *t = table_of(&rule, 1);
	enum route_result r = ask(t, "cache:7000", target, reading);

	route_table_free(&t);
	CU_ASSERT_PTR_NULL(t);
	return r;
}

/* --- rules ------------------------------------------------------------------------------------ */

static void
the_first_rule_that_matches_wins(void)
{
	static const struct route_rule rules[] = {
		/* the default, wherever it stands */
		{.host = "fallback.example", .scheme = "http", .trusted = -1},
		{.regex = "^quay\\.", .host = "quay.io", .scheme = "https", .trusted = -1},
		{.regex = "^q", .host = "other.example:5000", .scheme = "https", .trusted = 0},
	};
	struct route_table *t = table_of(rules, 3);

	CU_ASSERT_EQUAL_FATAL(ask(t, "quay.cache:7000", "/v2/", true), ROUTE_OK);
	CU_ASSERT_STRING_EQUAL(route.upstream, "https://quay.io");
	CU_ASSERT_TRUE(route.trusted);
	CU_ASSERT_EQUAL_FATAL(ask(t, "qq", "/v2/", true), ROUTE_OK);
	CU_ASSERT_STRING_EQUAL(route.upstream, "https://other.example:5000");
	CU_ASSERT_STRING_EQUAL(route.host, "other.example:5000");
	CU_ASSERT_STRING_EQUAL(route.scheme, "https");
	CU_ASSERT_FALSE(route.trusted);
	CU_ASSERT_EQUAL_FATAL(ask(t, "", "/v2/", true), ROUTE_OK);
	CU_ASSERT_STRING_EQUAL(route.upstream, "http://fallback.example");
	route_table_free(&t);
}

static void
without_a_default_an_unknown_host_has_no_upstream(void)
{
	static const struct route_rule rule = {
	    .regex = "^a$", .host = "a.example", .scheme = "https", .trusted = -1};
	struct route_table *t = table_of(&rule, 1);

	CU_ASSERT_EQUAL(ask(t, "b", "/v2/", true), ROUTE_NO_UPSTREAM);
	CU_ASSERT_EQUAL(ask(t, "a", "/v2/", true), ROUTE_OK);
	route_table_free(&t);
	t = table_of(NULL, 0);
	CU_ASSERT_EQUAL(ask(t, "a", "/v2/", true), ROUTE_NO_UPSTREAM);
	route_table_free(&t);
}

static void
captures_make_the_host(void)
{
	static const struct route_rule rules[] = {
		{.regex = "^(.+).dragonfly-local.c3.zone:7000$", .host = "$group1.MyRegistry.com",
		    .scheme = "https", .trusted = -1},
		{.regex = "^(a)?(b)?x(\\d*)$", .host = "r$group2$group1.example:5$group3",
		    .scheme = "http", .trusted = -1},
		{.regex = "^raw-(.*)$", .host = "$group1", .scheme = "https", .trusted = -1},
	};
	struct route_table *t = table_of(rules, 3);

	CU_ASSERT_EQUAL_FATAL(
	    ask(t, "docker.dragonfly-local.c3.zone:7000", "/v2/", true), ROUTE_OK);
	CU_ASSERT_STRING_EQUAL(route.host, "docker.myregistry.com");
	CU_ASSERT_TRUE(route.trusted);
	CU_ASSERT_EQUAL_FATAL(ask(t, "abx00", "/v2/", true), ROUTE_OK);
	CU_ASSERT_STRING_EQUAL(route.upstream, "http://rba.example:500");
	CU_ASSERT_FALSE(route.trusted);
	/* the first group takes no part in this match */
	CU_ASSERT_EQUAL_FATAL(ask(t, "bx", "/v2/", true), ROUTE_OK);
	CU_ASSERT_STRING_EQUAL(route.upstream, "http://rb.example:5");
	CU_ASSERT_EQUAL_FATAL(ask(t, "raw-[::1]:5000", "/v2/", true), ROUTE_OK);
	CU_ASSERT_STRING_EQUAL(route.upstream, "https://[::1]:5000");
	CU_ASSERT_FALSE(route.trusted);
	route_table_free(&t);
}

static void
captures_that_make_no_host_are_refused(void)
{
	static const struct route_rule rule = {
	    .regex = "^(.*)$", .host = "$group1", .scheme = "https", .trusted = -1};
	static const char *const hosts[] = {
		"", ".", "a..b", ".a", "a.", "-a", "a-", "a_b", "a/b", "a@b", "a?b", "a b", "a:",
		"a:0", "a:65536", "a:080", "a:99999999999", "a:b", "a:80:80", ":80", "[::1",
		"[::1]x", "[]", "[1]:80", "[::1]:0", "[fe80::1%eth0]", "::1", "\xc3\xa4",
		"abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcd.example",
	};
	static const char *const good[] = {
	    "a", "a.b-c.d", "127.0.0.1:1", "a:65535", "[2001:db8::1]", "xn--4ca.example"};
	struct route_table *t = table_of(&rule, 1);
	char name[300];

	CU_ASSERT_EQUAL(ask(t, "a\n", "/v2/", true), ROUTE_NO_UPSTREAM); /* "$" is the very end */
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
		CHECK(ask(t, hosts[i], "/v2/", true) == ROUTE_BAD_HOST, hosts[i]);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		CHECK(ask(t, good[i], "/v2/", true) == ROUTE_OK && strcmp(route.host, good[i]) == 0,
		    good[i]);
	}
	memset(name, 'a', sizeof(name));
	for (size_t i = 50; i < sizeof(name); i += 51)
		name[i] = '.';
	name[256] = '\0';
	CU_ASSERT_EQUAL(ask(t, name, "/v2/", true), ROUTE_BAD_HOST);
	name[254] = '\0';
	CU_ASSERT_EQUAL(ask(t, name, "/v2/", true), ROUTE_OK);
	name[254] = 'a';
	name[256] = 'a';
	name[290] = '\0';
	CU_ASSERT_EQUAL(ask(t, name, "/v2/", true), ROUTE_BAD_HOST);
	route_table_free(&t);
}

static void
an_exploding_regex_is_no_match(void)
{
	static const struct route_rule rules[] = {
		{.regex = "^(a+)+$", .host = "evil.example", .scheme = "https", .trusted = -1},
		{.host = "fallback.example", .scheme = "https", .trusted = -1},
	};
	struct route_table *t = table_of(rules, 2);

	CU_ASSERT_EQUAL_FATAL(
	    ask(t, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "/v2/", true),
	    ROUTE_OK);
	CU_ASSERT_STRING_EQUAL(route.host, "fallback.example");
	CU_ASSERT_EQUAL_FATAL(ask(t, "aaaa", "/v2/", true), ROUTE_OK);
	CU_ASSERT_STRING_EQUAL(route.host, "evil.example");
	route_table_free(&t);
}

static void
wrong_rules_are_refused_with_their_number(void)
{
	static const struct {
		struct route_rule rule;
		const char *said;
	} cases[] = {
		{{"(", "a.example", "https", -1, 0}, "offset"},
		{{"^(a)$", "$group2.example", "https", -1, 0}, "$group2"},
		{{NULL, "$group1.example", "https", -1, 0}, "$group1"},
		{{"^(a)$", "$group0.example", "https", -1, 0}, "$group0"},
		{{"^(a)$", "$group.example", "https", -1, 0}, "$group"},
		{{"^(a)$", "$group10.example", "https", -1, 0}, "$group10"},
		{{"^(a)$", "$groupX.example", "https", -1, 0}, "$groupX"},
		{{"^(a)$", "$1.example", "https", -1, 0}, "$1"},
		{{"a", "", "https", -1, 0}, "host"},
		{{"a", "a..example", "https", -1, 0}, "a..example"},
		{{"a", "https://a.example", "https", -1, 0}, "https://a.example"},
		{{"(a)", "$group1.example/path", "https", -1, 0}, "path"},
		{{"a", "a.example:0", "https", -1, 0}, "a.example:0"},
		{{"a", "a.example", "ftp", -1, 0}, "ftp"},
		{{"a", "a.example", NULL, -1, 0}, "scheme"},
		{{"a", NULL, "https", -1, 0}, "host"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct route_rule rules[] = {{"c", "a.example", "https", -1, 0},
		    {"b", "b.example", "https", -1, 0}, cases[i].rule};
		size_t bad = 99;
		char *error = NULL;

		CU_ASSERT_PTR_NULL(route_table_new(rules, 3, &bad, &error));
		CU_ASSERT_EQUAL(bad, 2);
		CU_ASSERT_PTR_NOT_NULL_FATAL(error);
		CHECK(strstr(error, cases[i].said) != NULL, error);
		free(error);
	}
}

static void
there_is_one_default_at_most(void)
{
	static const struct route_rule rules[] = {
		{.host = "a.example", .scheme = "https"}, {.host = "b.example", .scheme = "https"},
	};
	size_t bad = 99;
	char *error = NULL;

	CU_ASSERT_PTR_NULL(route_table_new(rules, 2, &bad, &error));
	CU_ASSERT_EQUAL(bad, 1);
	CU_ASSERT_PTR_NOT_NULL_FATAL(error);
	CU_ASSERT_PTR_NOT_NULL(strstr(error, "second default"));
	free(error);
}

static void
trust_ends_where_captures_choose_the_domain(void)
{
	static const char *const pinned[] = {
		"myregistry.com", "myregistry.com:5000", "localhost", "$group1.myregistry.com",
		"$group1.MyRegistry.COM:5000", "$group1.$group2.example.co.uk",
		"a-$group1.b.myregistry.com", "$group1.registry.internal",
	};
	static const char *const chosen[] = {
		"$group1", "$group1.com", "$group1.co.uk", "$group1.github.io",
		"$group1registry.com", "$group1-registry.com", "registry.com:$group1",
		"registry.com:50$group1", "registry.$group1", "$group1:5000", "$group1.com:5000",
		"$group1.myregistry.com:$group2", "$group1.zone", "10.$group1.2.3", "$group1.0.0.1",
		"$group1.", "$group1..com", "registry.com.$group1", "$group1.example.com.$group2",
		"[::$group1]", "a:$group1.example.com",
	};

	for (size_t i = 0; i < sizeof(pinned) / sizeof(pinned[0]); i++)
		CHECK(!route_captures_choose_domain(pinned[i]), pinned[i]);
	for (size_t i = 0; i < sizeof(chosen) / sizeof(chosen[0]); i++)
		CHECK(route_captures_choose_domain(chosen[i]), chosen[i]);
}

static void
trust_may_be_said(void)
{
	static const struct route_rule rules[] = {
		{.regex = "^t-(.*)$", .host = "$group1", .scheme = "https", .trusted = 1},
		{.host = "a.example", .scheme = "https", .trusted = 0},
	};
	struct route_table *t = table_of(rules, 2);

	CU_ASSERT_EQUAL_FATAL(ask(t, "t-b", "/v2/", true), ROUTE_OK);
	CU_ASSERT_TRUE(route.trusted);
	CU_ASSERT_EQUAL_FATAL(ask(t, "x", "/v2/", true), ROUTE_OK);
	CU_ASSERT_FALSE(route.trusted);
	route_table_free(&t);
}

/* --- paths ------------------------------------------------------------------------------------ */

static void
objects_are_recognised_from_the_right(void)
{
	static const struct {
		const char *target;
		enum route_kind kind;
		const char *repository, *reference;
	} cases[] = {
		{"/v2/library/alpine/manifests/3.20", ROUTE_MANIFEST, "library/alpine", "3.20"},
		{"/v2/alpine/manifests/" SHA256, ROUTE_MANIFEST, "alpine", SHA256},
		{"/v2/alpine/manifests/sha256-" HEX64 ".sig", ROUTE_MANIFEST, "alpine",
		    "sha256-" HEX64 ".sig"},
		{"/v2/a/b/c/blobs/" SHA256, ROUTE_BLOB, "a/b/c", SHA256},
		{"/v2/a/blobs/" SHA512, ROUTE_BLOB, "a", SHA512},
		{"/v2/a/blobs/sha256%3A" HEX64, ROUTE_BLOB, "a", SHA256},
		{"/v2/a/manifests/sha256%3a" HEX64, ROUTE_MANIFEST, "a", SHA256},
		{"/v2/a/blobs/b/blobs/" SHA256, ROUTE_BLOB, "a/blobs/b", SHA256},
		{"/v2/blobs/manifests/blobs/manifests/x", ROUTE_MANIFEST, "blobs/manifests/blobs",
		    "x"},
		{"/v2/manifests/manifests/manifests", ROUTE_MANIFEST, "manifests", "manifests"},
		{"/v2/a/blobs/uploads/blobs/" SHA256, ROUTE_BLOB, "a/blobs/uploads", SHA256},
		{"/v2/a__b.c-d---e_f/manifests/_T.-", ROUTE_MANIFEST, "a__b.c-d---e_f", "_T.-"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[DIGEST_STR_SIZE];

		CU_ASSERT_EQUAL_FATAL(ask_path(cases[i].target, true), ROUTE_OK);
		CU_ASSERT_EQUAL(route.kind, cases[i].kind);
		CU_ASSERT_STRING_EQUAL(route.repository, cases[i].repository);
		CU_ASSERT_STRING_EQUAL(route.reference, cases[i].reference);
		CU_ASSERT_EQUAL(route.has_digest, strchr(cases[i].reference, ':') != NULL);
		if (route.has_digest)
			CU_ASSERT_STRING_EQUAL(digest_str(&route.digest, text), cases[i].reference);
		CU_ASSERT_EQUAL(strncmp(route.target, "/v2/", 4), 0);
		CU_ASSERT_PTR_NULL(strchr(route.target, '%'));
	}
	CU_ASSERT_EQUAL_FATAL(ask_path("/v2/a/blobs/sha256%3A" HEX64 "?x=%3A", true), ROUTE_OK);
	CU_ASSERT_STRING_EQUAL(route.target, "/v2/a/blobs/" SHA256 "?x=%3A");
}

static void
referrers_need_a_digest(void)
{
	static const char *const bad[] = {"latest", "sha256:abc", "sha256:%2e%2e"};
	char target[300];

	CU_ASSERT_EQUAL(ask_path("/v2/a/b/referrers/" SHA256 "?artifactType=x%2Fy", true), ROUTE_OK);
	CU_ASSERT_EQUAL(route.kind, ROUTE_REFERRERS);
	CU_ASSERT_STRING_EQUAL(route.target, "/v2/a/b/referrers/" SHA256 "?artifactType=x%2Fy");
	CU_ASSERT_STRING_EQUAL(route.repository, "a/b");
	CU_ASSERT_FALSE(route.has_digest);
	CU_ASSERT_EQUAL(ask_path("/v2/a/referrers/blake3:abcdef", true), ROUTE_OK);
	CU_ASSERT_EQUAL(route.kind, ROUTE_PASS);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(target, sizeof(target), "/v2/a/referrers/%s", bad[i]);
		CHECK(ask_path(target, true) != ROUTE_OK, bad[i]);
		CHECK(ask_path(target, false) == ROUTE_OK && route.kind == ROUTE_PASS, bad[i]);
	}
}

static void
the_ping_has_two_spellings(void)
{
	CU_ASSERT_EQUAL_FATAL(ask_path("/v2", true), ROUTE_OK);
	CU_ASSERT_EQUAL(route.kind, ROUTE_PING);
	CU_ASSERT_STRING_EQUAL(route.target, "/v2/");
	CU_ASSERT_STRING_EQUAL(route.repository, "");
	CU_ASSERT_STRING_EQUAL(route.reference, "");
	CU_ASSERT_EQUAL_FATAL(ask_path("/v2/?ns=a", true), ROUTE_OK);
	CU_ASSERT_EQUAL(route.kind, ROUTE_PING);
	CU_ASSERT_STRING_EQUAL(route.target, "/v2/");
	CU_ASSERT_EQUAL_FATAL(ask_path("/v2/", false), ROUTE_OK);
	CU_ASSERT_EQUAL(route.kind, ROUTE_PASS);
}

static void
everything_else_passes_as_sent(void)
{
	static const char *const reading[] = {
		"/", "/token?service=a&scope=repository:a:pull", "/v2/_catalog?n=1",
		"/v2/a/tags/list?n=2&last=b",
		"/v2/a/blobs/uploads/", "/v2/a/blobs/uploads/abc-123?_state=x",
		"/v2/a/blobs/uploads", "/v2/manifests/latest", "/v2/blobs/" SHA256, "/v2//", "/v2x",
		"/V2/a/manifests/x", "/v2/a/blobs/blake3:abcdef", "/v2/a/manifests/md5+b64:abc=",
		"/service/token?a=%00", "/a%2Fb/%20", "/a/./b", "/a//b", "/...", "/a/..b/c..",
		"/v2/a/%6Danifests/x", "/%zz%2", "/v2/a/referrers/", "/extensions/v2/?",
	};
	static const char *const writing[] = {
		"/v2/a/manifests/latest", "/v2/a/manifests/" SHA256,
		"/v2/a/blobs/uploads/?digest=sha256%3A" HEX64, "/v2/A/blobs/uploads/",
		"/v2/a/blobs/" SHA256,
	};

	for (size_t i = 0; i < sizeof(reading) / sizeof(reading[0]); i++) {
		CHECK(
		    ask_path(reading[i], true) == ROUTE_OK && route.kind == ROUTE_PASS, reading[i]);
		CHECK(route.target != NULL && strcmp(route.target, reading[i]) == 0, reading[i]);
		CU_ASSERT_FALSE(route.has_digest);
		CU_ASSERT_STRING_EQUAL(route.reference, "");
	}
	for (size_t i = 0; i < sizeof(writing) / sizeof(writing[0]); i++) {
		CHECK(ask_path(writing[i], false) == ROUTE_OK && route.kind == ROUTE_PASS,
		    writing[i]);
		CHECK(route.target != NULL && strcmp(route.target, writing[i]) == 0, writing[i]);
	}
}

static void
ns_is_taken_out_and_nothing_else(void)
{
	static const struct {
		const char *query, *left;
	} cases[] = {
		{"", ""}, {"?", "?"}, {"?ns=docker.io", ""}, {"?ns=169.254.169.254&ns=b", ""},
		{"?a=1&ns=b&c=%2f", "?a=1&c=%2f"}, {"?n%73=b", ""}, {"?%6e%73=b&x", "?x"},
		{"?%6Es=b", ""}, {"?ns", ""}, {"?ns&a", "?a"}, {"?%6e%73", ""},
		{"?nss=1", "?nss=1"}, {"?xns=1", "?xns=1"}, {"?n=1", "?n=1"}, {"?NS=1", "?NS=1"},
		{"?a=ns=1", "?a=ns=1"}, {"?a=&&b", "?a=&&b"}, {"?n%7=1", "?n%7=1"},
		{"?n%2573=1", "?n%2573=1"}, {"?a?ns=b", "?a?ns=b"}, {"?b=+%20&ns=c", "?b=+%20"},
		{"?=ns", "?=ns"}, {"?ns=a?b", ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		static const char *const paths[] = {
		    "/v2/a/manifests/x", "/v2/a/tags/list", "/token", "/v2/"};

		for (size_t j = 0; j < sizeof(paths) / sizeof(paths[0]); j++) {
			char target[128], wanted[128];

			snprintf(target, sizeof(target), "%s%s", paths[j], cases[i].query);
			snprintf(wanted, sizeof(wanted), "%s%s", paths[j], cases[i].left);
			CHECK(
			    ask_path(target, true) == ROUTE_OK && strcmp(route.target, wanted) == 0,
			    target);
		}
	}
}

struct refusal {
	const char *target;
	enum route_result result;
};

static void
check_refused(const struct refusal *cases, size_t n)
{
	for (size_t i = 0; i < n; i++)
		CHECK(ask_path(cases[i].target, true) == cases[i].result, cases[i].target);
}

static void
twisted_paths_are_refused(void)
{
	static const struct refusal cases[] = {
		{"", ROUTE_BAD_PATH}, {"v2/", ROUTE_BAD_PATH}, {"*", ROUTE_BAD_PATH},
		{"?ns=a", ROUTE_BAD_PATH}, {"http://a/", ROUTE_BAD_PATH}, {"/a b", ROUTE_BAD_PATH},
		{"/a\x01", ROUTE_BAD_PATH}, {"/\x7f", ROUTE_BAD_PATH},
		{"/\xc3\xa4", ROUTE_BAD_PATH}, {"/a?\r\n", ROUTE_BAD_PATH}, {"/..", ROUTE_BAD_PATH},
		{"/../v2/", ROUTE_BAD_PATH}, {"/a/%2e%2E/b", ROUTE_BAD_PATH},
		{"/a/.%2e", ROUTE_BAD_PATH}, {"/a/..%2fb", ROUTE_BAD_PATH},
		{"/a%2F..%2Fb", ROUTE_BAD_PATH}, {"/a\\..\\b", ROUTE_BAD_PATH},
		{"/a%5c..", ROUTE_BAD_PATH}, {"/a%00", ROUTE_BAD_PATH},
		{"/a%0d%0ab", ROUTE_BAD_PATH}, {"/v2/a/%7f/tags", ROUTE_BAD_PATH},
		{"/v2/a/../b/manifests/x", ROUTE_BAD_PATH}, {"/v2/a/./manifests/x", ROUTE_BAD_PATH},
		{"/v2/a//manifests/x", ROUTE_BAD_PATH}, {"/v2//manifests/x", ROUTE_BAD_PATH},
		{"/v2//a/manifests/x", ROUTE_BAD_PATH}, {"/v2/a/manifests/..", ROUTE_BAD_PATH},
		{"/v2/a/manifests/.", ROUTE_BAD_PATH}, {"/v2/../manifests/x", ROUTE_BAD_PATH},
		{"/v2/a%2Fb/manifests/x", ROUTE_BAD_PATH},
		{"/v2/a%5Cb/manifests/x", ROUTE_BAD_PATH}, {"/v2/a%00/manifests/x", ROUTE_BAD_PATH},
		{"/v2/a%2eb/manifests/x", ROUTE_BAD_PATH},
		{"/v2/a/blobs/" SHA256 "%2F..", ROUTE_BAD_PATH},
		{"/v2/a/manifests/%2e%2e", ROUTE_BAD_PATH},
		{"/v2/a/manifests/x%0a", ROUTE_BAD_PATH},
	};

	check_refused(cases, sizeof(cases) / sizeof(cases[0]));
	CU_ASSERT_EQUAL(ask_path("/v2/a/../manifests/x", false), ROUTE_BAD_PATH);
}

static void
names_outside_the_grammar_are_refused(void)
{
	static const struct refusal cases[] = {
		{"/v2/A/manifests/x", ROUTE_BAD_NAME}, {"/v2/a%41/manifests/x", ROUTE_BAD_NAME},
		{"/v2/-a/manifests/x", ROUTE_BAD_NAME}, {"/v2/a-/manifests/x", ROUTE_BAD_NAME},
		{"/v2/a..b/manifests/x", ROUTE_BAD_NAME}, {"/v2/a___b/manifests/x", ROUTE_BAD_NAME},
		{"/v2/a._b/manifests/x", ROUTE_BAD_NAME}, {"/v2/_a/blobs/" SHA256, ROUTE_BAD_NAME},
		{"/v2/a:5000/b/manifests/x", ROUTE_BAD_NAME},
		{"/v2/a@b/manifests/x", ROUTE_BAD_NAME}, {"/v2/a\\b/manifests/x", ROUTE_BAD_NAME},
		{"/v2/a%zz/manifests/x", ROUTE_BAD_NAME}, {"/v2/a%3Ab/manifests/x", ROUTE_BAD_NAME},
	};
	char target[400] = "/v2/";

	check_refused(cases, sizeof(cases) / sizeof(cases[0]));
	memset(target + 4, 'a', 255);
	strcpy(target + 4 + 255, "/manifests/x");
	CU_ASSERT_EQUAL(ask_path(target, true), ROUTE_OK);
	strcpy(target + 4 + 255, "a/manifests/x");
	CU_ASSERT_EQUAL(ask_path(target, true), ROUTE_BAD_NAME);
}

static void
references_outside_the_grammar_are_refused(void)
{
	static const struct refusal cases[] = {
		{"/v2/a/manifests/", ROUTE_BAD_REFERENCE},
		{"/v2/a/manifests/.x", ROUTE_BAD_REFERENCE},
		{"/v2/a/manifests/-x", ROUTE_BAD_REFERENCE},
		{"/v2/a/manifests/x+y", ROUTE_BAD_REFERENCE},
		{"/v2/a/manifests/x%41", ROUTE_BAD_REFERENCE},
		{"/v2/a/manifests/x@y", ROUTE_BAD_REFERENCE}, {"/v2/a/blobs/", ROUTE_BAD_DIGEST},
		{"/v2/a/blobs/latest", ROUTE_BAD_DIGEST},
		{"/v2/a/blobs/sha256:" , ROUTE_BAD_DIGEST},
		{"/v2/a/blobs/sha256:abc", ROUTE_BAD_DIGEST},
		{"/v2/a/blobs/" SHA256 "0", ROUTE_BAD_DIGEST},
		{"/v2/a/blobs/sha512:" HEX64, ROUTE_BAD_DIGEST},
		{"/v2/a/manifests/sha256:"
		 "ABCDEF0661432fb2d719aaf90656f55c287f8ca915dc1c92ec14ff61e67fbaf8",
		    ROUTE_BAD_DIGEST},
		{"/v2/a/manifests/x@" SHA256, ROUTE_BAD_DIGEST},
		{"/v2/a/manifests/:x", ROUTE_BAD_DIGEST}, {"/v2/a/manifests/x:", ROUTE_BAD_DIGEST},
		{"/v2/a/blobs/SHA256:" HEX64, ROUTE_BAD_DIGEST},
		{"/v2/a/blobs/sha256%253A" HEX64, ROUTE_BAD_DIGEST},
		{"/v2/a/blobs/%73ha256:" HEX64, ROUTE_BAD_DIGEST},
	};
	char target[200] = "/v2/a/manifests/";

	check_refused(cases, sizeof(cases) / sizeof(cases[0]));
	memset(target + 16, 'x', 129);
	CU_ASSERT_EQUAL(ask_path(target, true), ROUTE_BAD_REFERENCE);
	target[16 + 128] = '\0';
	CU_ASSERT_EQUAL(ask_path(target, true), ROUTE_OK);
}

static void
a_full_arena_is_never_a_route(void)
{
	static const struct route_rule rule = {
	    .host = "registry.example", .scheme = "https", .trusted = -1};
	struct route_table *t = table_of(&rule, 1);
	size_t limit = 0;
	enum route_result r;

	do {
		struct arena small;

		arena_init(&small, limit++);
		r = route_request(t,
		    &(struct route_question){
			"h", "/v2/a/blobs/sha256%3A" HEX64 "?a=b", NULL, true},
		    &small, &route);
		CU_ASSERT_EQUAL(r == ROUTE_OK, !arena_failed(&small));
		arena_reset(&small);
	} while (r != ROUTE_OK && limit < 4096);
	CU_ASSERT_TRUE(limit > 100 && limit < 4096);
	route_table_free(&t);
}

static void
kinds_have_names(void)
{
	CU_ASSERT_STRING_EQUAL(route_kind_name(ROUTE_PASS), "pass");
	CU_ASSERT_STRING_EQUAL(route_kind_name(ROUTE_PING), "ping");
	CU_ASSERT_STRING_EQUAL(route_kind_name(ROUTE_MANIFEST), "manifest");
	CU_ASSERT_STRING_EQUAL(route_kind_name(ROUTE_BLOB), "blob");
	CU_ASSERT_STRING_EQUAL(route_kind_name(ROUTE_REFERRERS), "referrers");
}

void
suite_route(void)
{
	CU_pSuite s = CU_add_suite("route", NULL, NULL);

	CU_ADD_TEST(s, the_first_rule_that_matches_wins);
	CU_ADD_TEST(s, without_a_default_an_unknown_host_has_no_upstream);
	CU_ADD_TEST(s, captures_make_the_host);
	CU_ADD_TEST(s, captures_that_make_no_host_are_refused);
	CU_ADD_TEST(s, an_exploding_regex_is_no_match);
	CU_ADD_TEST(s, wrong_rules_are_refused_with_their_number);
	CU_ADD_TEST(s, there_is_one_default_at_most);
	CU_ADD_TEST(s, trust_ends_where_captures_choose_the_domain);
	CU_ADD_TEST(s, trust_may_be_said);
	CU_ADD_TEST(s, objects_are_recognised_from_the_right);
	CU_ADD_TEST(s, referrers_need_a_digest);
	CU_ADD_TEST(s, the_ping_has_two_spellings);
	CU_ADD_TEST(s, everything_else_passes_as_sent);
	CU_ADD_TEST(s, ns_is_taken_out_and_nothing_else);
	CU_ADD_TEST(s, twisted_paths_are_refused);
	CU_ADD_TEST(s, names_outside_the_grammar_are_refused);
	CU_ADD_TEST(s, references_outside_the_grammar_are_refused);
	CU_ADD_TEST(s, a_full_arena_is_never_a_route);
	CU_ADD_TEST(s, kinds_have_names);
}
