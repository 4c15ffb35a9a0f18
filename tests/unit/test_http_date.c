/* HTTP-date and Retry-After: RFC 9110 sections 5.6.7 and 10.2.3. */
#include <CUnit/CUnit.h>

#include "http_date.h"
#include "suites.h"

enum { NOW = 784111777 }; /* the date of the RFC's examples */

static void
all_three_forms_of_a_date_are_read(void)
{
	static const char *const forms[] = {"Sun, 06 Nov 1994 08:49:37 GMT",
	    "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		int64_t seconds = 0;

		CU_ASSERT_TRUE(http_parse_date(forms[i], &seconds));
		CU_ASSERT_EQUAL(seconds, NOW);
	}
}

static void
what_is_no_date_is_refused(void)
{
	static const char *const texts[] = {"", "soon", "12", "Sun, 06 Nov 1994 08:49:37",
	    "Sun, 06 Nov 1994 08:49:37 GMT x", "Sun, 66 Nov 1994 08:49:37 GMT",
	    "1994-11-06T08:49:37Z"};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		int64_t seconds;

		CU_ASSERT_FALSE(http_parse_date(texts[i], &seconds));
	}
}

static void
retry_after_is_a_number_or_a_date(void)
{
	CU_ASSERT_EQUAL(http_parse_retry_after("0", NOW), 0);
	CU_ASSERT_EQUAL(http_parse_retry_after("120", NOW), 120);
	CU_ASSERT_EQUAL(http_parse_retry_after("99999999999999999999999", NOW), 1000000000);
	CU_ASSERT_EQUAL(http_parse_retry_after("Sun, 06 Nov 1994 08:50:37 GMT", NOW), 60);
	CU_ASSERT_EQUAL(http_parse_retry_after("Sun, 06 Nov 1994 08:48:37 GMT", NOW), 0);
	CU_ASSERT_EQUAL(http_parse_retry_after("", NOW), -1);
	CU_ASSERT_EQUAL(http_parse_retry_after("-1", NOW), -1);
	CU_ASSERT_EQUAL(http_parse_retry_after("1.5", NOW), -1);
	CU_ASSERT_EQUAL(http_parse_retry_after("12 s", NOW), -1);
}

void
suite_http_date(void)
{
	CU_pSuite suite = CU_add_suite("http_date", NULL, NULL);

	CU_add_test(suite, "all three forms of a date are read", all_three_forms_of_a_date_are_read);
	CU_add_test(suite, "what is no date is refused", what_is_no_date_is_refused);
	CU_add_test(suite, "Retry-After is a number or a date", retry_after_is_a_number_or_a_date);
}
