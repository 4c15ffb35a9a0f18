/* Which registry a request names, by whatever it names it, and what is left of its path. */
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
#define N(a) (sizeof(a) / sizeof((a)[0]))

static struct arena arena;
static struct route route;
static struct route_table *table;

static const char *const hub_hosts[] = {"registry-1.docker.io"}, *const quay_hosts[] = {"quay.io"},
		  *const corp_hosts[] = {"a.corp.example:5000", "b.corp.example"},
		  *const corp_names[] = {"corp", "old-corp"};
static const struct route_registry registries[] = {
    {"docker.io", NULL, 0, "https", hub_hosts, 1, true, NULL, true},
    {"quay.io", NULL, 0, "https", quay_hosts, 1, true, NULL, false},
    {"corp.example:5000", corp_names, 2, "http", corp_hosts, 2, false, NULL, false},
};
static const struct route_rule rules[] = {
    {"^quay\\.cache$", "quay.io", "https", -1, 0},
    {"^hub\\.cache$", "registry-1.docker.io", "https", -1, 1},
    {"^other\\.cache$", "other.example", "https", -1, 0},
    {NULL, "default.example", "https", -1, 0},
};

static void
make_table(size_t nrules, size_t nregistries)
{
	size_t bad;
	char *error;

	route_table_free(&table);
	table = route_table_new(rules + N(rules) - nrules, nrules, &bad, &error);
	CU_ASSERT_PTR_NOT_NULL_FATAL(table);
	route_table_set_registries(table, registries, nregistries);
}

static enum route_result
ask(const char *host, const char *target, const char *header)
{
	arena_reset(&arena);
	arena_init(&arena, 64 * 1024);
	return route_request(
	    table, &(struct route_question){host, target, header, true}, &arena, &route);
}

struct way {
	const char *host, *target, *header, *asked, *upstream;
	enum route_carrier carrier;
};

static void
go_each_way(const struct way *ways, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct way *w = &ways[i];
		enum route_result r = ask(w->host, w->target, w->header);

		CHECK(r == ROUTE_OK, w->target);
		if (r != ROUTE_OK)
			continue;
		CHECK(strcmp(route.target, w->asked) == 0, w->target);
		CHECK(strcmp(route.upstream, w->upstream) == 0, w->target);
		CHECK(route.carrier == w->carrier, w->target);
	}
}

/* --- each carrier ------------------------------------------------------------------------------ */

static void
ns_names_a_registry(void)
{
	static const struct way ways[] = {
	    {"c", "/v2/a/b/manifests/v1?ns=quay.io", NULL, "/v2/a/b/manifests/v1", "https://quay.io",
		ROUTE_BY_NS},
	    {"c", "/v2/a/b/manifests/v1?n=1&ns=QUAY.io&x", NULL, "/v2/a/b/manifests/v1?n=1&x",
		"https://quay.io", ROUTE_BY_NS},
	    {"c", "/v2/a/b/tags/list?n%73=corp.example%3A5000", NULL, "/v2/a/b/tags/list",
		"http://a.corp.example:5000", ROUTE_BY_NS},
	    {"c", "/v2/?ns=corp", NULL, "/v2/", "http://a.corp.example:5000", ROUTE_BY_NS},
	    {"c", "/v2/?ns=b.corp.example", NULL, "/v2/", "http://a.corp.example:5000", ROUTE_BY_NS},
	    {"c", "/v2/?ns=docker.io", NULL, "/v2/", "https://registry-1.docker.io", ROUTE_BY_NS},
	    {"c", "/v2/?ns=index.docker.io", NULL, "/v2/", "https://registry-1.docker.io",
		ROUTE_BY_NS},
	    {"c", "/v2/?ns=registry-1.docker.io", NULL, "/v2/", "https://registry-1.docker.io",
		ROUTE_BY_NS},
	    {"c", "/v2/a/manifests/v1?ns=default.example", NULL, "/v2/a/manifests/v1",
		"https://default.example", ROUTE_BY_NS},
	};

	make_table(N(rules), N(registries));
	go_each_way(ways, N(ways));
	CU_ASSERT_EQUAL_FATAL(ask("c", "/v2/a/tags/list?ns=corp.example%3a5000", NULL), ROUTE_OK);
	CU_ASSERT_STRING_EQUAL(route.ns, "ns=corp.example%3a5000");
	CU_ASSERT_STRING_EQUAL(route.ns_name, "corp.example:5000");
	CU_ASSERT_EQUAL(route.registry, 3);
	CU_ASSERT_FALSE(route.trusted);
}

static void
a_path_names_a_registry(void)
{
	static const struct way ways[] = {
	    {"c", "/v2/quay.io/a/b/manifests/v1", NULL, "/v2/a/b/manifests/v1", "https://quay.io",
		ROUTE_BY_PREFIX},
	    {"c", "/v2/old-corp/a/blobs/" SHA256, NULL, "/v2/a/blobs/" SHA256,
		"http://a.corp.example:5000", ROUTE_BY_PREFIX},
	    {"c", "/v2/quay.io/a/tags/list?n=1", NULL, "/v2/a/tags/list?n=1", "https://quay.io",
		ROUTE_BY_PREFIX},
	    {"c", "/v2/quay.io/quay.io/a/tags/list", NULL, "/v2/quay.io/a/tags/list",
		"https://quay.io", ROUTE_BY_PREFIX},
	    {"c", "/v2/quay.io/_catalog", NULL, "/v2/_catalog", "https://quay.io", ROUTE_BY_PREFIX},
	    {"c", "/v2/quay.io", NULL, "/v2/", "https://quay.io", ROUTE_BY_PREFIX},
	    {"c", "/v2/quay.io/", NULL, "/v2/", "https://quay.io", ROUTE_BY_PREFIX},
	    {"c", "/quay.io/v2/a/manifests/v1?x", NULL, "/v2/a/manifests/v1?x", "https://quay.io",
		ROUTE_BY_MOUNT},
	    {"c", "/docker.io/v2", NULL, "/v2/", "https://registry-1.docker.io", ROUTE_BY_MOUNT},
	    {"c", "/docker.io/v2/", NULL, "/v2/", "https://registry-1.docker.io", ROUTE_BY_MOUNT},
	    /* below a mount the path is the registry's own */
	    {"c", "/corp/v2/quay.io/a/manifests/v1", NULL, "/v2/quay.io/a/manifests/v1",
		"http://a.corp.example:5000", ROUTE_BY_MOUNT},
	};

	make_table(N(rules), N(registries));
	go_each_way(ways, N(ways));
	CU_ASSERT_EQUAL_FATAL(ask("c", "/v2/quay.io/a/b/manifests/v1", NULL), ROUTE_OK);
	CU_ASSERT_STRING_EQUAL(route.prefix, "quay.io/");
	CU_ASSERT_STRING_EQUAL(route.repository, "a/b");
	CU_ASSERT_EQUAL_FATAL(ask("c", "/quay.io/v2/a/b/manifests/v1", NULL), ROUTE_OK);
	CU_ASSERT_STRING_EQUAL(route.mount, "/quay.io");
	CU_ASSERT_STRING_EQUAL(route.prefix, "");
}

static void
what_only_looks_like_a_prefix_is_the_default_s(void)
{
	static const char *const targets[] = {"/v2/quay.io/manifests/v1", "/v2/corp/tags/list",
	    "/v2/quay.io/blobs/" SHA256, "/v2/quay.io/referrers/" SHA256,
	    "/v2/quay.io/blobs/uploads/", "/v2/quay.iox/a/manifests/v1", "/v2/corp.example/a/tags/list",
	    "/v2/a/quay.io/manifests/v1", "/v3/quay.io/a", "/quay.io/v22/a", "/unknown/v2/a"};

	make_table(N(rules), N(registries));
	for (size_t i = 0; i < N(targets); i++) {
		CHECK(ask("c", targets[i], NULL) == ROUTE_OK, targets[i]);
		CHECK(strcmp(route.upstream, "https://default.example") == 0, targets[i]);
		CHECK(strcmp(route.target, targets[i]) == 0, targets[i]);
	}
	/* a repository may be called as the API's own words */
	CU_ASSERT_EQUAL_FATAL(ask("c", "/v2/quay.io/blobs/x/manifests/v1", NULL), ROUTE_OK);
	CU_ASSERT_STRING_EQUAL(route.target, "/v2/blobs/x/manifests/v1");
}

static void
the_header_names_a_registry(void)
{
	static const struct way ways[] = {
	    {"c", "/v2/a/manifests/v1", "https://quay.io", "/v2/a/manifests/v1", "https://quay.io",
		ROUTE_BY_HEADER},
	    {"c", "/v2/a/manifests/v1", "quay.io", "/v2/a/manifests/v1", "https://quay.io",
		ROUTE_BY_HEADER},
	    {"c", "/v2/l/a/manifests/v1", "HTTPS://Index.docker.io/v1/", "/v2/l/a/manifests/v1",
		"https://registry-1.docker.io", ROUTE_BY_HEADER},
	    {"c", "/v2/", "http://corp.example:5000", "/v2/", "http://a.corp.example:5000",
		ROUTE_BY_HEADER},
	};

	make_table(N(rules), N(registries));
	go_each_way(ways, N(ways));
}

/* --- several at once --------------------------------------------------------------------------- */

static void
carriers_that_agree_are_one(void)
{
	static const struct way ways[] = {
	    /* BuildKit sends prefix and ns: one is taken away, once */
	    {"c", "/v2/quay.io/a/b/manifests/v1?ns=quay.io", NULL, "/v2/a/b/manifests/v1",
		"https://quay.io", ROUTE_BY_NS},
	    {"c", "/v2/corp/a/tags/list?ns=corp.example:5000", NULL, "/v2/a/tags/list",
		"http://a.corp.example:5000", ROUTE_BY_NS},
	    {"c", "/quay.io/v2/a/tags/list?ns=quay.io", "https://quay.io", "/v2/a/tags/list",
		"https://quay.io", ROUTE_BY_NS},
	    {"c", "/v2/quay.io/a/tags/list", "quay.io", "/v2/a/tags/list", "https://quay.io",
		ROUTE_BY_HEADER},
	    {"hub.cache", "/v2/library/a/tags/list?ns=docker.io", NULL, "/v2/library/a/tags/list",
		"https://registry-1.docker.io", ROUTE_BY_RULE},
	    {"quay.cache", "/v2/a/tags/list?ns=quay.io", "quay.io", "/v2/a/tags/list",
		"https://quay.io", ROUTE_BY_RULE},
	};

	make_table(N(rules), N(registries));
	go_each_way(ways, N(ways));
}

static void
carriers_that_disagree_are_a_conflict(void)
{
	static const struct {
		const char *host, *target, *header, *said[2];
	} cases[] = {
	    {"c", "/v2/quay.io/a/manifests/v1?ns=docker.io", NULL, {"docker.io", "quay.io"}},
	    {"c", "/quay.io/v2/a/manifests/v1?ns=docker.io", NULL, {"docker.io", "quay.io"}},
	    {"c", "/v2/a/manifests/v1?ns=docker.io", "quay.io", {"docker.io", "quay.io"}},
	    {"c", "/v2/corp/a/manifests/v1", "quay.io", {"corp.example:5000", "quay.io"}},
	    {"c", "/v2/corp/a/manifests/v1?ns=default.example", NULL, {"default.example", "corp"}},
	    {"quay.cache", "/v2/a/manifests/v1?ns=docker.io", NULL, {"rule", "docker.io"}},
	    {"other.cache", "/v2/a/manifests/v1", "https://quay.io", {"other.example", "quay.io"}},
	    {"c", "/v2/a/manifests/v1?ns=quay.io&ns=quay.io", NULL, {"more than once", "ns"}},
	    {"quay.cache", "/v2/?ns=quay.io&n%53&%6es=", NULL, {"more than once", "ns"}},
	};

	make_table(N(rules), N(registries));
	for (size_t i = 0; i < N(cases); i++) {
		CHECK(ask(cases[i].host, cases[i].target, cases[i].header) == ROUTE_CONFLICT,
		    cases[i].target);
		for (size_t k = 0; k < 2 && route.trouble != NULL; k++)
			CHECK(strstr(route.trouble, cases[i].said[k]) != NULL, cases[i].target);
	}
}

static void
names_that_are_not_configured_are_unknown(void)
{
	static const char *const names[] = {"169.254.169.254", "localhost", "elsewhere.example",
	    "quay.io:443", "quay.io.", "", "quay.io%00", "%2e", "corp.example", "user@quay.io",
	    "quay.io%2fa", "quay.io+"};
	char target[64];

	make_table(N(rules), N(registries));
	for (size_t i = 0; i < N(names); i++) {
		snprintf(target, sizeof(target), "/v2/a/manifests/v1?ns=%s", names[i]);
		CHECK(ask("c", target, NULL) == ROUTE_UNKNOWN, target);
		if (*names[i] != '\0')
			CHECK(ask("c", "/v2/a/manifests/v1", names[i]) == ROUTE_UNKNOWN, names[i]);
	}
	/* a rule decides alone: containerd adds ns by itself */
	CU_ASSERT_EQUAL_FATAL(ask("other.cache", "/v2/a/tags/list?ns=else.example", NULL), ROUTE_OK);
	CU_ASSERT_STRING_EQUAL(route.upstream, "https://other.example");
	CU_ASSERT_PTR_NULL(route.ns_name);
}

static void
a_rule_leaves_the_path_alone(void)
{
	static const struct way ways[] = {
	    {"other.cache", "/v2/quay.io/a/manifests/v1", NULL, "/v2/quay.io/a/manifests/v1",
		"https://other.example", ROUTE_BY_RULE},
	    {"other.cache", "/quay.io/v2/", NULL, "/quay.io/v2/", "https://other.example",
		ROUTE_BY_RULE},
	    {"hub.cache", "/v2/a/manifests/v1", NULL, "/v2/a/manifests/v1",
		"https://registry-1.docker.io", ROUTE_BY_RULE},
	};

	make_table(N(rules), N(registries));
	go_each_way(ways, N(ways));
}

static void
without_registries_nothing_but_host_counts(void)
{
	static const struct way ways[] = {
	    {"c", "/v2/quay.io/a/manifests/v1?ns=docker.io&ns=x", "ghcr.io",
		"/v2/quay.io/a/manifests/v1", "https://default.example", ROUTE_BY_DEFAULT},
	    {"c", "/v2/", NULL, "/v2/", "https://default.example", ROUTE_BY_DEFAULT},
	    {"c", "/token", NULL, "/token", "https://default.example", ROUTE_BY_DEFAULT},
	    {"quay.cache", "/v2/?ns=docker.io", NULL, "/v2/", "https://quay.io", ROUTE_BY_RULE},
	};

	make_table(N(rules), 0);
	go_each_way(ways, N(ways));
}

static void
without_a_default_only_names_lead_somewhere(void)
{
	make_table(0, N(registries));
	CU_ASSERT_EQUAL(ask("c", "/v2/a/manifests/v1", NULL), ROUTE_NO_UPSTREAM);
	CU_ASSERT_EQUAL(ask("c", "/v2/a/manifests/v1?ns=default.example", NULL), ROUTE_UNKNOWN);
	CU_ASSERT_EQUAL(ask("c", "/v2/quay.io/a/manifests/v1", NULL), ROUTE_OK);
	CU_ASSERT_EQUAL(ask("c", "/v2/a/manifests/v1", "quay.io"), ROUTE_OK);
}

static void
the_ping_and_token_of_nobody_are_the_cache_s(void)
{
	static const char *const others[] = {"/v2/?ns=quay.io", "/quay.io/v2/", "/v2/quay.io/",
	    "/token/", "/tokens", "/token?ns=quay.io", "/v2/token"};

	for (size_t nrules = 0; nrules <= N(rules); nrules += N(rules)) {
		make_table(nrules, N(registries));
		CU_ASSERT_EQUAL_FATAL(ask("c", "/v2/", NULL), ROUTE_OK);
		CU_ASSERT_EQUAL(route.kind, ROUTE_OWN_PING);
		CU_ASSERT_STRING_EQUAL(route.upstream, "");
		CU_ASSERT_EQUAL_FATAL(ask("c", "/v2?x", NULL), ROUTE_OK);
		CU_ASSERT_EQUAL(route.kind, ROUTE_OWN_PING);
		CU_ASSERT_EQUAL_FATAL(ask("c", "/token?scope=x", NULL), ROUTE_OK);
		CU_ASSERT_EQUAL(route.kind, ROUTE_TOKEN);
		for (size_t i = 0; i < N(others); i++)
			if (ask("c", others[i], NULL) == ROUTE_OK)
				CHECK(route.kind < ROUTE_OWN_PING, others[i]);
	}
	CU_ASSERT_EQUAL_FATAL(ask("other.cache", "/v2/", NULL), ROUTE_OK);
	CU_ASSERT_EQUAL(route.kind, ROUTE_PING);
	CU_ASSERT_EQUAL_FATAL(ask("other.cache", "/token", NULL), ROUTE_OK);
	CU_ASSERT_EQUAL(route.kind, ROUTE_PASS);
}

/* --- names of repositories --------------------------------------------------------------------- */

static void
library_is_put_before_one_component(void)
{
	static const struct way ways[] = {
	    {"c", "/v2/docker.io/alpine/manifests/v1", NULL, "/v2/library/alpine/manifests/v1",
		"https://registry-1.docker.io", ROUTE_BY_PREFIX},
	    {"c", "/v2/docker.io/a/b/manifests/v1", NULL, "/v2/a/b/manifests/v1",
		"https://registry-1.docker.io", ROUTE_BY_PREFIX},
	    {"c", "/v2/alpine/tags/list?n=1&ns=docker.io", NULL, "/v2/library/alpine/tags/list?n=1",
		"https://registry-1.docker.io", ROUTE_BY_NS},
	    {"c", "/docker.io/v2/alpine/blobs/" SHA256, NULL, "/v2/library/alpine/blobs/" SHA256,
		"https://registry-1.docker.io", ROUTE_BY_MOUNT},
	    {"c", "/v2/alpine/blobs/uploads/x", "docker.io", "/v2/library/alpine/blobs/uploads/x",
		"https://registry-1.docker.io", ROUTE_BY_HEADER},
	    {"c", "/v2/docker.io/_catalog", NULL, "/v2/_catalog", "https://registry-1.docker.io",
		ROUTE_BY_PREFIX},
	    {"c", "/v2/quay.io/alpine/manifests/v1", NULL, "/v2/alpine/manifests/v1",
		"https://quay.io", ROUTE_BY_PREFIX},
	};
	unsigned number;

	make_table(N(rules), N(registries));
	go_each_way(ways, N(ways));
	CU_ASSERT_STRING_EQUAL(
	    route_repository(table, "docker.io/alpine", 16, &arena, &number), "library/alpine");
	CU_ASSERT_EQUAL(number, 1);
	CU_ASSERT_STRING_EQUAL(route_repository(table, "corp/a/b", 8, &arena, &number), "a/b");
	CU_ASSERT_EQUAL(number, 3);
	CU_ASSERT_PTR_NULL(route_repository(table, "alpine", 6, &arena, &number));
	CU_ASSERT_PTR_NULL(route_repository(table, "else/alpine", 11, &arena, &number));
	CU_ASSERT_EQUAL(number, 0);
}

static void
a_mount_s_source_loses_the_prefix_too(void)
{
	static const struct way ways[] = {
	    {"c", "/v2/quay.io/a/blobs/uploads/?mount=" SHA256 "&from=quay.io%2Fb%2Fc&x", NULL,
		"/v2/a/blobs/uploads/?mount=" SHA256 "&from=b/c&x", "https://quay.io",
		ROUTE_BY_PREFIX},
	    {"c", "/v2/quay.io/a/blobs/uploads/?from=corp/b", NULL,
		"/v2/a/blobs/uploads/?from=corp/b", "https://quay.io", ROUTE_BY_PREFIX},
	};

	make_table(N(rules), N(registries));
	go_each_way(ways, N(ways));
}

static void
twisted_paths_are_refused_below_a_prefix_too(void)
{
	static const char *const targets[] = {"/v2/quay.io/../a/manifests/v1",
	    "/quay.io/v2/../../x", "/v2/quay.io/a/%2e%2e/manifests/v1", "/v2/quay.io//a/manifests/v1",
	    "/v2/quay.io/A/manifests/v1", "/v2/quay.io/a%2Fb/manifests/v1", "/quay.io/v2/..",
	    "/v2/quay.io/a/blobs/sha256:ABC"};

	make_table(N(rules), N(registries));
	for (size_t i = 0; i < N(targets); i++)
		CHECK(ask("c", targets[i], NULL) > ROUTE_CONFLICT, targets[i]);
}

static int
clean_up(void)
{
	route_table_free(&table);
	arena_reset(&arena);
	return 0;
}

void
suite_route_carriers(void)
{
	CU_pSuite s = CU_add_suite("route_carriers", NULL, clean_up);

	CU_ADD_TEST(s, ns_names_a_registry);
	CU_ADD_TEST(s, a_path_names_a_registry);
	CU_ADD_TEST(s, what_only_looks_like_a_prefix_is_the_default_s);
	CU_ADD_TEST(s, the_header_names_a_registry);
	CU_ADD_TEST(s, carriers_that_agree_are_one);
	CU_ADD_TEST(s, carriers_that_disagree_are_a_conflict);
	CU_ADD_TEST(s, names_that_are_not_configured_are_unknown);
	CU_ADD_TEST(s, a_rule_leaves_the_path_alone);
	CU_ADD_TEST(s, without_registries_nothing_but_host_counts);
	CU_ADD_TEST(s, without_a_default_only_names_lead_somewhere);
	CU_ADD_TEST(s, the_ping_and_token_of_nobody_are_the_cache_s);
	CU_ADD_TEST(s, library_is_put_before_one_component);
	CU_ADD_TEST(s, a_mount_s_source_loses_the_prefix_too);
	CU_ADD_TEST(s, twisted_paths_are_refused_below_a_prefix_too);
}
