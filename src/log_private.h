/* What log.c (levels, repeats), log_format.c (text and JSON) and log_out.c (where to) share. */
#ifndef LOG_PRIVATE_H
#define LOG_PRIVATE_H

#include "log.h"

enum { LOG_LINE_MAX = 4096 }; /* bytes, with the newline; longer ones are cut */

/* --- log_format.c */
/* Each writes one line, ended by a newline, of at most LOG_LINE_MAX bytes; how many. No byte of it is a
 * control: what comes from the wire never starts a line of its own. */
size_t log_format_message(char *line, bool json, const char *word, const char *role, const char *message);
size_t log_format_access(
    char *line, bool json, const char *role, const struct log_field *fields, size_t n);

/* --- log_out.c */
/* A whole line, now. `level` is for syslog. */
void log_out_line(enum log_level level, const char *line, size_t n);
/* Gathered until log_out_flush(). */
void log_out_gather(const char *line, size_t n);
void log_out_flush(void);

#endif
