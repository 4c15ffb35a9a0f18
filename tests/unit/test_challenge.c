/* WWW-Authenticate as registries write it, and the realms that credentials may go to. */
#include <string.h>

#include <CUnit/CUnit.h>

#include "challenge.h"
#include "suites.h"

/* An assertion that names its case when it fails. */
#define CHECK(ok, which) \
	CU_assertImplementation((ok) ? CU_TRUE : CU_FALSE, __LINE__, which, __FILE__, "", CU_FALSE)
#define N(a) (sizeof(a) / sizeof((a)[0]))

static struct arena arena;

static struct challenge
read_lines(const char *first, const char *second)
{
	struct challenge c = {0};

	arena_reset(&arena);
	arena_init(&arena, 16 * 1024);
	challenge_read(&c, first, &arena);
	if (second != NULL)
		challenge_read(&c, second, &arena);
	return c;
}

static bool
same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void
challenges_are_read_as_registries_write_them(void)
{
	static const struct {
		const char *first, *second;
		struct challenge wanted;
	} cases[] = {
	    {"Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\","
	     "scope=\"repository:library/a:pull\"",
		NULL,
		{false, true, "https://auth.docker.io/token", "registry.docker.io",
		    "repository:library/a:pull", NULL}},
	    {"Basic realm=\"r\"", NULL, {true, false, NULL, NULL, NULL, NULL}},
	    {"Basic realm=\"r\"", "bearer Realm=http://a/t , ERROR = \"invalid_token\"",
		{true, true, "http://a/t", NULL, NULL, "invalid_token"}},
	    /* two in one line, either way round */
	    {"Basic realm=\"a, Bearer realm=b\", Bearer realm=\"c\",scope=\"s t\"", NULL,
		{true, true, "c", NULL, "s t", NULL}},
	    {"Bearer realm=\"c\", service=x, Basic realm=\"a\"", NULL,
		{true, true, "c", "x", NULL, NULL}},
	    {"Bearer realm=\"a\\\"b\\\\\"", NULL, {false, true, "a\"b\\", NULL, NULL, NULL}},
	    {"Negotiate YII=, Bearer realm=x", NULL, {false, true, "x", NULL, NULL, NULL}},
	    {"Bearer realm=first", "Bearer realm=second", {false, true, "first", NULL, NULL, NULL}},
	    {"Bearer realm=a,realm=b", NULL, {false, true, "a", NULL, NULL, NULL}},
	    {"Bearer", "Basic", {true, false, NULL, NULL, NULL, NULL}},
	    {"Bearer scope=\"s\"", NULL, {false, false, NULL, NULL, NULL, NULL}},
	    {"", " , ", {false, false, NULL, NULL, NULL, NULL}},
	    {"Bearer realm=\"unclosed", NULL, {false, true, "unclosed", NULL, NULL, NULL}},
	    {"Bearer realm=\"x\\", NULL, {false, true, "x\\", NULL, NULL, NULL}},
	    {"@@@", "\"\"", {false, false, NULL, NULL, NULL, NULL}},
	};

	for (size_t i = 0; i < N(cases); i++) {
		const struct challenge *w = &cases[i].wanted;
		struct challenge c = read_lines(cases[i].first, cases[i].second);

		CHECK(c.basic == w->basic && c.bearer == w->bearer, cases[i].first);
		if (!w->bearer)
			continue;
		CHECK(same(c.realm, w->realm) && same(c.service, w->service), cases[i].first);
		CHECK(same(c.scope, w->scope) && same(c.error, w->error), cases[i].first);
	}
}

static void
a_challenge_that_is_too_long_is_none(void)
{
	char value[4096];
	struct challenge c = {0};
	struct arena small;

	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	memcpy(value, "Bearer realm=\"", 14);
	arena_init(&small, 1000);
	challenge_read(&c, value, &small);
	CU_ASSERT_FALSE(c.bearer);
	arena_reset(&small);
}

static void
realms_are_urls(void)
{
	static const struct {
		const char *url, *scheme, *host, *target; /* scheme NULL: none */
	} cases[] = {
	    {"https://auth.docker.io/token", "https", "auth.docker.io", "/token"},
	    {"HTTP://A.example:5000/x/y?z=1", "http", "a.example:5000", "/x/y?z=1"},
	    {"https://a.example", "https", "a.example", "/"},
	    {"https://a.example?x", "https", "a.example", "/?x"},
	    {"https://[2001:db8::1]:443/t", "https", "[2001:db8::1]:443", "/t"},
	    {"/token", NULL, NULL, NULL},
	    {"ftp://a.example/", NULL, NULL, NULL},
	    {"https:///token", NULL, NULL, NULL},
	    {"https://user:pw@a.example/t", NULL, NULL, NULL},
	    {"https://a.example/t#x", NULL, NULL, NULL},
	    {"https://a.example/t x", NULL, NULL, NULL},
	    {"https://a.example\\@b.example/", NULL, NULL, NULL},
	    {"https://a.example:99999/", NULL, NULL, NULL},
	    {"", NULL, NULL, NULL},
	};

	for (size_t i = 0; i < N(cases); i++) {
		struct realm r;
		bool ok;

		arena_reset(&arena);
		arena_init(&arena, 16 * 1024);
		ok = realm_parse(cases[i].url, &arena, &r);
		CHECK(ok == (cases[i].scheme != NULL), cases[i].url);
		if (ok && cases[i].scheme != NULL)
			CHECK(same(r.scheme, cases[i].scheme) && same(r.host, cases[i].host) &&
				same(r.target, cases[i].target),
			    cases[i].url);
	}
}

static void
credentials_go_to_the_registry_s_own_domain_only(void)
{
	static const struct {
		const char *realm, *scheme, *host, *also;
		bool allowed;
	} cases[] = {
	    {"https://auth.docker.io/t", "https", "registry-1.docker.io", NULL, true},
	    {"https://quay.io/t", "https", "quay.io", NULL, true},
	    {"https://gitlab.com/jwt/auth", "https", "registry.gitlab.com", NULL, true},
	    {"https://a.example:8443/t", "https", "a.example:5000", NULL, true},
	    {"https://evil.example/t", "https", "quay.io", NULL, false},
	    {"https://quay.io.evil.example/t", "https", "quay.io", NULL, false},
	    {"https://evilquay.io/t", "https", "quay.io", NULL, false},
	    /* never less safe */
	    {"http://quay.io/t", "https", "quay.io", NULL, false},
	    {"http://quay.io/t", "http", "quay.io", NULL, true},
	    {"https://quay.io/t", "http", "quay.io", NULL, true},
	    /* public suffixes are no domain of anybody's */
	    {"https://evil.co.uk/t", "https", "registry.co.uk", NULL, false},
	    {"https://evil.github.io/t", "https", "registry.github.io", NULL, false},
	    /* addresses are themselves only */
	    {"https://127.0.0.1:1/t", "https", "127.0.0.1:2", NULL, true},
	    {"https://10.0.0.1/t", "https", "11.0.0.1", NULL, false},
	    {"https://[::1]:5/t", "https", "[::1]:6", NULL, true},
	    {"https://[::1]:5/t", "https", "[::2]:5", NULL, false},
	    {"https://localhost/t", "https", "127.0.0.1", NULL, false},
	    /* what is configured */
	    {"https://login.example/t", "https", "10.0.0.1", "login.example", true},
	    {"https://login.example:8443/t", "https", "10.0.0.1", "login.example", true},
	    {"https://login.example:8443/t", "https", "10.0.0.1", "login.example:8443", true},
	    {"https://login.example/t", "https", "10.0.0.1", "login.example:8443", false},
	    {"https://other.example/t", "https", "10.0.0.1", "login.example", false},
	    {"http://login.example/t", "https", "10.0.0.1", "login.example", false},
	};

	for (size_t i = 0; i < N(cases); i++) {
		struct realm r;

		arena_reset(&arena);
		arena_init(&arena, 16 * 1024);
		CU_ASSERT_TRUE_FATAL(realm_parse(cases[i].realm, &arena, &r));
		CHECK(realm_allowed(&r, cases[i].scheme, cases[i].host, cases[i].also) ==
			cases[i].allowed,
		    cases[i].realm);
	}
}

static int
clean_up(void)
{
	arena_reset(&arena);
	return 0;
}

void
suite_challenge(void)
{
	CU_pSuite s = CU_add_suite("challenge", NULL, clean_up);

	CU_ADD_TEST(s, challenges_are_read_as_registries_write_them);
	CU_ADD_TEST(s, a_challenge_that_is_too_long_is_none);
	CU_ADD_TEST(s, realms_are_urls);
	CU_ADD_TEST(s, credentials_go_to_the_registry_s_own_domain_only);
}
