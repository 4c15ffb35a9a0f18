/* The mistakes of one configuration file: gathered in any order, written sorted by position. */
#ifndef CONF_ERROR_H
#define CONF_ERROR_H

#include <stddef.h>
#include <stdio.h>

/* A file full of mistakes is not written out in full: this many are, then their number. */
enum { CONF_ERRORS_MAX = 1000 };

/* A place in the file: lines and columns (in characters) count from 1. */
struct conf_mark {
	unsigned line, column;
};

struct conf_error {
	struct conf_mark at;
	size_t order; /* as found: what came first is written first at the same place */
	char *text;
};

/* An all-zero struct conf_errors has none. */
struct conf_errors {
	struct conf_error *list;
	size_t n;      /* in the list */
	size_t beyond; /* seen after the list was full */
};

/* Notes "what is wrong, what was expected". */
void conf_error(struct conf_errors *e, struct conf_mark at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* For "%.*s": how many bytes of `s` a message shows, at most 64, whole UTF-8 characters. */
int conf_shown(const char *s);
size_t conf_errors_count(const struct conf_errors *e);
/* Writes "name:line:column: text" a mistake, in the order of the file; control characters as '?'.
 */
void conf_errors_write(struct conf_errors *e, const char *name, FILE *out);
/* Gives the memory back; there are none then. */
void conf_errors_free(struct conf_errors *e);

#endif
