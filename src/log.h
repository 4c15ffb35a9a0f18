/* Log lines with level and role, to standard error or a file. Knows nothing of requests. */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>

enum log_level { LOG_L_ERROR, LOG_L_WARN, LOG_L_INFO, LOG_L_DEBUG, LOG_L_TRACE };

/* `role` is borrowed and must outlive the process ("master", "listener 0", "gc"). */
void log_set_role(const char *role);
void log_set_level(enum log_level level);
/* By its name ("warn"); LOG_L_INFO for NULL and what is none. */
enum log_level log_level_of(const char *name);
bool log_enabled(enum log_level level);

/* Sends lines to the end of the file `path` instead of standard error. False with errno. */
bool log_open_file(const char *path) __attribute__((warn_unused_result));
void log_to_stderr(void);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* An access line: gathered in memory, written by log_flush() or when 32 KiB are full. */
void log_access(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_flush(void);

/* The environment makes it impossible to go on: says so, exits 1. */
void fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
/* A bug of ours, or out of memory: says so, aborts. */
void panic(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
