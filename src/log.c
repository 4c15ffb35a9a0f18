/* Log lines with level and role. One write(2) a line, so that lines of several processes do not
 * mix; access lines are gathered and written in blocks of whole lines. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096, ACCESS_BLOCK = 32768 };

static const char *role = "main";
static enum log_level level = LOG_L_INFO;
static int out = STDERR_FILENO;
static char access_block[ACCESS_BLOCK];
static size_t access_used;

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
	static const char *const names[] = {"error", "warn", "info", "debug", "trace"};

	for (int l = LOG_L_ERROR; l <= LOG_L_TRACE; l++)
		if (name != NULL && strcmp(name, names[l]) == 0)
			return (enum log_level)l;
	return LOG_L_INFO;
}

bool
log_enabled(enum log_level l)
{
	return l <= level;
}

bool
log_open_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);

	if (fd < 0)
		return false;
	if (out != STDERR_FILENO)
		close(out);
	out = fd;
	return true;
}

void
log_to_stderr(void)
{
	if (out != STDERR_FILENO)
		close(out);
	out = STDERR_FILENO;
}

static void
write_all(const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(out, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* there is nowhere left to complain to */
		data += n;
		len -= (size_t)n;
	}
}

/* The time of day is formatted once a second only. */
static size_t
stamp(char *line, size_t size)
{
	static time_t last;
	static char text[32];
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (ts.tv_sec != last) {
		struct tm tm;

		last = ts.tv_sec;
		localtime_r(&last, &tm);
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	}
	return (size_t)snprintf(line, size, "%s.%03ld ", text, ts.tv_nsec / 1000000);
}

static size_t
format_line(char *line, size_t size, const char *word, const char *fmt, va_list ap)
{
	size_t n = stamp(line, size);
	int more;

	n += (size_t)snprintf(line + n, size - n, "%s %s: ", word, role);
	more = vsnprintf(line + n, size - n, fmt, ap);
	if (more > 0)
		n += (size_t)more;
	if (n > size - 1)
		n = size - 1;
	for (size_t i = 0; i < n; i++) /* what comes from the wire never starts a line of its own */
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = ' ';
	line[n++] = '\n';
	return n;
}

static void
emit(enum log_level l, const char *word, const char *fmt, va_list ap)
{
	char line[LINE_MAX_BYTES];
	int saved = errno;

	if (l <= level)
		write_all(line, format_line(line, sizeof(line), word, fmt, ap));
	errno = saved;
}

#define LEVEL_FUNCTION(name, l, word) \
	void name(const char *fmt, ...) \
	{ \
		va_list ap; \
		va_start(ap, fmt); \
		emit(l, word, fmt, ap); \
		va_end(ap); \
	}

LEVEL_FUNCTION(log_error, LOG_L_ERROR, "error")
LEVEL_FUNCTION(log_warn, LOG_L_WARN, "warn")
LEVEL_FUNCTION(log_info, LOG_L_INFO, "info")
LEVEL_FUNCTION(log_debug, LOG_L_DEBUG, "debug")
LEVEL_FUNCTION(log_trace, LOG_L_TRACE, "trace")

void
log_access(const char *fmt, ...)
{
	va_list ap;

	if (access_used > ACCESS_BLOCK - LINE_MAX_BYTES)
		log_flush();
	va_start(ap, fmt);
	access_used += format_line(access_block + access_used, LINE_MAX_BYTES, "access", fmt, ap);
	va_end(ap);
}

void
log_flush(void)
{
	write_all(access_block, access_used);
	access_used = 0;
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
