/* Users and passwords: Basic credentials, the file of users, and the thread that tries them. */
#include <crypt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <CUnit/CUnit.h>
#include <event2/event.h>

#include "http_basic.h"
#include "login.h"
#include "scratch.h"
#include "secret.h"
#include "suites.h"
#include "users.h"
#include "xalloc.h"

/* --- Basic ------------------------------------------------------------------------------------ */

static void
basic_credentials_come_back_as_they_were(void)
{
	static const char *const pairs[][2] = {{"Aladdin", "open sesame"}, {"a", ""}, {"a", "b:c:"},
	    {"", "x"}, {"ab", "c"}, {"\xc3\xa4", "\xe2\x82\xac"}, {"AWS", "0123456789+/="}};
	struct http_basic got;

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		char *text = http_basic_write(pairs[i][0], pairs[i][1]);

		CU_ASSERT_TRUE(http_basic_read(text, &got));
		CU_ASSERT_STRING_EQUAL(got.name, pairs[i][0]);
		CU_ASSERT_STRING_EQUAL(got.password, pairs[i][1]);
		free(text);
	}
	/* RFC 7617 section 2 */
	CU_ASSERT_TRUE(http_basic_read("bASIC QWxhZGRpbjpvcGVuIHNlc2FtZQ==", &got));
	CU_ASSERT_STRING_EQUAL(got.password, "open sesame");
}

static void
what_is_no_basic_credential_is_refused(void)
{
	static const char *const texts[] = {NULL, "", "Basic", "Basic ", "Bearer QTpi", "BasicQTpi",
	    "Basic QTp", "Basic QTpi=", "Basic QT=p", "Basic QTpi====", "Basic Q===", "Basic ====",
	    "Basic QTp!", "Basic QTpi QTpi", "Basic QWI=" /* no colon */, "Basic QQo6YQ==" /* LF */,
	    "Basic QTph\tQTph", "Basic QTph=QTp",
	    "Basic QTpiZB==" /* bits left over */};
	struct http_basic got;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (http_basic_read(texts[i], &got))
			fprintf(stderr, "taken: %s\n", texts[i]);
		CU_ASSERT_FALSE(http_basic_read(texts[i], &got));
	}
}

static void
a_name_or_password_over_the_limit_is_refused(void)
{
	char name[HTTP_BASIC_NAME + 1], password[HTTP_BASIC_PASSWORD + 1];
	struct http_basic got;

	for (size_t less = 0; less < 3; less++) {
		char *a, *b;

		memset(name, 'n', sizeof(name));
		memset(password, 'p', sizeof(password));
		name[HTTP_BASIC_NAME - less] = password[HTTP_BASIC_PASSWORD - less] = '\0';
		a = http_basic_write(name, "x");
		b = http_basic_write("x", password);
		CU_ASSERT_EQUAL(http_basic_read(a, &got), less > 0);
		CU_ASSERT_EQUAL(http_basic_read(b, &got), less > 0);
		free(a);
		free(b);
	}
}

/* --- files ------------------------------------------------------------------------------------ */

static void
a_secret_s_file_is_read_whole_or_refused_with_its_reason(void)
{
	char *folder = scratch_folder(), *path = scratch_path(folder, "s"), *error, *text;
	size_t n = 0;

	scratch_write(folder, "s", "user:password\n");
	chmod(path, 0600);
	text = secret_read_file(path, 077, 100, &n, &error);
	CU_ASSERT_PTR_NULL(error);
	CU_ASSERT_PTR_NOT_NULL_FATAL(text);
	CU_ASSERT_STRING_EQUAL(text, "user:password\n");
	CU_ASSERT_EQUAL(n, 14);
	secret_drop(text);
	for (mode_t mode = 1; mode < 0100; mode <<= 1) {
		chmod(path, 0600 | mode);
		CU_ASSERT_PTR_NULL(secret_read_file(path, 077, 100, &n, &error));
		CU_ASSERT_PTR_NOT_NULL_FATAL(error);
		CU_ASSERT_PTR_NOT_NULL(strstr(error, "opens it to others, expected 0600"));
		free(error);
	}
	chmod(path, 0600);
	CU_ASSERT_PTR_NULL(secret_read_file(path, 077, 13, &n, &error));
	free(error);
	CU_ASSERT_PTR_NULL(secret_read_file(folder, 0, 100, &n, &error));
	CU_ASSERT_PTR_NOT_NULL(strstr(error, "not a regular file"));
	free(error);
	free(path);
	scratch_remove(&folder);
}

static struct users *
load(const char *text, char **error)
{
	char *folder = scratch_folder(), *path = scratch_path(folder, "users");
	struct users *users;

	scratch_write(folder, "users", text);
	chmod(path, 0600);
	users = users_load(path, error);
	free(path);
	scratch_remove(&folder);
	return users;
}

#define HASH "$2y$05$abcdefghijklmnopqrstuu5Lo0g67CiD3M4RpN1BmBb4Crp5w7dbK"

static void
users_are_found_by_their_exact_names(void)
{
	char *error;
	struct users *users = load("zoe:" HASH "\r\n#x\n\nabe:" HASH "\nZoe:" HASH, &error);

	CU_ASSERT_PTR_NULL(error);
	CU_ASSERT_PTR_NOT_NULL_FATAL(users);
	CU_ASSERT_EQUAL(users_count(users), 3);
	CU_ASSERT_STRING_EQUAL(users_hash(users, "zoe"), HASH);
	CU_ASSERT_PTR_NOT_NULL(users_hash(users, "abe"));
	CU_ASSERT_PTR_NULL(users_hash(users, "zo"));
	CU_ASSERT_PTR_NULL(users_hash(users, ""));
	CU_ASSERT_PTR_NULL(users_hash(users, "#x"));
	users_free(&users);
}

/* --- trials ----------------------------------------------------------------------------------- */

struct told {
	unsigned times;
	bool known;
};

static void
on_told(void *arg, bool known)
{
	struct told *t = arg;

	t->times++;
	t->known = known;
}

static struct event_base *base;
static struct users *users;
static struct login *login;

static void
begin(void)
{
	static const uint8_t key[SECRET_BYTES] = {1};
	struct crypt_data *data = xcalloc(1, sizeof(*data));
	char *text, *error;

	text = xasprintf("abe:%s\n", crypt_r("right", "$2b$04$abcdefghijklmnopqrstuu", data));
	users = load(text, &error);
	CU_ASSERT_PTR_NOT_NULL_FATAL(users);
	free(text);
	free(data);
	base = event_base_new();
	login = login_new(base, users, key);
}

static void
end(void)
{
	login_free(&login);
	users_free(&users);
	event_base_free(base);
}

static bool
tried(const char *name, const char *password)
{
	struct login_ticket *ticket = NULL;
	struct told told = {0};

	CU_ASSERT_EQUAL(
	    login_ask(login, name, password, "::1", on_told, &told, &ticket), LOGIN_WAIT);
	while (told.times == 0)
		event_base_loop(base, EVLOOP_ONCE);
	CU_ASSERT_EQUAL(told.times, 1);
	return told.known;
}

static void
a_password_is_tried_once_and_then_known(void)
{
	struct login_ticket *ticket = NULL;

	begin();
	CU_ASSERT_TRUE(tried("abe", "right"));
	CU_ASSERT_FALSE(tried("abe", "wrong"));
	CU_ASSERT_FALSE(tried("bob", "right"));
	CU_ASSERT_EQUAL(login_ask(login, "abe", "right", "::1", NULL, NULL, &ticket), LOGIN_YES);
	CU_ASSERT_EQUAL(login_ask(login, "abe", "wrong", "::1", NULL, NULL, &ticket), LOGIN_NO);
	CU_ASSERT_EQUAL(login_ask(login, "bob", "right", "::1", NULL, NULL, &ticket), LOGIN_NO);
	CU_ASSERT_PTR_NULL(ticket);
	end();
}

static void
too_many_of_one_address_are_turned_away_and_others_are_not(void)
{
	struct login_ticket *ticket[LOGIN_PER_ADDRESS + 1] = {NULL}, *other = NULL, *same = NULL;
	struct told told = {0}, told_other = {0};
	char password[16];

	begin();
	for (unsigned i = 0; i < LOGIN_PER_ADDRESS; i++) {
		snprintf(password, sizeof(password), "guess %u", i);
		CU_ASSERT_EQUAL(login_ask(login, "abe", password, "::1", on_told, &told, &ticket[i]),
		    LOGIN_WAIT);
	}
	CU_ASSERT_EQUAL(
	    login_ask(login, "abe", "one more", "::1", on_told, &told, &ticket[LOGIN_PER_ADDRESS]),
	    LOGIN_BUSY);
	CU_ASSERT_EQUAL(
	    login_ask(login, "abe", "guess 3", "::1", on_told, &told, &same), LOGIN_WAIT);
	CU_ASSERT_EQUAL(
	    login_ask(login, "abe", "right", "::2", on_told, &told_other, &other), LOGIN_WAIT);
	login_cancel(&same);
	CU_ASSERT_PTR_NULL(same);
	while (told_other.times == 0)
		event_base_loop(base, EVLOOP_ONCE);
	CU_ASSERT_TRUE(told_other.known);
	CU_ASSERT(told.times < LOGIN_PER_ADDRESS); /* it did not wait for all of them */
	while (told.times < LOGIN_PER_ADDRESS)
		event_base_loop(base, EVLOOP_ONCE);
	CU_ASSERT_FALSE(told.known);
	end();
}

static void
an_end_while_passwords_wait_tells_nobody(void)
{
	struct login_ticket *ticket[4];
	struct told told = {0};
	char password[16];

	begin();
	for (unsigned i = 0; i < 4; i++) {
		snprintf(password, sizeof(password), "guess %u", i);
		CU_ASSERT_EQUAL(login_ask(login, "abe", password, "::1", on_told, &told, &ticket[i]),
		    LOGIN_WAIT);
	}
	end();
	CU_ASSERT_EQUAL(told.times, 0);
}

void
suite_login(void)
{
	CU_pSuite s = CU_add_suite("login", NULL, NULL);

#define TEST(f) CU_add_test(s, #f, f)
	TEST(basic_credentials_come_back_as_they_were);
	TEST(what_is_no_basic_credential_is_refused);
	TEST(a_name_or_password_over_the_limit_is_refused);
	TEST(a_secret_s_file_is_read_whole_or_refused_with_its_reason);
	TEST(users_are_found_by_their_exact_names);
	TEST(a_password_is_tried_once_and_then_known);
	TEST(too_many_of_one_address_are_turned_away_and_others_are_not);
	TEST(an_end_while_passwords_wait_tells_nobody);
#undef TEST
}
