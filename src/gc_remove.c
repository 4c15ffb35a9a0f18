/* Removing objects, in batches: the records in one transaction, the files after it. A death in
 * between leaves files without records, which the next pass adopts or removes. What a listener
 * fills, or has used since it was chosen, stays. */
#include <errno.h>
#include <string.h>

#include "child.h"
#include "gc_private.h"
#include "index.h"
#include "log.h"
#include "shm_disk.h"
#include "store.h"
#include "store_scan.h"

struct removal {
	struct gc *gc;
	const struct gc_victim *victims;
	bool gone[GC_BATCH];
};

static bool
still_the_same(const struct gc *g, const struct index_entry *e, const struct gc_victim *v)
{
	return e->has_object && !e->has_lease && e->object.fetched_at == v->fetched_at &&
	    (v->even_if_used || index_last_used(g->ix, &e->object) == v->last_used);
}

static void
decide(struct index_entry *e, unsigned n, void *arg)
{
	struct removal *r = arg;

	r->gone[n] = still_the_same(r->gc, e, &r->victims[n]);
	if (r->gone[n])
		e->has_object = false;
}

/* A listener may have missed the record already and be hashing the file, to adopt it: then it is
 * left to it. */
static bool
is_being_adopted(struct gc *g, const struct digest *d)
{
	struct index_entry e;

	return index_look(g->ix, d, &e) == INDEX_OK && (e.has_lease || e.has_object);
}

static uint64_t
remove_file(struct gc *g, const struct gc_victim *v, unsigned *failed)
{
	uint64_t bytes;

	if (is_being_adopted(g, &v->digest) || !store_object_disk(g->store, &v->digest, &bytes))
		return 0;
	if (!store_remove_object(g->store, &v->digest)) {
		log_warn("store: cannot remove an object: %s", strerror(errno));
		++*failed;
		return 0;
	}
	shm_disk_remove(g->start->shm, &v->digest, v->kind, bytes);
	return bytes;
}

bool
gc_remove(struct gc *g, const struct gc_victim *victims, unsigned n, struct gc_removed *sum)
{
	struct removal r = {.gc = g, .victims = victims};
	const struct digest *digests[GC_BATCH] = {NULL};

	*sum = (struct gc_removed){0};
	for (unsigned i = 0; i < n; i++)
		digests[i] = &victims[i].digest;
	if (index_update_many(g->ix, digests, n, decide, &r) != INDEX_OK)
		return false;
	for (unsigned i = 0; i < n; i++) {
		if (!r.gone[i])
			continue;
		sum->objects++;
		sum->last_used = victims[i].last_used;
		sum->bytes += remove_file(g, &victims[i], &sum->failed);
	}
	return true;
}
