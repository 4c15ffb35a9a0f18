/* One arena a request: parsed strings that all die together. No I/O buffers in it.
 * Overflow is sticky: allocations beyond the limit return NULL-safe scratch and arena_failed()
 * says so. */
#ifndef ARENA_H
#define ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct arena_block;

struct arena {
	struct arena_block *blocks; /* newest first */
	size_t used;                /* bytes given out */
	size_t limit;               /* bytes that may be given out */
	bool failed;
};

/* limit in bytes. The first block is taken on first use: an idle arena owns nothing. */
void arena_init(struct arena *a, size_t limit);
/* Gives all memory back; the arena may be used again. */
void arena_reset(struct arena *a);
bool arena_failed(const struct arena *a);

/* Memory that lives until arena_reset(); zeroed. NULL once the limit was passed (sticky). */
void *arena_alloc(struct arena *a, size_t size);
/* Copies; "" once the limit was passed, so that a caller may test once at the end. */
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_strdup(struct arena *a, const char *s);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
