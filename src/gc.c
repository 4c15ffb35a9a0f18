/* The gc process: recovery before any listener lives, then index sync, dead leases and their parts,
 * stray parts and reader slots, each in bounded steps from timers. It never serves; without an
 * index it waits for one. */
#include "gc.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "clock.h"
#include "conf.h"
#include "index.h"
#include "lease.h"
#include "log.h"
#include "shm.h"
#include "store.h"

enum {
	BATCH = 100, /* leases or parts a step: other writers wait about 0.4 ms for that */
	LEASE_GRACE_MS = 2000,  /* a follower takes over a dead lease within this time */
	STRAY_AGE_SECONDS = 60, /* a younger part may belong to a lease that is just being taken */
};

static const struct timeval sync_every = {.tv_sec = 1};
static const struct timeval collect_every = {.tv_sec = 1};
static const struct timeval collect_again = {.tv_usec = 10000}; /* after a full batch */
static const struct timeval check_every = {.tv_sec = 10};
static const struct timeval strays_every = {.tv_sec = 30};
static const struct timeval end_every = {.tv_usec = 50000};

enum { SYNC, COLLECT, CHECK, STRAYS, END, EVENTS };

struct gc {
	const struct child_start *start;
	struct event_base *base;
	struct child *child;
	struct store *store; /* NULL: cannot be opened */
	struct index *ix;    /* NULL: nothing is cached; tried again every check_every */
	bool first;          /* no listener lives: the index may be dropped, all leases are dead */
	struct event *events[EVENTS];
	uint64_t generations[SHM_MAX_LISTENERS]; /* as they were last seen */
};

/* --- recovery -------------------------------------------------------------------------------- */

static void
log_state(const struct gc *g, enum store_state state)
{
	static const char *const text[] = {
	    [STORE_NEW] = "there is no mark of an earlier run: starting with an empty index",
	    [STORE_CLEAN] = "the last run ended cleanly",
	    [STORE_CRASHED] = "the last run did not end cleanly; its index is whole",
	    [STORE_MACHINE_DIED] = "the machine went down under the last run: dropping the index",
	};

	if (state == STORE_NEW || state == STORE_CLEAN)
		log_info("%s: %s", g->start->conf->data_path, text[state]);
	else if (g->first || state == STORE_MACHINE_DIED)
		log_warn("%s: %s", g->start->conf->data_path, text[state]);
}

/* One that a machine's death may have torn, or that killed our predecessor, can crash its reader.
 * Until the mark says that this run has begun, no listener opens it, so dropping it harms nobody;
 * objects are then hashed and adopted when they are asked for. */
static bool
index_is_whole(const struct gc *g, enum store_state state)
{
	if (g->first && g->start->failures > 0) {
		log_warn("gc died before it was ready: dropping the index");
		return false;
	}
	log_state(g, state);
	if (state != STORE_CLEAN && state != STORE_CRASHED)
		return false;
	if (!g->first || index_probe(store_index_dir(g->store)))
		return true;
	log_warn("the index is damaged: dropping it");
	return false;
}

static bool
begin_run(struct gc *g)
{
	enum store_state state = store_read_state(g->store);

	if (!index_is_whole(g, state) && !store_drop_index(g->store)) {
		log_error("cannot drop the index");
		return false;
	}
	if (store_write_state(g->store, false))
		return true;
	log_error("cannot mark the store as running");
	return false;
}

static void
open_index(struct gc *g)
{
	g->ix = index_open(store_index_dir(g->store));
	if (g->ix != NULL || !g->first)
		return;
	log_warn("the index cannot be opened: dropping it");
	if (store_drop_index(g->store))
		g->ix = index_open(store_index_dir(g->store));
}

static void
remove_any_part(const char *name, bool known, const struct digest *d, uint64_t id, void *arg)
{
	struct gc *g = arg;

	(void)known;
	(void)d;
	(void)id;
	child_beat(g->child);
	if (!store_remove_part_file(g->store, name))
		log_warn("cannot remove the part %s", name);
}

/* When no listener lives: every lease is dead and nobody writes to a part. */
static void
drop_fills(struct gc *g)
{
	while (g->ix != NULL && lease_collect(g->ix, g->start->shm, BATCH, 0, NULL, NULL) == BATCH)
		child_beat(g->child);
	if (store_each_part(g->store, remove_any_part, g) < 0)
		log_warn("cannot read the folder of parts");
}

static bool
recover(struct gc *g)
{
	if (g->store == NULL)
		g->store = store_open(g->start->conf->data_path);
	if (g->store == NULL || !begin_run(g))
		return false;
	open_index(g);
	if (g->first)
		drop_fills(g);
	return g->ix != NULL;
}

/* Whatever comes of it, the listeners may start: what cannot be cached is passed through. */
static void
start_up(struct gc *g)
{
	if (!recover(g))
		log_error("%s cannot be used: nothing is cached; trying again every %d s",
		    g->start->conf->data_path, (int)check_every.tv_sec);
	g->first = false;
	child_ready(g->child);
}

/* --- timers ---------------------------------------------------------------------------------- */

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

static void
on_sync(evutil_socket_t fd, short what, void *arg)
{
	struct gc *g = arg;

	(void)fd;
	(void)what;
	if (g->ix == NULL)
		return;
	if (generations_changed(g))
		check_readers(g);
	if (index_sync(g->ix) != INDEX_OK)
		log_debug("the index was not synced");
	child_beat(g->child); /* a slow disk is no reason to be killed */
}

static void
remove_part_of(const struct digest *d, const struct index_lease *l, void *arg)
{
	const struct gc *g = arg;
	char text[DIGEST_STR_SIZE];

	log_info("dropped the dead lease of listener %u for %s", (unsigned)l->listener,
	    digest_str(d, text));
	if (!store_remove_part(g->store, d, l->id))
		log_warn("cannot remove the part of %s", text);
}

static void
on_collect(evutil_socket_t fd, short what, void *arg)
{
	struct gc *g = arg;
	int dropped = 0;

	(void)fd;
	(void)what;
	if (g->ix != NULL)
		dropped =
		    lease_collect(g->ix, g->start->shm, BATCH, LEASE_GRACE_MS, remove_part_of, g);
	event_add(g->events[COLLECT], dropped == BATCH ? &collect_again : &collect_every);
}

static void
on_check(evutil_socket_t fd, short what, void *arg)
{
	struct gc *g = arg;

	(void)fd;
	(void)what;
	if (g->ix != NULL)
		check_readers(g);
	else if (recover(g))
		log_info("%s can be used again", g->start->conf->data_path);
}

/* --- stray parts ----------------------------------------------------------------------------- */

struct strays {
	struct gc *gc;
	unsigned removed;
};

static bool
part_is_old(struct store *store, const struct digest *d, uint64_t id)
{
	struct stat st;
	int fd = store_open_part(store, d, id);
	bool old;

	if (fd < 0)
		return false; /* it became an object, or another lease's part */
	old = fstat(fd, &st) == 0 && clock_wall() - st.st_mtime > STRAY_AGE_SECONDS;
	close(fd);
	return old;
}

static bool
part_is_stray(const struct gc *g, const struct digest *d, uint64_t id)
{
	struct index_entry e;

	if (!part_is_old(g->store, d, id) || index_look(g->ix, d, &e) != INDEX_OK)
		return false;
	return !e.has_lease || e.lease.id != id;
}

static void
remove_stray(const char *name, bool known, const struct digest *d, uint64_t id, void *arg)
{
	struct strays *s = arg;

	if (s->removed >= BATCH || (known && !part_is_stray(s->gc, d, id)))
		return;
	if (store_remove_part_file(s->gc->store, name))
		s->removed++;
	else
		log_warn("cannot remove the part %s", name);
}

static void
on_strays(evutil_socket_t fd, short what, void *arg)
{
	struct gc *g = arg;
	struct strays s = {.gc = g};

	(void)fd;
	(void)what;
	if (g->ix == NULL)
		return;
	if (store_each_part(g->store, remove_stray, &s) < 0)
		log_warn("cannot read the folder of parts");
	if (s.removed > 0)
		log_info("removed %u parts without a lease", s.removed);
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
		log_flush();
		_exit(0);
	}
	event_add(g->events[END], &end_every);
	on_end(-1, 0, g);
}

static void
close_cleanly(struct gc *g)
{
	bool synced;

	if (g->ix == NULL)
		return;
	drop_fills(g);
	synced = index_sync(g->ix) == INDEX_OK;
	index_close(&g->ix);
	if (synced && store_write_state(g->store, true))
		log_info("the store is closed cleanly");
	else
		log_warn("the store cannot be marked as closed cleanly");
}

/* --- the process ----------------------------------------------------------------------------- */

static void
add_event(
    struct gc *g, unsigned n, short what, event_callback_fn callback, const struct timeval *after)
{
	g->events[n] = event_new(g->base, -1, what, callback, g);
	if (g->events[n] == NULL || (after != NULL && event_add(g->events[n], after) != 0))
		panic("cannot add an event to the loop");
}

int
gc_run(const struct child_start *start)
{
	struct gc g = {.start = start, .first = start->first, .base = event_base_new()};

	if (g.base == NULL)
		panic("cannot make an event loop");
	add_event(&g, SYNC, EV_PERSIST, on_sync, &sync_every);
	add_event(&g, COLLECT, 0, on_collect, &collect_every);
	add_event(&g, CHECK, EV_PERSIST, on_check, &check_every);
	add_event(&g, STRAYS, EV_PERSIST, on_strays, &strays_every);
	add_event(&g, END, EV_PERSIST, on_end, NULL);
	g.child = child_begin(g.base, start, on_drain, &g);
	start_up(&g);
	event_base_dispatch(g.base);
	close_cleanly(&g);
	store_close(&g.store);
	child_end(&g.child);
	for (unsigned n = 0; n < EVENTS; n++)
		event_free(g.events[n]);
	event_base_free(g.base);
	return 0;
}
