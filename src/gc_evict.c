/* Eviction: when the disk limits are passed, or a fill waits for room, the objects unused for longest
 * go until use is down to 95 % of the limit.
 *
 * Which those are is found by a walk over the index that keeps the coldest few thousand in a heap
 * (its root is the warmest of them). They are used up from the coldest on, however long that takes:
 * what was used since it was chosen is passed over, and what is new is warmer than all of them. Only
 * when none is left there is another walk. */
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "clock.h"
#include "digest.h"
#include "gc_private.h"
#include "index.h"
#include "log.h"
#include "shm_disk.h"
#include "store_scan.h"
#include "xalloc.h"

enum {
	CHOSEN_MIN = 4096, /* how many are kept, at least … */
	CHOSEN_MAX = 65536,
	CHOSEN_PART = 16, /* … or this part of all, */
	EVICT_MS = 1000,
	WAITED_FOR_MS = 50, /* while a leader lacks room: others' fills end, and become objects */
	FAILED_MS = 10000,
	LOG_MS = 10000,
	FREE_SOON_MS = 1000, /* a leader waits for twice as long */
	BUCKETS = 256,
};

/* --- choosing -------------------------------------------------------------------------------- */

static void
swap(struct gc_victim *a, struct gc_victim *b)
{
	struct gc_victim t = *a;

	*a = *b;
	*b = t;
}

static void
sift_up(struct gc_victim *heap, size_t i)
{
	for (; i > 0 && heap[i].last_used > heap[(i - 1) / 2].last_used; i = (i - 1) / 2)
		swap(&heap[i], &heap[(i - 1) / 2]);
}

static void
sift_down(struct gc_victim *heap, size_t n)
{
	size_t i = 0, child;

	while ((child = 2 * i + 1) < n) {
		if (child + 1 < n && heap[child + 1].last_used > heap[child].last_used)
			child++;
		if (heap[child].last_used <= heap[i].last_used)
			return;
		swap(&heap[i], &heap[child]);
		i = child;
	}
}

static bool
choose(const struct digest *d, const struct index_object *o, void *arg)
{
	struct gc *g = arg;
	struct gc_evict *ev = &g->evict;
	int64_t used = index_last_used(g->ix, o);
	struct gc_victim v = {*d, o->kind == OBJECT_MANIFEST, false, o->fetched_at, used};

	if (ev->n < ev->size) {
		ev->chosen[ev->n] = v;
		sift_up(ev->chosen, ev->n++);
	} else if (used < ev->chosen[0].last_used) {
		ev->chosen[0] = v;
		sift_down(ev->chosen, ev->n);
	}
	return true;
}

static int
colder_first(const void *a, const void *b)
{
	const struct gc_victim *x = a, *y = b;

	return x->last_used < y->last_used ? -1 : x->last_used > y->last_used;
}

static void
begin_walk(struct gc *g)
{
	struct gc_evict *ev = &g->evict;
	struct shm_disk_use use;

	shm_disk_use(g->start->shm, &use);
	ev->size = (use.objects[0] + use.objects[1]) / CHOSEN_PART;
	if (ev->size < CHOSEN_MIN)
		ev->size = CHOSEN_MIN;
	if (ev->size > CHOSEN_MAX)
		ev->size = CHOSEN_MAX;
	free(ev->chosen);
	ev->chosen = xcalloc(ev->size, sizeof(*ev->chosen));
	ev->n = ev->next = 0;
	ev->bucket = 0;
	ev->walking = true;
}

/* A bite is a 256th of the index. */
static void
walk(struct gc *g)
{
	struct gc_evict *ev = &g->evict;

	for (uint8_t algo = DIGEST_SHA256; algo <= DIGEST_SHA512; algo++)
		if (index_each_object_in(g->ix, algo, (uint8_t)ev->bucket, choose, g) == INDEX_ERROR)
			break;
	if (++ev->bucket < BUCKETS)
		return;
	ev->walking = false;
	qsort(ev->chosen, ev->n, sizeof(*ev->chosen), colder_first);
}

void
gc_evict_free(struct gc *g)
{
	free(g->evict.chosen);
	g->evict = (struct gc_evict){0};
}

/* --- evicting -------------------------------------------------------------------------------- */

static void
note_evicted(struct gc *g, const struct gc_removed *sum)
{
	struct shm *shm = g->start->shm;
	int64_t age = (clock_wall_ms() - sum->last_used) / 1000;

	if (sum->objects == 0)
		return;
	age = age > 0 ? age : 0;
	shm_count(shm, g->start->number, COUNT_EVICTED, sum->objects);
	shm_count(shm, g->start->number, COUNT_BYTES_EVICTED, sum->bytes);
	shm_disk_set_evicted_age(shm, age);
	g->evict.objects += sum->objects;
	g->evict.bytes += sum->bytes;
	g->evict.age = age;
}

/* The blocks of a removed file may be free later only: when clients have been sent all of it, or when the
 * file system gets to it. For a time they count as free, or all would be evicted before the first were. */
static void
note_not_free_yet(struct gc *g, uint64_t free_before, uint64_t bytes)
{
	struct gc_evict *ev = &g->evict;
	uint64_t now = clock_ms(), free_now = store_free(g->store);
	uint64_t freed = free_now > free_before ? free_now - free_before : 0;

	if (freed >= bytes / 2)
		return;
	if (ev->free_soon == 0)
		ev->free_then = free_now;
	ev->free_soon += bytes - freed;
	ev->free_soon_until = now + FREE_SOON_MS;
}

/* They have become free, or were waited for long enough. */
static bool
is_over(const struct gc_evict *ev, uint64_t free_now)
{
	return clock_ms() >= ev->free_soon_until ||
	    (free_now > ev->free_then && free_now - ev->free_then >= ev->free_soon / 2);
}

static uint64_t
free_with_pending(struct gc *g)
{
	struct gc_evict *ev = &g->evict;
	uint64_t bytes = store_free(g->store);

	if (ev->free_soon > 0 && is_over(ev, bytes))
		ev->free_soon = 0;
	return __builtin_add_overflow(bytes, ev->free_soon, &bytes) ? UINT64_MAX : bytes;
}

/* As many as are needed for `excess` bytes, and no more than a batch. False: nothing can be removed,
 * and going on would only take the records of files that stay. */
static bool
evict_some(struct gc *g, uint64_t excess)
{
	struct gc_evict *ev = &g->evict;
	size_t left = ev->n - ev->next;
	struct gc_removed sum;
	unsigned n = 0;
	uint64_t bytes = 0, size, free_before = store_free(g->store);

	while (n < GC_BATCH && n < left && bytes < excess) {
		if (store_object_disk(g->store, &ev->chosen[ev->next + n].digest, &size))
			bytes += size;
		n++;
	}
	if (!gc_remove(g, &ev->chosen[ev->next], n, &sum))
		return false;
	note_evicted(g, &sum);
	note_not_free_yet(g, free_before, sum.bytes);
	ev->next += n;
	return sum.failed == 0;
}

static void
log_evicted(struct gc *g)
{
	struct gc_evict *ev = &g->evict;
	uint64_t now = clock_ms();

	if (ev->objects == 0 || (ev->logged_ms != 0 && now - ev->logged_ms < LOG_MS))
		return;
	log_info("evicted %llu objects of %llu bytes, the last one unused for %lld s",
	    (unsigned long long)ev->objects, (unsigned long long)ev->bytes, (long long)ev->age);
	ev->objects = ev->bytes = 0;
	ev->logged_ms = now;
}

/* There is enough room, or no more to be had. */
static uint64_t
rest(struct gc *g)
{
	g->evict.running = false;
	log_evicted(g);
	shm_disk_wake(g->start->shm);
	return shm_disk_waited_for(g->start->shm) ? WAITED_FOR_MS : EVICT_MS;
}

static uint64_t
excess_now(struct gc *g)
{
	return shm_disk_excess(g->start->shm, free_with_pending(g), g->evict.running);
}

/* Runs every second, and at once when a leader lacks room. */
uint64_t
gc_evict(struct gc *g)
{
	struct gc_evict *ev = &g->evict;
	uint64_t excess;

	gc_account_index(g);
	excess = excess_now(g);
	if (clock_ms() < ev->not_before_ms)
		return FAILED_MS;
	if (excess > 0 && !ev->running && shm_disk_adrift(g->start->shm) > 0) {
		gc_account_adrift(g);
		excess = excess_now(g);
	}
	if (excess == 0)
		return rest(g);
	if (ev->walking) {
		walk(g);
	} else if (ev->next < ev->n) {
		ev->fruitless = false;
		ev->running = true;
		if (!evict_some(g, excess)) {
			log_warn("objects cannot be removed: trying again in %d s", FAILED_MS / 1000);
			ev->not_before_ms = clock_ms() + FAILED_MS;
			return FAILED_MS;
		}
		shm_disk_wake(g->start->shm);
	} else if (ev->fruitless) { /* a walk has just found nothing */
		ev->fruitless = false;
		return rest(g);
	} else {
		ev->fruitless = true;
		ev->running = true;
		begin_walk(g);
	}
	return 0;
}
