/* Times in HTTP fields. */
#include "http_date.h"

#include <string.h>
#include <time.h>

enum { SECONDS_MAX = 1000000000 }; /* thirty years are for ever */

bool
http_parse_date(const char *value, int64_t *seconds)
{
	static const char *const forms[] = {
	    "%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		struct tm tm = {0};
		const char *end = strptime(value, forms[i], &tm);

		if (end != NULL && *end == '\0') {
			*seconds = timegm(&tm);
			return true;
		}
	}
	return false;
}

int64_t
http_parse_retry_after(const char *value, int64_t now)
{
	size_t digits = strspn(value, "0123456789");
	int64_t n = 0;

	if (digits > 0 && value[digits] == '\0') {
		for (const char *p = value; *p != '\0' && n < SECONDS_MAX; p++)
			n = n * 10 + (*p - '0');
		return n < SECONDS_MAX ? n : SECONDS_MAX;
	}
	if (!http_parse_date(value, &n))
		return -1;
	return n > now ? n - now : 0;
}
