/* Levels, and what is said too often. How a line looks is log_format.c's, where it goes log_out.c's. */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log_private.h"

enum { MESSAGES = 64 }; /* kinds of messages that are watched at a time */

static const char *role = "main";
static enum log_level level = LOG_L_INFO;
static bool json;

/* How often a kind of message, known by its format, came in this second. */
static struct message {
	const char *fmt;
	enum log_level level;
	time_t second;
	unsigned seen;
} messages[MESSAGES];

static const char *const level_names[] = {"error", "warn", "info", "debug", "trace"};

void
log_set_role(const char *r)
{
	role = r;
}

void
log_set_level(enum log_level l)
{
	level = l;
}

enum log_level
log_level_of(const char *name)
{
	for (int l = LOG_L_ERROR; l <= LOG_L_TRACE; l++)
		if (name != NULL && strcmp(name, level_names[l]) == 0)
			return (enum log_level)l;
	return LOG_L_INFO;
}

bool
log_enabled(enum log_level l)
{
	return l <= level;
}

void
log_set_json(bool yes)
{
	json = yes;
}

/* --- messages -------------------------------------------------------------------------------- */

static void
say(enum log_level l, const char *word, const char *message)
{
	char line[LOG_LINE_MAX];

	log_out_line(l, line, log_format_message(line, json, word, role, message));
}

static void
say_left_out(struct message *m)
{
	char text[256];

	if (m->seen <= LOG_REPEATS)
		return;
	snprintf(text, sizeof(text), "%u more like it in that second: %.150s", m->seen - LOG_REPEATS,
	    m->fmt);
	say(m->level, level_names[m->level], text);
}

/* Formats are literals: one address, one kind. Debug and trace are for who wants all. */
static bool
is_too_often(enum log_level l, const char *fmt)
{
	struct message *m = &messages[(uintptr_t)fmt / sizeof(void *) % MESSAGES];
	time_t now = time(NULL);

	if (l > LOG_L_INFO)
		return false;
	if (m->fmt != fmt || m->second != now) {
		if (m->fmt != NULL)
			say_left_out(m);
		*m = (struct message){fmt, l, now, 0};
	}
	return ++m->seen > LOG_REPEATS;
}

static void
emit(enum log_level l, const char *word, const char *fmt, va_list ap)
{
	char message[LOG_LINE_MAX];

	vsnprintf(message, sizeof(message), fmt, ap);
	say(l, word, message);
}

#define LEVEL_FUNCTION(name, l) \
	void name(const char *fmt, ...) \
	{ \
		int saved = errno; \
		va_list ap; \
\
		if (l > level || is_too_often(l, fmt)) \
			return; \
		errno = saved; /* for %m */ \
		va_start(ap, fmt); \
		emit(l, level_names[l], fmt, ap); \
		va_end(ap); \
		errno = saved; \
	}

LEVEL_FUNCTION(log_error, LOG_L_ERROR)
LEVEL_FUNCTION(log_warn, LOG_L_WARN)
LEVEL_FUNCTION(log_info, LOG_L_INFO)
LEVEL_FUNCTION(log_debug, LOG_L_DEBUG)
LEVEL_FUNCTION(log_trace, LOG_L_TRACE)

void
log_access(const struct log_field *fields, size_t n)
{
	char line[LOG_LINE_MAX];

	log_out_gather(line, log_format_access(line, json, role, fields, n));
}

/* Also the moment to say what was left out in a second that is over. */
void
log_flush(void)
{
	time_t now = time(NULL);

	for (struct message *m = messages; m < messages + MESSAGES; m++)
		if (m->fmt != NULL && m->second != now) {
			say_left_out(m);
			m->fmt = NULL;
		}
	log_out_flush();
}

void
fatal(const char *fmt, ...)
{
	va_list ap;

	log_flush();
	va_start(ap, fmt);
	emit(LOG_L_ERROR, "fatal", fmt, ap);
	va_end(ap);
	exit(1);
}

void
panic(const char *fmt, ...)
{
	va_list ap;

	log_flush();
	va_start(ap, fmt);
	emit(LOG_L_ERROR, "panic", fmt, ap);
	va_end(ap);
	abort();
}
