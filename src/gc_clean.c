/* A step of the pass: the files of the store against the records of the index, one folder after the
 * other. What is no object is removed, and a file of another size than its record says, and a record
 * without a file; a file without a record makes gc_adopt.c look for such. On the way the folder's
 * blocks are counted, which sets the account of disk space right. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "clock.h"
#include "digest.h"
#include "gc_private.h"
#include "index.h"
#include "log.h"
#include "shm_disk.h"
#include "store.h"
#include "store_scan.h"
#include "xalloc.h"

enum {
	BUCKETS = 256,
	BITE_FILES = 256,         /* looked at in one bite */
	STRANGER_AGE_SECONDS = 60, /* a younger one may be in the making: a copy under way */
	STRANGER_BUDGET = 256,    /* files removed of a stranger's folder in one bite */
};

struct record {
	struct gc_victim object; /* as the index had it */
	uint64_t size;
	bool has_file;
};

enum stage { LOAD, FILES, RECORDS };

struct gc_clean {
	enum store_level level; /* from the top down */
	uint8_t algo;
	unsigned bucket;
	enum stage stage;
	struct store_folder *folder;
	struct store_entry entry; /* the one that was come to … */
	bool large;               /* … a stranger of which there is more to remove */
	struct record *records; /* of the bucket and algorithm, in the order of their digests */
	size_t n, size, next;
	uint64_t seen[SHM_DISK_KINDS]; /* the bucket's account, before anything of it was counted */
	uint64_t objects[SHM_DISK_KINDS], bytes[SHM_DISK_KINDS];
};

/* --- strangers ------------------------------------------------------------------------------- */

/* False: there is more of it than goes in one bite. */
static bool
remove_stranger(struct gc *g, const struct store_entry *e, unsigned *budget)
{
	if (clock_wall() - e->written < STRANGER_AGE_SECONDS)
		return true;
	if (store_folder_remove(g->clean->folder, e->name, budget)) {
		log_warn("removed %s, which is no object, from the store", e->name);
		g->pass.strangers++;
		shm_count(g->start->shm, g->start->number, COUNT_CLEANED, 1);
	} else if (errno == EAGAIN) {
		return false;
	} else {
		log_warn("cannot remove %s, which is no object, from the store: %s", e->name,
		    strerror(errno));
	}
	return true;
}

/* --- files ----------------------------------------------------------------------------------- */

static int
compare(const void *digest, const void *record)
{
	const struct digest *a = digest;
	const struct record *b = record;

	return memcmp(a->bytes, b->object.digest.bytes, sizeof(a->bytes));
}

static void
account(struct gc_clean *c, unsigned kind, const struct store_entry *e)
{
	c->objects[kind]++;
	c->bytes[kind] += e->disk;
}

/* Published since the records were read, being filled, or without a record. */
static void
take_unknown(struct gc *g, const struct store_entry *e)
{
	struct index_entry now;
	bool known = index_look(g->ix, &e->digest, &now) == INDEX_OK;

	account(g->clean, known && now.has_object && now.object.kind == OBJECT_MANIFEST, e);
	if (!known || now.has_object || now.has_lease)
		return;
	g->pass.orphans++;
	g->rebuild = true; /* gc_adopt.c hashes it; what is right gets a record */
}

static void
remove_wrong_size(struct gc *g, const struct record *r, const struct store_entry *e)
{
	struct gc_victim v = r->object;
	struct gc_removed sum;
	char text[DIGEST_STR_SIZE];

	v.even_if_used = true;
	if (!gc_remove(g, &v, 1, &sum) || sum.objects == 0)
		return;
	log_error("object %s has %llu bytes instead of %llu: removed", digest_str(&e->digest, text),
	    (unsigned long long)e->size, (unsigned long long)r->size);
	g->pass.wrong++;
	shm_count(g->start->shm, g->start->number, COUNT_CLEANED, 1);
	shm_count(g->start->shm, g->start->number, COUNT_CORRUPT, 1);
}

static void
take_file(struct gc *g, const struct store_entry *e)
{
	struct gc_clean *c = g->clean;
	struct record *r =
	    c->n == 0 ? NULL : bsearch(&e->digest, c->records, c->n, sizeof(*r), compare);

	if (r == NULL) {
		take_unknown(g, e);
		return;
	}
	r->has_file = true;
	if (e->size == r->size)
		account(c, r->object.kind, e);
	else
		remove_wrong_size(g, r, e);
}

/* False: the folder has no more. */
static bool
look_at_files(struct gc *g)
{
	struct gc_clean *c = g->clean;
	unsigned budget = STRANGER_BUDGET;

	for (int i = 0; i < BITE_FILES; i++) {
		if (!c->large && (c->folder == NULL || !store_folder_next(c->folder, &c->entry)))
			return false;
		if (c->level == STORE_BUCKET && c->entry.belongs)
			take_file(g, &c->entry);
		c->large = !c->entry.belongs && !remove_stranger(g, &c->entry, &budget);
		if (c->large)
			break;
	}
	return true;
}

/* --- records --------------------------------------------------------------------------------- */

static bool
load_record(const struct digest *d, const struct index_object *o, void *arg)
{
	struct gc *g = arg;
	struct gc_clean *c = g->clean;

	if (c->n == c->size) {
		c->size = c->size == 0 ? 256 : 2 * c->size;
		c->records = xrealloc(c->records, c->size * sizeof(*c->records));
	}
	c->records[c->n++] = (struct record){
	    {*d, o->kind == OBJECT_MANIFEST, true, o->fetched_at, 0}, o->size, false};
	return true;
}

/* Those that still have none: the file may have come after its folder was read. */
static bool
remove_lost(struct gc *g, const struct gc_victim *lost, unsigned n)
{
	struct gc_removed sum;

	if (n == 0)
		return true;
	if (!gc_remove(g, lost, n, &sum))
		return false;
	if (sum.objects > 0)
		log_warn("dropped %llu records without a file", (unsigned long long)sum.objects);
	g->pass.lost += sum.objects;
	shm_count(g->start->shm, g->start->number, COUNT_CLEANED, sum.objects);
	return true;
}

/* False: there are no more, or the index failed. */
static bool
look_at_records(struct gc *g)
{
	struct gc_clean *c = g->clean;
	struct gc_victim lost[GC_BATCH];
	unsigned n = 0;
	uint64_t disk;

	for (; c->next < c->n && n < GC_BATCH; c->next++) {
		const struct record *r = &c->records[c->next];

		if (!r->has_file && !store_object_disk(g->store, &r->object.digest, &disk) &&
		    errno == ENOENT)
			lost[n++] = r->object;
	}
	return remove_lost(g, lost, n) && c->next < c->n;
}

/* --- one folder after the other -------------------------------------------------------------- */

/* A word that changed while the folder was read is set by the next pass. What grows is set first, so
 * that nothing is missing from the sum in between. */
static void
set_account(struct gc *g)
{
	struct gc_clean *c = g->clean;
	struct shm *shm = g->start->shm;
	uint64_t had[SHM_DISK_KINDS], objects;
	bool set = true;

	for (unsigned kind = 0; kind < SHM_DISK_KINDS; kind++)
		shm_disk_read_bucket(shm, c->bucket, kind, &objects, &had[kind]);
	for (unsigned turn = 0; turn < 2; turn++)
		for (unsigned kind = 0; kind < SHM_DISK_KINDS; kind++)
			if ((c->bytes[kind] >= had[kind]) == (turn == 0))
				set = set &&
				    shm_disk_set_bucket(shm, c->bucket, kind, c->seen[kind],
					c->objects[kind], c->bytes[kind]);
	if (!set)
		log_debug("folder %02x changed while it was looked at", c->bucket);
}

static void
begin_folder(struct gc *g)
{
	struct gc_clean *c = g->clean;

	c->n = c->next = 0;
	for (unsigned kind = 0; c->algo == DIGEST_SHA256 && kind < SHM_DISK_KINDS; kind++) {
		c->seen[kind] = shm_disk_bucket(g->start->shm, c->bucket, kind);
		c->objects[kind] = c->bytes[kind] = 0;
	}
	c->folder = store_folder_open(g->store, c->level, c->algo, (uint8_t)c->bucket);
	if (c->folder == NULL && errno != ENOENT)
		log_warn("store: cannot open a folder: %s", strerror(errno));
	c->stage = FILES;
}

/* False: that was the last one. */
static bool
next_folder(struct gc *g)
{
	struct gc_clean *c = g->clean;

	store_folder_close(&c->folder);
	c->stage = LOAD;
	if (c->level == STORE_OBJECTS) {
		c->level = STORE_ALGORITHM;
		c->algo = DIGEST_SHA256;
	} else if (c->algo == DIGEST_SHA256) {
		c->algo = DIGEST_SHA512;
	} else if (c->level == STORE_ALGORITHM) {
		c->level = STORE_BUCKET;
		c->algo = DIGEST_SHA256;
	} else {
		set_account(g);
		c->algo = DIGEST_SHA256;
		c->bucket++;
	}
	return c->bucket < BUCKETS;
}

void
gc_clean_begin(struct gc *g)
{
	g->clean = xcalloc(1, sizeof(*g->clean));
	g->clean->level = STORE_OBJECTS;
	g->clean->algo = DIGEST_SHA256;
}

void
gc_clean_end(struct gc *g)
{
	store_folder_close(&g->clean->folder);
	free(g->clean->records);
	free(g->clean);
	g->clean = NULL;
}

/* The folder is opened before its records are read: a file that comes after that has a record, or a
 * lease, when it is looked at. */
enum gc_bite
gc_clean(struct gc *g)
{
	struct gc_clean *c = g->clean;

	switch (c->stage) {
	case LOAD:
		begin_folder(g);
		if (c->level == STORE_BUCKET &&
		    index_each_object_in(g->ix, c->algo, (uint8_t)c->bucket, load_record, g) ==
			INDEX_ERROR)
			return GC_DONE;
		break;
	case FILES:
		if (!look_at_files(g))
			c->stage = RECORDS;
		break;
	case RECORDS:
		if (!look_at_records(g) && !next_folder(g))
			return GC_DONE;
		break;
	}
	return GC_MORE;
}
