/* Ranges and entity tags: Range and Content-Range (RFC 9110 section 14), If-None-Match (13.1.2). */
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

/* What a range is of the object. */
enum sort { SORT_BAD, SORT_BEYOND, SORT_INSIDE };

static enum sort
last_bytes(uint64_t count, uint64_t size, struct http_span *s)
{
	if (count == 0)
		return SORT_BEYOND;
	s->first = count < size ? size - count : 0;
	s->end = size;
	return SORT_INSIDE;
}

static enum sort
read_range(const char **p, uint64_t size, struct http_span *s)
{
	uint64_t from, to;
	bool has_first = read_number(p, &from), has_last;

	if (**p != '-')
		return SORT_BAD;
	++*p;
	has_last = read_number(p, &to);
	if (!has_first && !has_last)
		return SORT_BAD;
	if (!has_first)
		return last_bytes(to, size, s);
	if (from >= size || (has_last && to < from))
		return SORT_BEYOND;
	s->first = from;
	s->end = has_last && to < size ? to + 1 : size;
	return SORT_INSIDE;
}

size_t
http_count_ranges(const char *value)
{
	size_t n = 1;

	for (; value != NULL && *value != '\0' && n < HTTP_MAX_RANGES; value++)
		n += *value == ',';
	return n;
}

/* The list after "bytes=". Empty members count for nothing (RFC 9110 section 5.6.1.2). False: it is
 * no list of ranges, or one of too many. */
static bool
read_list(const char *p, uint64_t size, struct http_span *spans, size_t *n, size_t *asked)
{
	for (;;) {
		p = skip_space(p);
		if (*p != ',' && *p != '\0') {
			struct http_span span;
			enum sort sort = read_range(&p, size, &span);

			if (sort == SORT_BAD || *asked == HTTP_MAX_RANGES)
				return false;
			if (sort == SORT_INSIDE)
				spans[*n] = span;
			++*asked;
			*n += sort == SORT_INSIDE;
			p = skip_space(p);
		}
		if (*p == '\0')
			return *asked > 0;
		if (*p++ != ',')
			return false;
	}
}

/* Many ranges of much are a way to have the same bytes sent again and again (RFC 9110 section
 * 17.15). */
static bool
is_too_much(const struct http_span *spans, size_t n, uint64_t size)
{
	uint64_t sum = 0, most;

	if (__builtin_mul_overflow(size, 2, &most))
		most = UINT64_MAX;
	for (size_t i = 0; i < n; i++)
		if (__builtin_add_overflow(sum, spans[i].end - spans[i].first, &sum) || sum > most)
			return true;
	return false;
}

enum http_range
http_parse_ranges(const char *value, uint64_t size, struct http_span *spans, size_t *n)
{
	size_t asked = 0;

	*n = 0;
	if (size == 0 || value == NULL || strncasecmp(value, "bytes=", 6) != 0 ||
	    !read_list(value + 6, size, spans, n, &asked) || is_too_much(spans, *n, size))
		return HTTP_RANGE_NONE;
	if (*n == 0)
		return HTTP_RANGE_BEYOND;
	return asked == 1 ? HTTP_RANGE_ONE : HTTP_RANGE_MANY;
}

bool
http_is_range(const char *value)
{
	struct http_span spans[HTTP_MAX_RANGES];
	size_t n = 0, asked = 0;

	return value != NULL && strncasecmp(value, "bytes=", 6) == 0 &&
	    read_list(value + 6, INT64_MAX, spans, &n, &asked);
}

static bool
read_size(const char *p, int64_t *size)
{
	uint64_t n;

	*size = -1;
	if (*p == '*')
		return *skip_space(p + 1) == '\0';
	if (!read_number(&p, &n) || n > INT64_MAX || *skip_space(p) != '\0')
		return false;
	*size = (int64_t)n;
	return true;
}

bool
http_parse_content_range(const char *value, uint64_t *first, uint64_t *last, int64_t *size)
{
	const char *p = value;

	*size = -1;
	if (p == NULL || strncasecmp(p, "bytes ", 6) != 0)
		return false;
	p = skip_space(p + 6);
	if (!read_number(&p, first) || *p++ != '-' || !read_number(&p, last) || *p++ != '/' ||
	    !read_size(p, size))
		return false;
	return *first <= *last && (*size < 0 || *last < (uint64_t)*size);
}

int64_t
http_parse_unsatisfied(const char *value)
{
	int64_t size;

	if (value == NULL || strncasecmp(value, "bytes */", 8) != 0 || !read_size(value + 8, &size))
		return -1;
	return size;
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
