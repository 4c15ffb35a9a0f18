/* The gc process: its loop and the table of its jobs. Recovery is gc_recover.c's, what dead fills
 * leave gc_parts.c's, the pass over the whole store gc_pass.c's. It never serves; without an index
 * it waits for one. */
#include "gc.h"

#include <event2/event.h>
#include <unistd.h>

#include "child.h"
#include "conf.h"
#include "gc_private.h"
#include "index.h"
#include "log.h"
#include "shm.h"
#include "store.h"

enum { SYNC_MS = 1000, WAIT_FOR_INDEX_MS = 1000 };

static const struct timeval end_every = {.tv_usec = 50000};

/* --- jobs ------------------------------------------------------------------------------------ */

static bool
generations_changed(struct gc *g)
{
	bool changed = false;

	for (unsigned i = 0; i < shm_listeners(g->start->shm); i++) {
		uint64_t now = shm_child_generation(g->start->shm, i);

		changed |= now != g->generations[i];
		g->generations[i] = now;
	}
	return changed;
}

static void
check_readers(struct gc *g)
{
	int freed = index_reader_check(g->ix);

	if (freed > 0)
		log_info("freed the index reader slots of %d dead processes", freed);
}

static uint64_t
sync_index(struct gc *g)
{
	bool synced;

	if (generations_changed(g))
		check_readers(g);
	if (gc_sync_ended(g, &synced))
		gc_sync_begin(g);
	shm_count(g->start->shm, g->start->number, COUNT_INDEX_ERRORS, index_take_failures(g->ix));
	return SYNC_MS;
}

static uint64_t
check_index(struct gc *g)
{
	if (g->ix != NULL)
		check_readers(g);
	else if (gc_recover(g))
		log_info("%s can be used again", g->start->conf->data_path);
	return GC_CHECK_MS;
}

static const struct gc_job jobs[] = {
    {"account", 1000, false, gc_account},
    {"evict", 1, false, gc_evict},
    {"sync", SYNC_MS, false, sync_index},
    {"check", GC_CHECK_MS, true, check_index},
    {"leases", 1000, false, gc_collect_leases},
    {"strays", 30000, false, gc_remove_strays},
    {"pass", 1000, false, gc_run_pass},
    {"scrub", 2000, false, gc_scrub},
    {"adopt", 1, false, gc_adopt},
};

enum { JOBS = sizeof(jobs) / sizeof(jobs[0]) };

static void
run_again(struct gc_timer *t, uint64_t after_ms)
{
	struct timeval after = {(time_t)(after_ms / 1000), (suseconds_t)(after_ms % 1000) * 1000};

	if (event_add(t->event, &after) != 0)
		panic("cannot add the event of %s", t->job->name);
}

/* The heartbeat in each bite: a slow disk is no reason to be killed. */
static void
on_job(evutil_socket_t fd, short what, void *arg)
{
	struct gc_timer *t = arg;
	uint64_t next = WAIT_FOR_INDEX_MS;

	(void)fd;
	(void)what;
	if (t->gc->ix != NULL)
		gc_follow_clock(t->gc);
	if (t->gc->ix != NULL || t->job->without_index)
		next = t->job->run(t->gc);
	child_beat(t->gc->child);
	run_again(t, next);
}

static void
start_jobs(struct gc *g)
{
	for (unsigned i = 0; i < JOBS; i++) {
		struct gc_timer *t = &g->timers[i];

		*t = (struct gc_timer){.gc = g, .job = &jobs[i]};
		t->event = event_new(g->base, -1, 0, on_job, t);
		if (t->event == NULL)
			panic("cannot make the event of %s", t->job->name);
		run_again(t, t->job->first_ms);
	}
}

/* A leader lacks room, or inherited a part. */
static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct gc *g = arg;

	(void)fd;
	(void)what;
	shm_wake_drain(g->start->shm, shm_gc(g->start->shm));
	for (unsigned i = 0; i < JOBS; i++)
		if (jobs[i].run == gc_evict)
			run_again(&g->timers[i], 0);
}

/* --- the end --------------------------------------------------------------------------------- */

static bool
a_listener_lives(const struct gc *g)
{
	for (unsigned i = 0; i < shm_listeners(g->start->shm); i++)
		if (shm_child_generation(g->start->shm, i) != 0)
			return true;
	return false;
}

static void
on_end(evutil_socket_t fd, short what, void *arg)
{
	struct gc *g = arg;

	(void)fd;
	(void)what;
	if (!a_listener_lives(g))
		event_base_loopbreak(g->base);
}

/* The master asks after the listeners have gone; a terminal asks everybody at once. The mark is
 * true only when no listener writes any more, so wait for that in either case. */
static void
on_drain(enum child_end why, void *arg)
{
	struct gc *g = arg;

	if (why == CHILD_END_RETIRE) { /* as if it had died: its successor goes on */
		gc_metrics_leave(g);
		return;
	}
	event_add(g->end, &end_every);
	gc_break_off_pass(g);
	on_end(-1, 0, g);
}

static void
beat(void *arg)
{
	child_beat(arg);
}

/* A mark of a clean end vouches for the objects, too: they must be on the disk before it is. While the
 * index is being made again it is not whole, and the next start begins anew. */
static void
close_cleanly(struct gc *g)
{
	bool synced;

	(void)gc_sync_wait(g);
	if (g->ix == NULL)
		return;
	gc_drop_fills(g);
	gc_account_save(g);
	gc_sync_begin(g);
	synced = gc_sync_wait(g);
	index_close(&g->ix);
	if (synced && store_close_cleanly(g->store, beat, g->child))
		log_info("the store is closed cleanly");
	else
		log_warn("the store cannot be marked as closed cleanly");
}

/* --- the process ----------------------------------------------------------------------------- */

int
gc_run(const struct child_start *start)
{
	struct gc g = {.start = start, .first = start->first, .base = event_base_new()};

	if (g.base == NULL)
		panic("cannot make an event loop");
	g.end = event_new(g.base, -1, EV_PERSIST, on_end, &g);
	g.wake = event_new(
	    g.base, shm_wake_fd(start->shm, shm_gc(start->shm)), EV_READ | EV_PERSIST, on_wake, &g);
	if (g.end == NULL || g.wake == NULL || event_add(g.wake, NULL) != 0)
		panic("cannot make an event");
	g.child = child_begin(g.base, start, on_drain, &g);
	gc_metrics_begin(&g);
	gc_start_up(&g);
	start_jobs(&g);
	event_base_dispatch(g.base);
	gc_metrics_end(&g);
	gc_end_scrub(&g);
	gc_end_adopt(&g);
	close_cleanly(&g);
	store_close(&g.store);
	child_end(&g.child);
	for (unsigned i = 0; i < JOBS; i++)
		event_free(g.timers[i].event);
	event_free(g.end);
	event_free(g.wake);
	gc_evict_free(&g);
	event_base_free(g.base);
	return 0;
}
