/* Recovery: how the last run ended, whether its index is of use, and what its fills left. Runs
 * before any listener lives, and again until store and index can be opened. */
#include <errno.h>
#include <string.h>

#include "child.h"
#include "conf.h"
#include "gc_private.h"
#include "index.h"
#include "lease.h"
#include "log.h"
#include "shm.h"
#include "store.h"

static void
log_state(const struct gc *g, enum store_state state)
{
	static const char *const text[] = {
	    [STORE_NEW] = "there is no mark of an earlier run: making the index from the files",
	    [STORE_CLEAN] = "the last run ended cleanly",
	    [STORE_CRASHED] = "the last run did not end cleanly; its index is whole",
	    [STORE_MACHINE_DIED] = "the machine went down under the last run, or this is a copy of it: making the index again from the files",
	};

	if (state == STORE_NEW || state == STORE_CLEAN)
		log_info("%s: %s", g->start->conf->data_path, text[state]);
	else if (g->first || state == STORE_MACHINE_DIED)
		log_warn("%s: %s", g->start->conf->data_path, text[state]);
}

enum verdict { USE_INDEX, DROP_INDEX, QUARANTINE_INDEX };

/* One that a machine's death may have torn, or that killed our predecessor, can crash its reader.
 * Until the mark says that this run has begun, no listener opens it, so dropping it harms nobody. */
static enum verdict
judge_index(const struct gc *g, enum store_state state)
{
	if (g->first && g->start->failures > 0) {
		log_warn("gc died before it was ready: dropping the index");
		return QUARANTINE_INDEX;
	}
	log_state(g, state);
	if ((state != STORE_CLEAN && state != STORE_CRASHED) || !store_has_index(g->store))
		return DROP_INDEX;
	if (!g->first || index_probe(store_index_dir(g->store)))
		return USE_INDEX;
	log_warn("the index is damaged, or of another version: dropping it");
	return QUARANTINE_INDEX;
}

/* The marker is for a successor; without it this process does the work all the same. */
static void
begin_rebuild(struct gc *g)
{
	g->rebuild = true;
	if (!store_set_incomplete(g->store, true))
		log_warn("cannot note that the index is incomplete: %s", strerror(errno));
}

static bool
drop_index(struct gc *g, enum verdict v)
{
	bool done = v == DROP_INDEX ? store_drop_index(g->store) : store_quarantine_index(g->store);

	if (!done)
		log_error("cannot drop the index");
	return done;
}

static bool
begin_run(struct gc *g)
{
	enum store_state state = store_read_state(g->store);
	enum verdict verdict = judge_index(g, state);

	if (verdict != USE_INDEX && !drop_index(g, verdict))
		return false;
	if (verdict != USE_INDEX || store_is_incomplete(g->store))
		begin_rebuild(g);
	g->was_clean = state == STORE_CLEAN;
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
	if (!drop_index(g, QUARANTINE_INDEX))
		return;
	begin_rebuild(g);
	g->ix = index_open(store_index_dir(g->store));
}

static void
remove_any_part(const char *name, bool known, const struct digest *d, uint64_t id, void *arg)
{
	struct gc *g = arg;
	unsigned budget = GC_BATCH;

	(void)known;
	(void)d;
	(void)id;
	child_beat(g->child);
	(void)gc_remove_part(g, name, &budget);
}

/* When no listener lives: every lease is dead and nobody writes to a part. */
void
gc_drop_fills(struct gc *g)
{
	while (g->ix != NULL && lease_collect(g->ix, g->start->shm, GC_BATCH, 0, NULL, NULL) == GC_BATCH)
		child_beat(g->child);
	if (store_each_part(g->store, remove_any_part, g) < 0)
		log_warn("cannot read the folder of parts");
}

bool
gc_recover(struct gc *g)
{
	if (g->store == NULL)
		g->store = store_open(g->start->conf->data_path);
	if (g->store == NULL || !begin_run(g))
		return false;
	open_index(g);
	if (g->first)
		gc_drop_fills(g);
	gc_account_begin(g);
	return g->ix != NULL;
}

/* Whatever comes of it, the listeners may start: what cannot be cached is passed through. */
void
gc_start_up(struct gc *g)
{
	if (!gc_recover(g))
		log_error("%s cannot be used: nothing is cached; trying again every %d s",
		    g->start->conf->data_path, GC_CHECK_MS / 1000);
	g->first = false;
	child_ready(g->child);
}
