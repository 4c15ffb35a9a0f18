/* Tokens in shared memory, what a realm's answer says, what a registry asks for, what a request is about,
 * and the file of a credential that the cache holds. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <CUnit/CUnit.h>

#include "credential.h"
#include "registry.h"
#include "registry_demand.h"
#include "registry_token.h"
#include "scratch.h"
#include "shm.h"
#include "shm_token.h"
#include "suites.h"
#include "xalloc.h"

/* --- in shared memory ------------------------------------------------------------------------- */

static const uint8_t key[SHM_TOKEN_KEY_BYTES] = {1, 2, 3}, other[SHM_TOKEN_KEY_BYTES] = {4};

static struct shm *
new_shm(void)
{
	struct shm *s = shm_create(4, 4);

	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	for (unsigned i = 0; i < 4; i++)
		shm_child_open(s, i);
	return s;
}

static enum shm_token_state
look(const struct shm *s, uint64_t now, const char *text, bool renew)
{
	char found[SHM_TOKEN_SIZE] = "";
	bool found_renew;
	enum shm_token_state state = shm_token_get(s, key, now, found, &found_renew);

	CU_ASSERT_STRING_EQUAL(found, text);
	CU_ASSERT_EQUAL(found_renew, renew);
	return state;
}

static void
a_token_is_used_renewed_and_gone_in_its_time(void)
{
	struct shm *s = new_shm();

	CU_ASSERT_EQUAL(look(s, 10, "", false), SHM_TOKEN_NONE);
	shm_token_put(s, key, "abc", 900, 1000);
	CU_ASSERT_EQUAL(look(s, 10, "abc", false), SHM_TOKEN_VALID);
	CU_ASSERT_EQUAL(look(s, 899, "abc", false), SHM_TOKEN_VALID);
	CU_ASSERT_EQUAL(look(s, 900, "abc", true), SHM_TOKEN_VALID);
	CU_ASSERT_EQUAL(look(s, 999, "abc", true), SHM_TOKEN_VALID);
	CU_ASSERT_EQUAL(look(s, 1000, "", false), SHM_TOKEN_NONE);
	CU_ASSERT_EQUAL(look(s, 10, "", false), SHM_TOKEN_NONE); /* it was wiped then */
	shm_destroy(&s);
}

static void
one_listener_asks_and_the_others_wait(void)
{
	struct shm *s = new_shm();

	CU_ASSERT_TRUE(shm_token_claim(s, 0, key, 10));
	for (unsigned i = 0; i < 4; i++)
		CU_ASSERT_FALSE(shm_token_claim(s, i, key, 10));
	CU_ASSERT_TRUE(shm_token_claim(s, 1, other, 10));
	shm_token_put(s, key, "abc", 900, 1000);
	CU_ASSERT_TRUE(shm_token_claim(s, 2, key, 910)); /* who renews it */
	CU_ASSERT_FALSE(shm_token_claim(s, 3, key, 910));
	shm_token_release(s, key, 0);
	CU_ASSERT_TRUE(shm_token_claim(s, 3, key, 910));
	shm_token_release(s, key, 2000); /* nobody is to ask before that */
	CU_ASSERT_FALSE(shm_token_claim(s, 3, key, 1999));
	CU_ASSERT_TRUE(shm_token_claim(s, 3, key, 2000));
	shm_destroy(&s);
}

static void
a_claim_ends_with_its_listener_or_its_time(void)
{
	struct shm *s = new_shm();

	CU_ASSERT_TRUE(shm_token_claim(s, 0, key, 10));
	shm_child_closed(s, 0);
	CU_ASSERT_TRUE(shm_token_claim(s, 1, key, 11));
	CU_ASSERT_FALSE(shm_token_claim(s, 2, key, 11 + SHM_TOKEN_CLAIM_MS - 1));
	CU_ASSERT_TRUE(shm_token_claim(s, 2, key, 11 + SHM_TOKEN_CLAIM_MS));
	shm_destroy(&s);
}

static void
a_refusal_holds_for_its_time(void)
{
	struct shm *s = new_shm();

	CU_ASSERT_TRUE(shm_token_claim(s, 0, key, 10));
	shm_token_refuse(s, key, 100);
	CU_ASSERT_EQUAL(look(s, 99, "", false), SHM_TOKEN_REFUSED);
	CU_ASSERT_EQUAL(look(s, 100, "", false), SHM_TOKEN_NONE);
	CU_ASSERT_TRUE(shm_token_claim(s, 1, key, 100));
	shm_destroy(&s);
}

static bool
segment_has(const struct shm *s, const char *text)
{
	FILE *f;
	char path[64], *all;
	struct stat st;
	bool found;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", shm_fd(s));
	CU_ASSERT_FATAL(stat(path, &st) == 0);
	all = xmalloc((size_t)st.st_size);
	f = fopen(path, "r");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	CU_ASSERT_EQUAL(fread(all, 1, (size_t)st.st_size, f), (size_t)st.st_size);
	fclose(f);
	found = memmem(all, (size_t)st.st_size, text, strlen(text)) != NULL;
	free(all);
	return found;
}

static void
a_token_that_is_dropped_replaced_or_over_is_overwritten(void)
{
	struct shm *s = new_shm();

	shm_token_put(s, key, "first-token", 900, 1000);
	CU_ASSERT_TRUE(segment_has(s, "first-token"));
	shm_token_drop(s, key, "another");
	CU_ASSERT_TRUE(segment_has(s, "first-token"));
	shm_token_put(s, key, "second", 900, 1000);
	CU_ASSERT_FALSE(segment_has(s, "token"));
	CU_ASSERT_TRUE(segment_has(s, "second"));
	shm_token_drop(s, key, "first-token"); /* a late word on the one before */
	CU_ASSERT_EQUAL(look(s, 10, "second", false), SHM_TOKEN_VALID);
	shm_token_drop(s, key, "second");
	CU_ASSERT_FALSE(segment_has(s, "second"));
	shm_token_put(s, key, "third-token", 900, 1000);
	CU_ASSERT_EQUAL(look(s, 1000, "", false), SHM_TOKEN_NONE);
	CU_ASSERT_FALSE(segment_has(s, "third"));
	shm_destroy(&s);
}

static void
the_longest_token_is_kept_and_a_longer_one_is_not(void)
{
	struct shm *s = new_shm();
	char text[SHM_TOKEN_SIZE + 1];

	memset(text, 'x', sizeof(text));
	text[SHM_TOKEN_SIZE] = '\0';
	CU_ASSERT_TRUE(shm_token_claim(s, 0, key, 10));
	shm_token_put(s, key, text, 900, 1000);
	CU_ASSERT_EQUAL(look(s, 10, "", false), SHM_TOKEN_NONE);
	CU_ASSERT_TRUE(shm_token_claim(s, 1, key, 10)); /* the claim has ended all the same */
	text[SHM_TOKEN_SIZE - 1] = '\0';
	shm_token_put(s, key, text, 900, 1000);
	CU_ASSERT_EQUAL(look(s, 10, text, false), SHM_TOKEN_VALID);
	shm_destroy(&s);
}

/* --- what a realm says ------------------------------------------------------------------------ */

static void
said(const char *body, const char *token, uint64_t life_ms)
{
	struct arena a;
	uint64_t life = 0;
	const char *found;

	arena_init(&a, 1 << 20);
	found = realm_token(body, strlen(body), &a, &life);
	if (token == NULL)
		CU_ASSERT_PTR_NULL(found);
	if (token != NULL) {
		CU_ASSERT_PTR_NOT_NULL_FATAL(found);
		CU_ASSERT_STRING_EQUAL(found, token);
		CU_ASSERT_EQUAL(life, life_ms);
	}
	arena_reset(&a);
}

static void
an_answer_is_read_as_distribution_s_client_does(void)
{
	said("{\"token\":\"a\"}", "a", 60000);
	said("{\"access_token\":\"b\"}", "b", 60000);
	said("{\"access_token\":\"b\",\"token\":\"a\",\"expires_in\":300}", "a", 300000);
	said("{\"access_token\":\"b\",\"token\":\"\"}", "b", 60000);
	said("{\"token\":\"a\",\"expires_in\":5}", "a", 60000);
	said("{\"token\":\"a\",\"expires_in\":-1}", "a", 60000);
	said("{\"token\":\"a\",\"expires_in\":90.5}", "a", 90500);
	said("{\"token\":\"a\",\"expires_in\":\"300\"}", "a", 60000);
	said("{\"token\":\"a\",\"expires_in\":1e300}", "a", 1000000000000);
	said("{\"token\":\"eyJ.a-b_c~d+/==\"}", "eyJ.a-b_c~d+/==", 60000);
}

static void
what_is_no_token_is_refused(void)
{
	static const char *const bodies[] = {"", "{}", "[]", "null", "{\"token\":null}",
	    "{\"token\":1}", "{\"token\":[\"a\"]}", "{\"token\":\"a b\"}", "{\"token\":\"a\\n\"}",
	    "{\"token\":\"a\\u0000b\"}", "{\"token\":\"\\u00e4\"}", "{\"token\":\"a\"",
	    "{\"token\":\"a\",\"token\":\"b\"}", "{\"Token\":\"a\"}", "<html>"};

	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
		said(bodies[i], NULL, 0);
}

/* --- what is asked for, and about what -------------------------------------------------------- */

static void
what_registries_ask_for_is_remembered_within_bounds(void)
{
	static struct demands ds;
	const struct demand token = {DEMAND_TOKEN, {"https", "auth.x", "/t"}, "service"};
	const struct demand basic = {.kind = DEMAND_BASIC}, nothing = {0};
	struct demand d;
	struct arena a;
	char name[32];

	arena_init(&a, 1 << 20);
	CU_ASSERT_FALSE(demands_get(&ds, "https://x", &a, &d));
	CU_ASSERT_EQUAL(d.kind, DEMAND_NONE);
	demands_note(&ds, "https://x", &token);
	CU_ASSERT_TRUE(demands_get(&ds, "https://x", &a, &d));
	CU_ASSERT_EQUAL(d.kind, DEMAND_TOKEN);
	CU_ASSERT_STRING_EQUAL(d.realm.host, "auth.x");
	CU_ASSERT_STRING_EQUAL(d.service, "service");
	demands_note(&ds, "https://x", &basic);
	CU_ASSERT_TRUE(demands_get(&ds, "https://x", &a, &d) && d.kind == DEMAND_BASIC);
	demands_note(&ds, "https://x", &nothing);
	CU_ASSERT_FALSE(demands_get(&ds, "https://x", &a, &d));
	for (int i = 0; i < 2 * DEMANDS_MAX; i++) {
		snprintf(name, sizeof(name), "https://%d", i);
		demands_note(&ds, name, &token);
		CU_ASSERT_TRUE(demands_get(&ds, name, &a, &d));
	}
	CU_ASSERT_FALSE(demands_get(&ds, "https://0", &a, &d));
	CU_ASSERT_TRUE(demands_get(&ds, "https://64", &a, &d));
	demands_free(&ds);
	arena_reset(&a);
}

static void
the_repository_of_a_target_is_found_from_the_right(void)
{
	static const char *const pairs[][2] = {{"/v2/a/manifests/v1", "a"},
	    {"/v2/a/b/blobs/sha256:x?y=/v2/z/blobs/q", "a/b"}, {"/v2/a/blobs/b/manifests/x", "a/blobs/b"},
	    {"/v2/a/tags/list?n=1", "a"}, {"/v2/a/referrers/sha256:x", "a"},
	    {"/v2/a/blobs/uploads/u", NULL}, {"/v2/", NULL}, {"/v2/_catalog", NULL}, {"/token", NULL},
	    {"/v2/manifests/x", NULL}, {"/v2//manifests/x", NULL}, {"/x/v2/a/manifests/x", NULL},
	    {"/v2/a%2fb/manifests/x", NULL}, {"/v2/auth?scope=repository:a:pull", NULL}, {"", NULL}};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		size_t n = 0;
		const char *found = registry_repository(pairs[i][0], &n);

		if ((found == NULL) != (pairs[i][1] == NULL))
			fprintf(stderr, "%s\n", pairs[i][0]);
		CU_ASSERT_EQUAL(found == NULL, pairs[i][1] == NULL);
		if (found != NULL && pairs[i][1] != NULL) {
			CU_ASSERT_EQUAL(n, strlen(pairs[i][1]));
			CU_ASSERT_NSTRING_EQUAL(found, pairs[i][1], n);
		}
	}
}

/* --- a file ----------------------------------------------------------------------------------- */

static struct credential *
load(const char *text, char **error)
{
	char *folder = scratch_folder(), *path = scratch_path(folder, "c");
	struct credential *c;

	scratch_write(folder, "c", text);
	chmod(path, 0600);
	c = credential_load(path, error);
	free(path);
	scratch_remove(&folder);
	return c;
}

static void
a_credential_is_user_and_password_or_a_refresh_token(void)
{
	char *error;
	struct credential *c = load("Aladdin:open: sesame\r\n", &error);

	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_STRING_EQUAL(c->user, "Aladdin");
	CU_ASSERT_STRING_EQUAL(c->password, "open: sesame");
	CU_ASSERT_STRING_EQUAL(c->basic, "Basic QWxhZGRpbjpvcGVuOiBzZXNhbWU=");
	CU_ASSERT_PTR_NULL(c->refresh);
	credential_free(&c);
	c = load("<token>:abc", &error);
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_STRING_EQUAL(c->refresh, "abc");
	CU_ASSERT_PTR_NULL(c->basic);
	credential_free(&c);
	CU_ASSERT_PTR_NULL(load("a:b\nc:d\n", &error));
	free(error);
}

void
suite_tokens(void)
{
	CU_pSuite s = CU_add_suite("tokens", NULL, NULL);

#define TEST(f) CU_add_test(s, #f, f)
	TEST(a_token_is_used_renewed_and_gone_in_its_time);
	TEST(one_listener_asks_and_the_others_wait);
	TEST(a_claim_ends_with_its_listener_or_its_time);
	TEST(a_refusal_holds_for_its_time);
	TEST(a_token_that_is_dropped_replaced_or_over_is_overwritten);
	TEST(the_longest_token_is_kept_and_a_longer_one_is_not);
	TEST(an_answer_is_read_as_distribution_s_client_does);
	TEST(what_is_no_token_is_refused);
	TEST(what_registries_ask_for_is_remembered_within_bounds);
	TEST(the_repository_of_a_target_is_found_from_the_right);
	TEST(a_credential_is_user_and_password_or_a_refresh_token);
#undef TEST
}
