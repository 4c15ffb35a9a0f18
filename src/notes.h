/* What a registry adds to a success for its client: warnings and what is left of a quota (WIRE.md 4.3),
 * copied from an answer that is valid during a callback only. */
#ifndef NOTES_H
#define NOTES_H

#include <stdbool.h>

struct buf;
struct notes;
struct upstream_answer;

/* Is a field of this name such a note? */
bool notes_wants(const char *name);
/* The notes of this answer take the place of *n, which may be NULL before and after: an answer
 * without any leaves none. Owned by the caller. */
void notes_take(struct notes **n, const struct upstream_answer *answer);
/* Writes them as fields of a head; nothing when `n` is NULL. */
void notes_write(const struct notes *n, struct buf *out);
/* *n becomes NULL. */
void notes_free(struct notes **n);

#endif
