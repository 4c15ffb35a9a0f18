/* The memory of registries that answer HEAD badly (WIRE.md 6.1): those are asked by GET at once for
 * a while. Bounded; the oldest entry makes room. Values in, values out: the caller says what time
 * it is.
 */
#ifndef CHECK_QUIRK_H
#define CHECK_QUIRK_H

#include <stdbool.h>
#include <stdint.h>

enum { QUIRK_MAX = 64, QUIRK_MS = 600000 };

/* An all-zero struct is an empty one. */
struct quirks {
	struct {
		char *upstream; /* scheme://host; NULL: free */
		bool blob;
		uint64_t until; /* clock_ms */
	} entry[QUIRK_MAX];
};

/* HEAD said no and GET said yes, at `now` (milliseconds). The name is copied. */
void quirks_note(struct quirks *q, const char *upstream, bool blob, uint64_t now);
/* Is this upstream to be asked by GET at `now`? */
bool quirks_has(const struct quirks *q, const char *upstream, bool blob, uint64_t now);
void quirks_free(struct quirks *q);

#endif
