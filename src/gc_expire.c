/* A step of the pass: objects that are older than maxAge, or were not used for maxUnused, are removed;
 * each limit is one for layers (every blob) and one for manifests. 0 is never. */
#include <stdlib.h>

#include "child.h"
#include "clock.h"
#include "conf.h"
#include "digest.h"
#include "gc_private.h"
#include "index.h"
#include "xalloc.h"

enum { BUCKETS = 256 };

enum reason { KEEP, TOO_OLD, UNUSED };

struct expired {
	struct gc_victim victim;
	enum reason reason;
};

struct gc_expire {
	unsigned bucket; /* the next one to look into */
	int64_t now_ms;
	struct expired *list; /* of the last one, by digest */
	size_t n, size, next;
};

static bool
passed(int64_t now_ms, int64_t then_ms, uint64_t limit_ms)
{
	return limit_ms > 0 && now_ms > then_ms && (uint64_t)(now_ms - then_ms) > limit_ms;
}

static enum reason
judge(const struct gc *g, const struct index_object *o)
{
	const struct conf *conf = g->start->conf;
	bool manifest = o->kind == OBJECT_MANIFEST;
	uint64_t age = manifest ? conf->gc.manifests.max_age : conf->gc.layers.max_age;
	uint64_t unused = manifest ? conf->gc.manifests.max_unused : conf->gc.layers.max_unused;

	if (passed(g->expire->now_ms, index_fetched_ms(o), age))
		return TOO_OLD;
	return passed(g->expire->now_ms, index_unused_since(g->ix, o), unused) ? UNUSED : KEEP;
}

static bool
look(const struct digest *d, const struct index_object *o, void *arg)
{
	struct gc *g = arg;
	struct gc_expire *e = g->expire;
	enum reason reason = judge(g, o);

	if (reason == KEEP)
		return true;
	if (e->n == e->size) {
		e->size = e->size == 0 ? 64 : 2 * e->size;
		e->list = xrealloc(e->list, e->size * sizeof(*e->list));
	}
	e->list[e->n++] = (struct expired){
	    {*d, o->kind == OBJECT_MANIFEST, reason == TOO_OLD, o->fetched_at,
		index_last_used(g->ix, o)},
	    reason};
	return true;
}

static bool
is_off(const struct conf *conf)
{
	return conf->gc.layers.max_age == 0 && conf->gc.layers.max_unused == 0 &&
	    conf->gc.manifests.max_age == 0 && conf->gc.manifests.max_unused == 0;
}

void
gc_expire_begin(struct gc *g)
{
	g->expire = xcalloc(1, sizeof(*g->expire));
	g->expire->now_ms = clock_wall_ms();
}

void
gc_expire_shift(struct gc *g, int64_t by_ms)
{
	g->expire->now_ms += by_ms;
}

void
gc_expire_end(struct gc *g)
{
	free(g->expire->list);
	free(g->expire);
	g->expire = NULL;
}

static enum gc_bite
look_into(struct gc *g)
{
	struct gc_expire *e = g->expire;

	e->n = e->next = 0;
	for (uint8_t algo = DIGEST_SHA256; algo <= DIGEST_SHA512; algo++)
		if (index_each_object_in(g->ix, algo, (uint8_t)e->bucket, look, g) == INDEX_ERROR)
			return GC_DONE;
	e->bucket++;
	return e->bucket < BUCKETS || e->n > 0 ? GC_MORE : GC_DONE;
}

/* A batch of one reason. */
static enum gc_bite
remove_some(struct gc *g)
{
	struct gc_expire *e = g->expire;
	struct gc_victim batch[GC_BATCH];
	enum reason reason = e->list[e->next].reason;
	struct gc_removed sum;
	unsigned n = 0;

	while (n < GC_BATCH && e->next < e->n && e->list[e->next].reason == reason)
		batch[n++] = e->list[e->next++].victim;
	if (!gc_remove(g, batch, n, &sum))
		return GC_DONE;
	shm_count(g->start->shm, g->start->number,
	    reason == TOO_OLD ? COUNT_EXPIRED_AGE : COUNT_EXPIRED_UNUSED, sum.objects);
	shm_count(g->start->shm, g->start->number, COUNT_BYTES_EXPIRED, sum.bytes);
	g->pass.expired += sum.objects;
	return sum.failed > 0 || (e->next == e->n && e->bucket == BUCKETS) ? GC_DONE : GC_MORE;
}

enum gc_bite
gc_expire(struct gc *g)
{
	if (is_off(g->start->conf))
		return GC_DONE;
	return g->expire->next < g->expire->n ? remove_some(g) : look_into(g);
}
