/* What dead fills leave behind: leases of dead owners with their parts, and parts without a
 * lease. Two jobs, each in bounded bites. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "clock.h"
#include "gc_private.h"
#include "index.h"
#include "lease.h"
#include "log.h"
#include "store.h"
#include "store_scan.h"

enum {
	LEASE_GRACE_MS = 2000,  /* a follower takes over a dead lease within this time */
	STRAY_AGE_SECONDS = 60, /* a younger part may belong to a lease that is just being taken */
	COLLECT_MS = 1000,
	COLLECT_AGAIN_MS = 10, /* after a full batch */
	STRAYS_MS = 30000,
};

/* --- dead leases ----------------------------------------------------------------------------- */

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

uint64_t
gc_collect_leases(struct gc *g)
{
	int dropped =
	    lease_collect(g->ix, g->start->shm, GC_BATCH, LEASE_GRACE_MS, remove_part_of, g);

	return dropped == GC_BATCH ? COLLECT_AGAIN_MS : COLLECT_MS;
}

/* --- any part -------------------------------------------------------------------------------- */

bool
gc_remove_part(struct gc *g, const char *name, unsigned *budget)
{
	if (store_remove_part_file(g->store, name) ||
	    ((errno == ENOTEMPTY || errno == EEXIST) &&
		store_remove_part_folder(g->store, name, budget)))
		return true;
	if (errno != EAGAIN)
		log_warn("cannot remove the part %s: %s", name, strerror(errno));
	return false;
}

/* --- stray parts ----------------------------------------------------------------------------- */

struct strays {
	struct gc *gc;
	unsigned removed;
	unsigned budget; /* entries of folders that may still be removed */
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

	if (s->removed >= GC_BATCH || (known && !part_is_stray(s->gc, d, id)))
		return;
	s->removed += gc_remove_part(s->gc, name, &s->budget);
}

enum gc_bite
gc_remove_strays_once(struct gc *g)
{
	struct strays s = {.gc = g, .budget = GC_BATCH};

	if (store_each_part(g->store, remove_stray, &s) < 0)
		log_warn("cannot read the folder of parts");
	if (s.removed > 0)
		log_info("removed %u parts without a lease", s.removed);
	return s.removed == GC_BATCH || s.budget == 0 ? GC_MORE : GC_DONE;
}

uint64_t
gc_remove_strays(struct gc *g)
{
	return gc_remove_strays_once(g) == GC_MORE ? COLLECT_AGAIN_MS : STRAYS_MS;
}
