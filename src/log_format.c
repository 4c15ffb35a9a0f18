/* Lines as text and as JSON (RFC 8259). */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "log_private.h"

/* A line under way; what does not fit is left out, but for its end. */
struct line {
	char *at;
	size_t used, size;
};

enum { END_ROOM = 8 }; /* for what closes a line that was cut */

static struct line
line_begin(char *at)
{
	return (struct line){at, 0, LOG_LINE_MAX - END_ROOM};
}

static void
put(struct line *l, const char *p, size_t n)
{
	if (n > l->size - l->used)
		n = l->size - l->used;
	memcpy(l->at + l->used, p, n);
	l->used += n;
}

static void
put_string(struct line *l, const char *s)
{
	put(l, s, strlen(s));
}

static void
put_number(struct line *l, uint64_t n)
{
	char text[24];

	put(l, text, (size_t)snprintf(text, sizeof(text), "%" PRIu64, n));
}

/* The time of day is formatted once a second only. */
static void
put_stamp(struct line *l, bool zone)
{
	static time_t last;
	static char text[32], offset[8];
	struct timespec ts;
	char ms[24];

	clock_gettime(CLOCK_REALTIME, &ts);
	if (ts.tv_sec != last) {
		struct tm tm;

		last = ts.tv_sec;
		localtime_r(&last, &tm);
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
		strftime(offset, sizeof(offset), "%z", &tm);
	}
	put_string(l, text);
	snprintf(ms, sizeof(ms), ".%03ld", ts.tv_nsec / 1000000);
	put_string(l, ms);
	if (zone)
		put_string(l, offset);
}

static bool
is_control(char c)
{
	return (unsigned char)c < 0x20 || c == 0x7f;
}

static void
put_text(struct line *l, const char *s)
{
	for (; *s != '\0'; s++) {
		char c = is_control(*s) ? ' ' : *s;

		put(l, &c, 1);
	}
}

/* How many bytes the well-formed UTF-8 sequence at `s` has (RFC 3629); 0: it is none. */
static size_t
utf8_length(const unsigned char *s)
{
	static const struct {
		unsigned char first, last, low, high;
		size_t n;
	} forms[] = {
	    {0x00, 0x7f, 0, 0, 1},
	    {0xc2, 0xdf, 0x80, 0xbf, 2},
	    {0xe0, 0xe0, 0xa0, 0xbf, 3},
	    {0xe1, 0xec, 0x80, 0xbf, 3},
	    {0xed, 0xed, 0x80, 0x9f, 3},
	    {0xee, 0xef, 0x80, 0xbf, 3},
	    {0xf0, 0xf0, 0x90, 0xbf, 4},
	    {0xf1, 0xf3, 0x80, 0xbf, 4},
	    {0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (s[0] < forms[i].first || s[0] > forms[i].last)
			continue;
		if (forms[i].n > 1 && (s[1] < forms[i].low || s[1] > forms[i].high))
			return 0;
		for (size_t k = 2; k < forms[i].n; k++)
			if (s[k] < 0x80 || s[k] > 0xbf)
				return 0;
		return forms[i].n;
	}
	return 0;
}

/* A JSON string; bytes that are no UTF-8 become U+FFFD. */
static void
put_json(struct line *l, const char *s)
{
	char escape[8];

	put(l, "\"", 1);
	while (*s != '\0' && l->used + 8 < l->size) {
		size_t n = utf8_length((const unsigned char *)s);

		if (n == 0)
			put_string(l, "\\ufffd");
		else if (*s == '"' || *s == '\\')
			put(l, escape, (size_t)snprintf(escape, sizeof(escape), "\\%c", *s));
		else if (is_control(*s))
			put(l, escape,
			    (size_t)snprintf(escape, sizeof(escape), "\\u%04x", (unsigned char)*s));
		else
			put(l, s, n);
		s += n == 0 ? 1 : n;
	}
	put(l, "\"", 1);
}

static size_t
line_end(struct line *l, const char *end)
{
	l->size += END_ROOM;
	put_string(l, end);
	return l->used;
}

static void
begin_json(struct line *l, const char *word, const char *role)
{
	put_string(l, "{\"time\":\"");
	put_stamp(l, true);
	put_string(l, "\",\"level\":");
	put_json(l, word);
	put_string(l, ",\"role\":");
	put_json(l, role);
}

static void
begin_text(struct line *l, const char *word, const char *role)
{
	put_stamp(l, false);
	put(l, " ", 1);
	put_string(l, word);
	put(l, " ", 1);
	put_string(l, role);
	put(l, ": ", 2);
}

size_t
log_format_message(char *line, bool json, const char *word, const char *role, const char *message)
{
	struct line l = line_begin(line);

	if (!json) {
		begin_text(&l, word, role);
		put_text(&l, message);
		return line_end(&l, "\n");
	}
	begin_json(&l, word, role);
	put_string(&l, ",\"message\":");
	put_json(&l, message);
	return line_end(&l, "}\n");
}

static void
put_field(struct line *l, bool json, const struct log_field *f)
{
	if (json)
		put_json(l, f->name);
	else
		put_string(l, f->name);
	put(l, json ? ":" : "=", 1);
	if (f->text == NULL)
		put_number(l, f->number);
	else if (json)
		put_json(l, f->text);
	else
		put_text(l, *f->text != '\0' ? f->text : "-");
}

size_t
log_format_access(
    char *line, bool json, const char *role, const struct log_field *fields, size_t n)
{
	struct line l = line_begin(line);

	if (json)
		begin_json(&l, "access", role);
	else
		begin_text(&l, "access", role);
	for (size_t i = 0; i < n; i++) {
		if (json && l.used + 64 > l.size)
			break; /* a field that is cut would be no JSON */
		if (json || i > 0)
			put(&l, json ? "," : " ", 1);
		put_field(&l, json, &fields[i]);
	}
	return line_end(&l, json ? "}\n" : "\n");
}
