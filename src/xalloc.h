/* Allocation that does not fail: out of memory aborts, and the master restarts the child. */
#ifndef XALLOC_H
#define XALLOC_H

#include <stddef.h>

/* Each returns new memory owned by the caller (free()); size 0 is served as 1. */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
