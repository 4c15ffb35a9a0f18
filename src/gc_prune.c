/* A step of the pass: names of objects that are gone or that nobody asks for any more, and proofs of
 * objects that are not here. */
#include "clock.h"
#include "gc_private.h"
#include "index.h"

void
gc_prune_begin(struct gc *g)
{
	g->prune = index_prune_new();
}

enum gc_bite
gc_prune(struct gc *g)
{
	unsigned removed;
	enum index_result result = index_prune(g->ix, g->prune, clock_wall(), &removed);

	g->pass.forgotten += removed;
	return result == INDEX_OK ? GC_MORE : GC_DONE;
}

void
gc_prune_end(struct gc *g)
{
	index_prune_free(&g->prune);
}
