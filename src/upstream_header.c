/* Reading an answer's head, line by line, in order. Interim answers (1xx) are skipped, trailers
 * ignored; limits are UPSTREAM_MAX_HEADERS fields and UPSTREAM_MAX_HEAD bytes. RFC 9110 section 5,
 * RFC 9112 section 5.
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "upstream_private.h"

enum { FIRST_TEXT = 1024, KEPT_TEXT = 4096 };

void
head_reset(struct head *h)
{
	h->state = HEAD_STATUS;
	h->status = 0;
	h->count = 0;
	buf_consume(&h->text, buf_len(&h->text));
	if (h->text.size > KEPT_TEXT)
		buf_free(&h->text);
}

void
head_free(struct head *h)
{
	head_reset(h);
	buf_free(&h->text);
}

static const char *
text_at(const struct head *h, uint32_t at)
{
	return (const char *)buf_data(&h->text) + at;
}

/* libcurl has already refused what is not "HTTP/<version> <three digits>". */
static enum head_step
take_status(struct head *h, const char *line, size_t n)
{
	const char *space = memchr(line, ' ', n);
	int status = 0;

	if (n < 5 || memcmp(line, "HTTP/", 5) != 0 || space == NULL)
		return HEAD_BAD;
	for (const char *p = space + 1; p < line + n && isdigit((unsigned char)*p); p++)
		status = status < 1000 ? status * 10 + (*p - '0') : status;
	if (status < 100 || status > 999)
		return HEAD_BAD;
	buf_room(&h->text, FIRST_TEXT);
	h->status = status;
	h->state = HEAD_FIELDS;
	return HEAD_MORE;
}

static enum head_step
take_end(struct head *h)
{
	if (h->status >= 200) {
		h->state = HEAD_ENDED;
		return HEAD_FINAL;
	}
	if (h->status == 101) /* nobody asked for another protocol */
		return HEAD_BAD;
	head_reset(h);
	return HEAD_MORE;
}

static uint32_t
put_text(struct head *h, const char *p, size_t n)
{
	uint32_t at = (uint32_t)buf_len(&h->text);

	buf_append(&h->text, p, n);
	buf_append(&h->text, "", 1);
	return at;
}

static void
trim(const char **p, size_t *n)
{
	while (*n > 0 && (**p == ' ' || **p == '\t')) {
		(*p)++;
		(*n)--;
	}
	while (*n > 0 && ((*p)[*n - 1] == ' ' || (*p)[*n - 1] == '\t'))
		(*n)--;
}

/* obs-fold: one more piece of the last value, joined by a space. */
static enum head_step
take_fold(struct head *h, const char *line, size_t n)
{
	if (h->count == 0)
		return HEAD_BAD;
	trim(&line, &n);
	if (buf_len(&h->text) + n + 1 > UPSTREAM_MAX_HEAD)
		return HEAD_BAD;
	buf_data(&h->text)[buf_len(&h->text) - 1] = ' ';
	put_text(h, line, n);
	return HEAD_MORE;
}

static bool
is_token(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)p[i]) &&
		    (p[i] == '\0' || strchr("!#$%&'*+-.^_`|~", p[i]) == NULL))
			return false;
	return n > 0;
}

/* A line whose name is no name could not be relayed: it is left out. */
static enum head_step
take_field(struct head *h, const char *line, size_t n)
{
	const char *colon = memchr(line, ':', n);
	const char *value = colon == NULL ? NULL : colon + 1;
	size_t name_n = colon == NULL ? 0 : (size_t)(colon - line);
	size_t value_n = colon == NULL ? 0 : n - name_n - 1;

	if (colon == NULL)
		return HEAD_MORE;
	trim(&line, &name_n);
	trim(&value, &value_n);
	if (!is_token(line, name_n))
		return HEAD_MORE;
	if (h->count == UPSTREAM_MAX_HEADERS || buf_len(&h->text) + n + 2 > UPSTREAM_MAX_HEAD)
		return HEAD_BAD;
	h->name_at[h->count] = put_text(h, line, name_n);
	h->value_at[h->count] = put_text(h, value, value_n);
	h->count++;
	return HEAD_MORE;
}

enum head_step
head_line(struct head *h, const char *line, size_t n)
{
	while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
		n--;
	if (h->state == HEAD_STATUS)
		return take_status(h, line, n);
	if (h->state == HEAD_ENDED) /* a trailer */
		return HEAD_MORE;
	if (n == 0)
		return take_end(h);
	if (line[0] == ' ' || line[0] == '\t')
		return take_fold(h, line, n);
	return take_field(h, line, n);
}

const char *
head_get(const struct head *h, const char *name)
{
	for (unsigned i = 0; i < h->count; i++)
		if (strcasecmp(text_at(h, h->name_at[i]), name) == 0)
			return text_at(h, h->value_at[i]);
	return NULL;
}

static bool
parse_length(const char *s, int64_t *length)
{
	int64_t n = 0;

	if (*s == '\0')
		return false;
	for (; *s != '\0'; s++) {
		if (!isdigit((unsigned char)*s) || n > (INT64_MAX - 9) / 10)
			return false;
		n = n * 10 + (*s - '0');
	}
	*length = n;
	return true;
}

/* Several equal lengths are one; Transfer-Encoding overrides (RFC 9112 section 6.3). */
bool
head_content_length(const struct head *h, int64_t *length)
{
	*length = -1;
	for (unsigned i = 0; i < h->count; i++) {
		int64_t n;

		if (strcasecmp(text_at(h, h->name_at[i]), "Content-Length") != 0)
			continue;
		if (!parse_length(text_at(h, h->value_at[i]), &n) || (*length >= 0 && n != *length))
			return false;
		*length = n;
	}
	if (head_get(h, "Transfer-Encoding") != NULL)
		*length = -1;
	return true;
}

const struct upstream_header *
head_fields(const struct head *h, struct arena *arena)
{
	struct upstream_header *fields = arena_alloc(arena, sizeof(*fields) * (h->count + 1));

	for (unsigned i = 0; fields != NULL && i < h->count; i++) {
		fields[i].name = text_at(h, h->name_at[i]);
		fields[i].value = text_at(h, h->value_at[i]);
	}
	return fields;
}

const char *
upstream_header(const struct upstream_answer *a, const char *name, unsigned nth)
{
	for (size_t i = 0; i < a->nheaders; i++)
		if (strcasecmp(a->headers[i].name, name) == 0 && nth-- == 0)
			return a->headers[i].value;
	return NULL;
}
