/* The wall clock may be set while the cache runs: by NTP after a start without it, by a virtual machine that
 * was paused, by hand. What was used ten minutes ago was used ten minutes ago all the same: or a clock set
 * forward makes everything expire (maxUnused), and one set back makes the newest objects the coldest. */
#include <stdlib.h>

#include "clock.h"
#include "gc_private.h"
#include "index.h"
#include "log.h"

enum { STEP_MS = 5000 /* less is no harm */ };

static void
follow(struct gc *g, int64_t by_ms, int64_t now_ms, int64_t young_ms)
{
	log_warn("the clock was set %s by %lld s: the times when objects were used go with it",
	    by_ms > 0 ? "forward" : "back", (long long)(llabs(by_ms) / 1000));
	index_shift_usage(g->ix, by_ms, now_ms, young_ms);
	if (g->expire != NULL)
		gc_expire_shift(g, by_ms);
	g->evict.walking = false; /* what was chosen is not known by its times any more */
	g->evict.n = g->evict.next = 0;
}

void
gc_follow_clock(struct gc *g)
{
	int64_t now_ms = clock_wall_ms(), by_ms;
	uint64_t looked_ms = g->clock_looked_ms;

	g->clock_looked_ms = clock_ms();
	by_ms = now_ms - (int64_t)g->clock_looked_ms - g->clock_offset;
	g->clock_offset += by_ms;
	if (looked_ms != 0 && llabs(by_ms) >= STEP_MS)
		follow(g, by_ms, now_ms, (int64_t)(g->clock_looked_ms - looked_ms));
}
