/* Tokens of the cache's own, scopes in two tongues, and the memory of realms. */
#include <stdio.h>
#include <string.h>

#include <CUnit/CUnit.h>

#include "realms.h"
#include "route.h"
#include "suites.h"
#include "token.h"

/* An assertion that names its case when it fails. */
#define CHECK(ok, which) \
	CU_assertImplementation((ok) ? CU_TRUE : CU_FALSE, __LINE__, which, __FILE__, "", CU_FALSE)
#define N(a) (sizeof(a) / sizeof((a)[0]))

static struct arena arena;

static void
fresh(void)
{
	arena_reset(&arena);
	arena_init(&arena, 256 * 1024);
}

/* --- tokens ------------------------------------------------------------------------------------ */

static void
a_token_says_whom_it_is_for_and_holds_the_credential(void)
{
	static const char *const names[] = {"", "quay.io", "corp.example:5000", "[2001:db8::1]:5000"};
	const char *token, *name, *basic;

	for (size_t i = 0; i < N(names); i++) {
		fresh();
		token = token_write(&arena, names[i], "basic  YWxpY2U6cHc=");
		CU_ASSERT_PTR_NOT_NULL_FATAL(token);
		CU_ASSERT_PTR_NULL(strpbrk(token, " \"\\:[]"));
		CU_ASSERT_TRUE(token_read(
		    arena_printf(&arena, "bearer %s", token), &arena, &name, &basic));
		CHECK(strcmp(name, names[i]) == 0, names[i]);
		CHECK(basic != NULL && strcmp(basic, "Basic YWxpY2U6cHc=") == 0, names[i]);
		token = token_write(&arena, names[i], NULL);
		CU_ASSERT_TRUE(token_read(
		    arena_printf(&arena, "Bearer %s", token), &arena, &name, &basic));
		CHECK(strcmp(name, names[i]) == 0 && basic == NULL, names[i]);
	}
}

static void
what_is_no_credential_makes_no_token(void)
{
	static const char *const values[] = {"Bearer x", "Basic a b", "Basic a\"b", "Basic", "",
	    "BasicYWxpY2U6cHc="};

	fresh();
	for (size_t i = 0; i < N(values); i++)
		CHECK(token_write(&arena, "quay.io", values[i]) == NULL, values[i]);
}

static void
tokens_of_others_are_left_alone_and_false_ones_are_empty(void)
{
	static const char *const others[] = {NULL, "", "Bearer", "Bearer abc", "Basic registry-cache.1.",
	    "Bearer registry-cache.2.71.x", "Bearer Registry-Cache.1.71.x"};
	static const char *const broken[] = {"Bearer registry-cache.1.", "Bearer registry-cache.1.zz.eA==",
	    "Bearer registry-cache.1.7.eA==", "Bearer registry-cache.1.71.e A",
	    "Bearer registry-cache.1.71.x.y", "Bearer registry-cache.1.71"};
	const char *name, *basic;

	fresh();
	for (size_t i = 0; i < N(others); i++)
		CHECK(!token_read(others[i], &arena, &name, &basic), others[i]);
	for (size_t i = 0; i < N(broken); i++) {
		CHECK(token_read(broken[i], &arena, &name, &basic), broken[i]);
		CHECK(*name == '\0' && basic == NULL, broken[i]);
	}
}

/* --- questions --------------------------------------------------------------------------------- */

static struct token_question
read_question(const char *text)
{
	static const char *const quay[] = {"quay.io"}, *const hub[] = {"registry-1.docker.io"};
	static const struct route_registry registries[] = {
	    {"quay.io", NULL, 0, "https", quay, 1, true, NULL, false},
	    {"docker.io", NULL, 0, "https", hub, 1, true, NULL, true}};
	struct token_question q;
	size_t bad;
	char *error;
	struct route_table *t = route_table_new(NULL, 0, &bad, &error);

	route_table_set_registries(t, registries, N(registries));
	fresh();
	token_question_read(t, text, &arena, &q);
	route_table_free(&t);
	return q;
}

static void
scopes_are_put_in_the_registry_s_words(void)
{
	static const struct {
		const char *text, *parameters, *repository;
		unsigned number;
	} cases[] = {
	    {"scope=repository:quay.io/a/b:pull", "scope=repository%3Aa%2Fb%3Apull", "a/b", 1},
	    {"account=x&scope=repository%3Aquay.io%2Fa%3Apull%2Cpush&service=c&client_id=d%20e",
		"account=x&scope=repository%3Aa%3Apull%2Cpush&client_id=d%20e", "a", 1},
	    {"scope=repository:docker.io/alpine:pull", "scope=repository%3Alibrary%2Falpine%3Apull",
		"library/alpine", 2},
	    {"scope=repository(plugin):quay.io/a:pull", "scope=repository%28plugin%29%3Aa%3Apull", "a",
		1},
	    {"scope=repository:quay.io/a:pull&scope=repository:quay.io/a:pull",
		"scope=repository%3Aa%3Apull", "a", 1},
	    {"scope=repository:quay.io/a:pull+registry:catalog:*+repository:quay.io/b:pull",
		"scope=repository%3Aa%3Apull%20registry%3Acatalog%3A%2A%20repository%3Ab%3Apull", "a", 1},
	    {"scope=repository:a/b:pull", "scope=repository%3Aa%2Fb%3Apull", "a/b", 0},
	};

	for (size_t i = 0; i < N(cases); i++) {
		struct token_question q = read_question(cases[i].text);

		CHECK(q.trouble == NULL && q.names, cases[i].text);
		CHECK(strcmp(q.parameters, cases[i].parameters) == 0, cases[i].text);
		CHECK(strcmp(q.repository, cases[i].repository) == 0, cases[i].text);
		CHECK(q.number == cases[i].number, cases[i].text);
	}
}

static void
questions_without_a_repository_name_none(void)
{
	static const char *const texts[] = {NULL, "", "&&", "scope=", "scope=+", "account=a&service=b",
	    "scope=registry:catalog:*", "scope=x", "=y"};

	for (size_t i = 0; i < N(texts); i++) {
		struct token_question q = read_question(texts[i]);

		CHECK(q.trouble == NULL && !q.names && q.repository == NULL, texts[i]);
	}
}

static void
what_cannot_be_put_to_one_registry_is_trouble(void)
{
	static const char *const texts[] = {
	    "scope=repository:quay.io/a:pull&scope=repository:docker.io/a:pull",
	    "scope=repository:quay.io/a:pull+repository:a:pull", "scope=repository:quay.io/A:pull",
	    "scope=repository:quay.io/:pull", "scope=repository:a/../b:pull", "scope=a%00b",
	    "scope=a%0ab"};
	char many[8192] = "scope=repository:quay.io/a:pull";
	size_t n = strlen(many);

	for (size_t i = 0; i < N(texts); i++)
		CHECK(read_question(texts[i]).trouble != NULL, texts[i]);
	for (unsigned i = 0; i < 70; i++)
		n += (size_t)snprintf(many + n, sizeof(many) - n, "+repository:quay.io/a%u:pull", i);
	CU_ASSERT_PTR_NOT_NULL(read_question(many).trouble);
}

static void
a_form_has_a_user(void)
{
	struct token_question q =
	    read_question("grant_type=password&username=al%69ce&password=a+b%26&x=y");

	CU_ASSERT_STRING_EQUAL(q.grant_type, "password");
	CU_ASSERT_STRING_EQUAL(q.username, "alice");
	CU_ASSERT_STRING_EQUAL(q.password, "a b&");
	CU_ASSERT_STRING_EQUAL(
	    q.parameters, "grant_type=password&username=al%69ce&password=a+b%26&x=y");
	CU_ASSERT_STRING_EQUAL(token_parameters(&arena, &q, NULL), q.parameters);
	CU_ASSERT_PTR_NOT_NULL(strstr(token_parameters(&arena, &q, "a b&c"), "&service=a%20b%26c"));
	q = read_question("");
	CU_ASSERT_STRING_EQUAL(token_parameters(&arena, &q, "s"), "service=s");
}

static void
scopes_are_put_in_the_client_s_words(void)
{
	fresh();
	CU_ASSERT_STRING_EQUAL(
	    token_client_scopes(&arena, "quay.io/", "repository:a/b:pull,push registry:catalog:*"),
	    "repository:quay.io/a/b:pull,push registry:catalog:*");
	CU_ASSERT_STRING_EQUAL(token_client_scopes(&arena, "q/", "x"), "x");
	CU_ASSERT_STRING_EQUAL(token_client_scopes(&arena, "q/", " "), "");
	CU_ASSERT_PTR_NULL(token_client_scopes(&arena, "q/", "repository:a\",x=\":pull"));
}

/* --- realms ------------------------------------------------------------------------------------ */

static void
a_realm_is_remembered_for_its_repository_and_a_while(void)
{
	struct realms *rs = realms_new();
	struct realm_memory m = {REALM_BEARER, "https://a/t", "s"}, open = {REALM_OPEN, NULL, NULL};

	CU_ASSERT_FALSE(realms_find(rs, "https://a", "x/y", 0, &m));
	realms_keep(rs, "https://a", "x/y", 1000, &m);
	CU_ASSERT_FALSE(realms_find(rs, "https://a", "x", 1000, &m));
	CU_ASSERT_FALSE(realms_find(rs, "https://b", "x/y", 1000, &m));
	CU_ASSERT_TRUE_FATAL(realms_find(rs, "https://a", "x/y", 1000 + REALMS_TTL_MS - 1, &m));
	CU_ASSERT_EQUAL(m.kind, REALM_BEARER);
	CU_ASSERT_STRING_EQUAL(m.realm, "https://a/t");
	CU_ASSERT_STRING_EQUAL(m.service, "s");
	CU_ASSERT_FALSE(realms_find(rs, "https://a", "x/y", 1000 + REALMS_TTL_MS, &m));
	realms_keep(rs, "https://a", "x/y", 2000, &open);
	CU_ASSERT_TRUE_FATAL(realms_find(rs, "https://a", "x/y", 2000, &m));
	CU_ASSERT_EQUAL(m.kind, REALM_OPEN);
	CU_ASSERT_FALSE(realms_find(rs, "https://a", "x/y", 2000 + REALMS_OPEN_TTL_MS, &m));
	realms_forget(rs, "https://a", "x/y");
	CU_ASSERT_FALSE(realms_find(rs, "https://a", "x/y", 2000, &m));
	realms_free(&rs);
	CU_ASSERT_PTR_NULL(rs);
}

static void
the_memory_of_realms_is_bounded(void)
{
	struct realms *rs = realms_new();
	struct realm_memory m = {REALM_BASIC, NULL, NULL};
	static char large[4096];
	char name[16];

	for (unsigned i = 0; i < 3 * REALMS_MAX; i++) {
		snprintf(name, sizeof(name), "r%u", i);
		realms_keep(rs, "https://a", name, i, &m);
	}
	CU_ASSERT_FALSE(realms_find(rs, "https://a", "r0", 0, &m));
	CU_ASSERT_TRUE(realms_find(rs, "https://a", "r767", 0, &m));
	CU_ASSERT_TRUE(realms_find(rs, "https://a", "r512", 0, &m));
	memset(large, 'a', sizeof(large) - 1);
	m = (struct realm_memory){REALM_BEARER, large, NULL};
	realms_keep(rs, "https://b", "x", 0, &m);
	CU_ASSERT_FALSE(realms_find(rs, "https://b", "x", 0, &m));
	realms_free(&rs);
}

static int
clean_up(void)
{
	arena_reset(&arena);
	return 0;
}

void
suite_token(void)
{
	CU_pSuite s = CU_add_suite("token", NULL, clean_up);

	CU_ADD_TEST(s, a_token_says_whom_it_is_for_and_holds_the_credential);
	CU_ADD_TEST(s, what_is_no_credential_makes_no_token);
	CU_ADD_TEST(s, tokens_of_others_are_left_alone_and_false_ones_are_empty);
	CU_ADD_TEST(s, scopes_are_put_in_the_registry_s_words);
	CU_ADD_TEST(s, questions_without_a_repository_name_none);
	CU_ADD_TEST(s, what_cannot_be_put_to_one_registry_is_trouble);
	CU_ADD_TEST(s, a_form_has_a_user);
	CU_ADD_TEST(s, scopes_are_put_in_the_client_s_words);
	CU_ADD_TEST(s, a_realm_is_remembered_for_its_repository_and_a_while);
	CU_ADD_TEST(s, the_memory_of_realms_is_bounded);
}
