/* The usage array: when each object was last used, in milliseconds since 1970, 64 bits an object, in
 * a file that every process maps. Which object has which slot is the index's. No LMDB here. */
#ifndef INDEX_USAGE_H
#define INDEX_USAGE_H

#include <stdbool.h>
#include <stdint.h>

struct index_usage;

/* Opens or makes the file `usage` in the folder `dir`. NULL: said why in the log. Owned by the
 * caller. */
struct index_usage *index_usage_open(const char *dir);
void index_usage_close(struct index_usage **u);

/* Makes the file long enough for `slot`, with blocks behind it: a write to a mapped hole on a
 * full disk would be SIGBUS. Called by one process at a time (the index's writer). False with
 * errno. */
bool index_usage_reserve(struct index_usage *u, uint32_t slot) __attribute__((warn_unused_result));

/* Nothing happens, and 0 is read, for a slot beyond the end of the file. */
void index_usage_set(struct index_usage *u, uint32_t slot, int64_t when_ms);
int64_t index_usage_get(struct index_usage *u, uint32_t slot);

/* Adds `by_ms` to what was set before the clock was set by so much to `now_ms`: index_shift_usage(). */
void index_usage_shift(struct index_usage *u, int64_t by_ms, int64_t now_ms, int64_t young_ms);

/* Another descriptor of the file, the caller's to close. -1 with errno. */
int index_usage_dup(const struct index_usage *u);

#endif
