/* The account of disk space (shm_disk.h), as far as it is gc's: counting the store when it is not
 * known, what the index and the folders need, and parts without a leader. */
#include <errno.h>
#include <string.h>

#include "child.h"
#include "clock.h"
#include "conf.h"
#include "digest.h"
#include "gc_private.h"
#include "index.h"
#include "lease.h"
#include "log.h"
#include "shm_disk.h"
#include "store.h"
#include "store_scan.h"

enum {
	COUNT_AT_ONCE_MS = 500,       /* a store that is counted in this time is, before listeners start */
	MARGIN_MAX = 1024 * 1024,     /* bytes kept for the index to grow between two looks … */
	MARGIN_PART = 64,             /* … or this part of the limit, if that is less */
};

/* --- counting -------------------------------------------------------------------------------- */

static void
count_folder(struct gc *g, uint8_t algo, unsigned bucket, uint64_t *objects, uint64_t *bytes)
{
	struct store_folder *f = store_folder_open(g->store, STORE_BUCKET, algo, (uint8_t)bucket);
	struct store_entry e;

	if (f == NULL) {
		if (errno != ENOENT)
			log_warn("store: cannot open a folder of objects: %s", strerror(errno));
		return;
	}
	while (store_folder_next(f, &e)) {
		*objects += e.belongs;
		*bytes += e.disk;
	}
	store_folder_close(&f);
}

/* Of what kind they are is the index's to say: the next pass puts manifests where they belong.
 * What is published meanwhile makes it count again. */
static void
count_bucket(struct gc *g, unsigned bucket)
{
	struct shm *shm = g->start->shm;
	uint64_t seen, others, objects, bytes;

	do {
		objects = bytes = 0;
		others = shm_disk_bucket(shm, bucket, 1);
		seen = shm_disk_bucket(shm, bucket, 0);
		for (uint8_t algo = DIGEST_SHA256; algo <= DIGEST_SHA512; algo++)
			count_folder(g, algo, bucket, &objects, &bytes);
		child_beat(g->child);
	} while (!shm_disk_set_bucket(shm, bucket, 0, seen, objects, bytes) ||
	    !shm_disk_set_bucket(shm, bucket, 1, others, 0, 0));
}

/* False: there is more to count. */
static bool
count_until(struct gc *g, uint64_t deadline_ms)
{
	while (g->account.bucket < SHM_DISK_BUCKETS) {
		count_bucket(g, g->account.bucket++);
		if (clock_ms() >= deadline_ms)
			break;
	}
	if (g->account.bucket < SHM_DISK_BUCKETS)
		return false;
	shm_disk_set_known(g->start->shm);
	return true;
}

/* --- a clean end, and the start after it ----------------------------------------------------- */

struct note {
	uint64_t objects[SHM_DISK_KINDS][SHM_DISK_BUCKETS];
	uint64_t bytes[SHM_DISK_KINDS][SHM_DISK_BUCKETS];
};

void
gc_account_save(struct gc *g)
{
	struct note note;

	if (!shm_disk_known(g->start->shm))
		return;
	for (unsigned kind = 0; kind < SHM_DISK_KINDS; kind++)
		for (unsigned b = 0; b < SHM_DISK_BUCKETS; b++)
			shm_disk_read_bucket(g->start->shm, b, kind, &note.objects[kind][b],
			    &note.bytes[kind][b]);
	if (!store_save_note(g->store, &note, sizeof(note)))
		log_debug("the account of disk space was not saved: it is made again");
}

/* Only the account of a clean end, on which nothing has followed, is true. */
static bool
load(struct gc *g)
{
	struct shm *shm = g->start->shm;
	struct note note;

	if (!store_load_note(g->store, &note, sizeof(note)) || !g->was_clean)
		return false;
	for (unsigned kind = 0; kind < SHM_DISK_KINDS; kind++)
		for (unsigned b = 0; b < SHM_DISK_BUCKETS; b++)
			if (!shm_disk_set_bucket(shm, b, kind, shm_disk_bucket(shm, b, kind),
				note.objects[kind][b], note.bytes[kind][b]))
				return false;
	shm_disk_set_known(shm);
	return true;
}

/* --- what is no object ----------------------------------------------------------------------- */

/* A fill that makes a folder meanwhile changes the account, and then the next look sets it. */
static void
account_overhead(struct gc *g)
{
	uint64_t seen = shm_disk_overhead(g->start->shm);
	uint64_t margin = g->start->conf->gc.disk_max_size / MARGIN_PART;

	margin = margin < MARGIN_MAX ? margin : MARGIN_MAX;
	g->account.index = store_index_disk(g->store);
	if (!shm_disk_set_overhead(g->start->shm, seen,
		store_folders_disk(g->store) + g->account.index + margin))
		log_debug("the folders changed while they were counted");
}

void
gc_account_index(struct gc *g)
{
	uint64_t before = g->account.index;

	g->account.index = store_index_disk(g->store);
	shm_disk_add_overhead(g->start->shm, g->account.index - before);
}

struct adrift {
	struct gc *gc;
	uint64_t bytes;
};

static bool
has_leader(const struct gc *g, const struct digest *d, uint64_t id)
{
	struct index_entry e;

	return index_look(g->ix, d, &e) == INDEX_OK && e.has_lease && e.lease.id == id &&
	    lease_live(g->start->shm, &e.lease, clock_ms());
}

static void
add_adrift(const char *name, bool known, const struct digest *d, uint64_t id, void *arg)
{
	struct adrift *a = arg;
	uint64_t bytes;

	if ((!known || !has_leader(a->gc, d, id)) && store_part_disk(a->gc->store, name, &bytes))
		a->bytes += bytes;
}

/* A fill that ends meanwhile changes the account, and then the next look sets it. */
void
gc_account_adrift(struct gc *g)
{
	uint64_t seen = shm_disk_adrift(g->start->shm);
	struct adrift a = {.gc = g};

	if (store_each_part(g->store, add_adrift, &a) < 0)
		log_warn("cannot read the folder of parts");
	else if (!shm_disk_set_adrift(g->start->shm, seen, a.bytes))
		log_debug("the parts without a leader changed while they were counted");
}

/* --- the start, and the job ------------------------------------------------------------------ */

void
gc_account_begin(struct gc *g)
{
	account_overhead(g);
	g->account.bucket = 0;
	if (shm_disk_known(g->start->shm) || load(g))
		return;
	count_until(g, clock_ms() + COUNT_AT_ONCE_MS);
}

enum { ACCOUNT_MS = 1000, COUNT_BITE_MS = 20 };

uint64_t
gc_account(struct gc *g)
{
	account_overhead(g);
	gc_account_adrift(g);
	if (shm_disk_known(g->start->shm))
		return ACCOUNT_MS;
	if (!count_until(g, clock_ms() + COUNT_BITE_MS))
		return 1;
	shm_disk_wake(g->start->shm);
	log_info("the disk space in use is known");
	return ACCOUNT_MS;
}
