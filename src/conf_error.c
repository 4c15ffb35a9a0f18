/* Gathers the mistakes of a configuration file and writes them in the order of the file. */
#include "conf_error.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "xalloc.h"

void
conf_error(struct conf_errors *e, struct conf_mark at, const char *fmt, ...)
{
	va_list ap;
	char *text;

	if (e->n == CONF_ERRORS_MAX) {
		e->beyond++;
		return;
	}
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		panic("out of memory for a message");
	va_end(ap);
	if (e->list == NULL)
		e->list = xcalloc(CONF_ERRORS_MAX, sizeof(*e->list));
	e->list[e->n] = (struct conf_error){.at = at, .order = e->n, .text = text};
	e->n++;
}

int
conf_shown(const char *s)
{
	int n = (int)strnlen(s, 64);

	while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80)
		n--;
	return n;
}

size_t
conf_errors_count(const struct conf_errors *e)
{
	return e->n + e->beyond;
}

static int
by_position(const void *va, const void *vb)
{
	const struct conf_error *a = va, *b = vb;

	if (a->at.line != b->at.line)
		return a->at.line < b->at.line ? -1 : 1;
	if (a->at.column != b->at.column)
		return a->at.column < b->at.column ? -1 : 1;
	return a->order < b->order ? -1 : 1;
}

/* What a file holds must not reach a terminal as control characters (C0, DEL, and C1, which is C2
 * 80 to C2 9F in UTF-8). */
static void
put_clean(const char *s, FILE *out)
{
	for (const unsigned char *p = (const unsigned char *)s; *p != '\0'; p++) {
		if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) {
			fputc('?', out);
			p++;
		} else {
			fputc(*p < 0x20 || *p == 0x7f ? '?' : *p, out);
		}
	}
}

void
conf_errors_write(struct conf_errors *e, const char *name, FILE *out)
{
	if (e->n == 0)
		return;
	qsort(e->list, e->n, sizeof(*e->list), by_position);
	for (size_t i = 0; i < e->n; i++) {
		fprintf(out, "%s:%u:%u: ", name, e->list[i].at.line, e->list[i].at.column);
		put_clean(e->list[i].text, out);
		fputc('\n', out);
	}
	if (e->beyond > 0)
		fprintf(out, "%s: %zu more mistakes are not shown\n", name, e->beyond);
}

void
conf_errors_free(struct conf_errors *e)
{
	for (size_t i = 0; i < e->n; i++)
		free(e->list[i].text);
	free(e->list);
	*e = (struct conf_errors){0};
}
