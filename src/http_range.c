/* Range requests and entity tags: Range (RFC 9110 section 14) and If-None-Match (13.1.2). */
#include <string.h>
#include <strings.h>

#include "http.h"

static const char *
skip_space(const char *p)
{
	return p + strspn(p, " \t");
}

/* Reads digits; a number too large for 64 bits is read as the largest. False when there are
 * none. */
static bool
read_number(const char **p, uint64_t *n)
{
	const char *start = *p;

	for (*n = 0; **p >= '0' && **p <= '9'; (*p)++)
		if (__builtin_mul_overflow(*n, 10, n) ||
		    __builtin_add_overflow(*n, (uint64_t)(**p - '0'), n)) {
			*n = UINT64_MAX;
			*p += strspn(*p, "0123456789");
			break;
		}
	return *p > start;
}

static enum http_range
last_bytes(uint64_t count, uint64_t size, uint64_t *first, uint64_t *last)
{
	if (count == 0)
		return HTTP_RANGE_BEYOND;
	*first = count < size ? size - count : 0;
	*last = size - 1;
	return HTTP_RANGE_ONE;
}

enum http_range
http_parse_range(const char *value, uint64_t size, uint64_t *first, uint64_t *last)
{
	const char *p = value;
	bool has_first, has_last;
	uint64_t from, to;

	if (size == 0 || p == NULL || strncasecmp(p, "bytes=", 6) != 0)
		return HTTP_RANGE_NONE;
	p = skip_space(p + 6);
	has_first = read_number(&p, &from);
	if (*p++ != '-')
		return HTTP_RANGE_NONE;
	has_last = read_number(&p, &to);
	if (*skip_space(p) != '\0' || (!has_first && !has_last))
		return HTTP_RANGE_NONE;
	if (!has_first)
		return last_bytes(to, size, first, last);
	if (from >= size || (has_last && to < from))
		return HTTP_RANGE_BEYOND;
	*first = from;
	*last = has_last && to < size ? to : size - 1;
	return HTTP_RANGE_ONE;
}

/* Reads one entity tag of a list, without its W/. Returns its quoted part, *len bytes, or NULL:
 * this is none. */
static const char *
read_tag(const char **p, size_t *len)
{
	const char *tag, *end;

	if (strncmp(*p, "W/", 2) == 0)
		*p += 2;
	tag = *p;
	if (*tag != '"' || (end = strchr(tag + 1, '"')) == NULL)
		return NULL;
	*len = (size_t)(end + 1 - tag);
	*p = end + 1;
	return tag;
}

bool
http_etag_matches(const char *value, const char *etag)
{
	const char *p = value, *tag;
	size_t len;

	if (p == NULL)
		return false;
	p = skip_space(p);
	if (*p == '*')
		return *skip_space(p + 1) == '\0';
	for (;;) {
		p += strspn(p, " \t,");
		tag = read_tag(&p, &len);
		if (tag == NULL)
			return false;
		if (strlen(etag) == len && memcmp(tag, etag, len) == 0)
			return true;
	}
}
