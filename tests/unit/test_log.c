/* The log's lines as JSON, what is said too often, and where lines may go. Text lines are test_l0.c's. */
#include <string.h>

#include <CUnit/CUnit.h>
#include <jansson.h>

#include "log_private.h"
#include "suites.h"

static json_t *
parsed(const char *line, size_t n)
{
	json_error_t error;
	json_t *j = json_loadb(line, n, JSON_REJECT_DUPLICATES, &error);

	CU_ASSERT_EQUAL(line[n - 1], '\n');
	CU_ASSERT_PTR_NULL(memchr(line, '\n', n - 1));
	CU_ASSERT_PTR_NOT_NULL_FATAL(j);
	return j;
}

static void
check_text(const json_t *j, const char *name, const char *expected)
{
	const char *text = json_string_value(json_object_get(j, name));

	CU_ASSERT_PTR_NOT_NULL_FATAL(text);
	CU_ASSERT_STRING_EQUAL(text, expected);
}

static void
a_message_is_a_json_object(void)
{
	char line[LOG_LINE_MAX];
	json_t *j = parsed(
	    line, log_format_message(line, true, "warn", "listener 3", "a \"b\" \\ \n\x01 c\xc3\xa9"));

	check_text(j, "level", "warn");
	check_text(j, "role", "listener 3");
	check_text(j, "message", "a \"b\" \\ \n\x01 c\xc3\xa9");
	CU_ASSERT_EQUAL(strlen(json_string_value(json_object_get(j, "time"))), 28);
	json_decref(j);
}

static void
bytes_that_are_no_utf8_are_replaced(void)
{
	static const char *const bad[] = {"\xff", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80",
	    "\xf4\x90\x80\x80", "\xc3", "\xe2\x82", "\x80"};
	char line[LOG_LINE_MAX];

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		json_t *j =
		    parsed(line, log_format_message(line, true, "info", "gc", bad[i]));
		const char *text = json_string_value(json_object_get(j, "message"));

		CU_ASSERT_EQUAL(strncmp(text, "\xef\xbf\xbd", 3), 0);
		json_decref(j);
	}
}

static void
an_access_line_has_its_fields_and_their_types(void)
{
	const struct log_field fields[] = {
	    {"id", "1f", 0}, {"empty", "", 0}, {"bytes", NULL, UINT64_MAX / 2}};
	char line[LOG_LINE_MAX];
	size_t n = log_format_access(line, true, "listener 0", fields, 3);
	json_t *j = parsed(line, n);

	check_text(j, "level", "access");
	check_text(j, "id", "1f");
	check_text(j, "empty", "");
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(j, "bytes")), INT64_MAX);
	json_decref(j);
	n = log_format_access(line, false, "listener 0", fields, 3);
	line[n] = '\0';
	CU_ASSERT_PTR_NOT_NULL(
	    strstr(line, " access listener 0: id=1f empty=- bytes=9223372036854775807\n"));
}

static void
what_is_too_long_is_cut_and_still_json(void)
{
	static char longer[3 * LOG_LINE_MAX];
	struct log_field fields[] = {{"a", "x", 0}, {"b", longer, 0}, {"c", "lost", 0}};
	char line[LOG_LINE_MAX + 1];
	size_t n;
	json_t *j;

	for (size_t length = LOG_LINE_MAX - 200; length < LOG_LINE_MAX + 200; length++) {
		memset(longer, length % 2 == 0 ? '"' : 'y', length);
		longer[length] = '\0';
		line[LOG_LINE_MAX] = 'z';
		n = log_format_access(line, true, "listener 0", fields, 3);
		j = parsed(line, n);
		check_text(j, "a", "x");
		json_decref(j);
		json_decref(parsed(line, log_format_message(line, true, "info", "gc", longer)));
		CU_ASSERT_EQUAL(line[LOG_LINE_MAX], 'z');
	}
}

static void
only_known_facilities_are_opened(void)
{
	CU_ASSERT_FALSE(log_open_syslog("kern"));
	CU_ASSERT_FALSE(log_open_syslog(""));
	CU_ASSERT_TRUE(log_open_syslog("local7"));
	log_to_stderr();
}

void
suite_log(void)
{
	CU_pSuite s = CU_add_suite("log_lines", NULL, NULL);

	CU_add_test(s, "a message is a JSON object", a_message_is_a_json_object);
	CU_add_test(s, "bytes that are no UTF-8 are replaced", bytes_that_are_no_utf8_are_replaced);
	CU_add_test(s, "an access line has its fields and their types",
	    an_access_line_has_its_fields_and_their_types);
	CU_add_test(
	    s, "what is too long is cut and still JSON", what_is_too_long_is_cut_and_still_json);
	CU_add_test(s, "only known facilities are opened", only_known_facilities_are_opened);
}
