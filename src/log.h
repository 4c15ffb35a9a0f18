/* Log lines with level and role, to standard error, a file or syslog, as text or as JSON lines. Knows
 * nothing of requests. A message that repeats is not written more than LOG_REPEATS times a second: what
 * was left out is counted, and said. */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_L_ERROR, LOG_L_WARN, LOG_L_INFO, LOG_L_DEBUG, LOG_L_TRACE };

enum { LOG_REPEATS = 20 };

/* `role` is borrowed and must outlive the process ("master", "listener 0", "gc"). */
void log_set_role(const char *role);
void log_set_level(enum log_level level);
/* By its name ("warn"); LOG_L_INFO for NULL and what is none. */
enum log_level log_level_of(const char *name);
bool log_enabled(enum log_level level);
void log_set_json(bool json);

/* Where lines go from now on. Sends them to the end of the file `path`. False with errno: they go where
 * they went before. */
bool log_open_file(const char *path) __attribute__((warn_unused_result));
/* To the end of the file `fd`, which it takes. */
void log_to_file(int fd);
/* `facility` by its name: "daemon", "user", "local0" … "local7"; false for another. */
bool log_open_syslog(const char *facility) __attribute__((warn_unused_result));
void log_to_stderr(void);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* One field of an access line. Borrowed. */
struct log_field {
	const char *name;
	const char *text; /* NULL: the number */
	uint64_t number;
};
/* An access line: gathered in memory, written by log_flush() or when 32 KiB are full. As text it is
 * name=value …, with "-" for an empty value; as JSON, an object. */
void log_access(const struct log_field *fields, size_t n);
void log_flush(void);

/* The environment makes it impossible to go on: says so, exits 1. */
void fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
/* A bug of ours, or out of memory: says so, aborts. */
void panic(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
