/* Making the index again from the files, while the cache serves: every object file without a record
 * is hashed and gets one. What clients ask for meanwhile is hashed by their listener at once, under a
 * lease (fill_lead.c); what has a lease is left to it here, even in the midst of hashing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "clock.h"
#include "conf.h"
#include "gc_private.h"
#include "index.h"
#include "log.h"
#include "media.h"
#include "shm_disk.h"
#include "store.h"
#include "store_rehash.h"
#include "store_scan.h"
#include "store_walk.h"
#include "xalloc.h"

enum {
	IDLE_MS = 1000,
	BITE_MS = 20,
	BITE_BYTES = 4 * 1024 * 1024, /* hashed of one file before the index is looked at again */
	AHEAD = 64,
	FAILED_MS = 10000,            /* the index failed, or nothing can be read */
	SAY_MS = 10000,               /* how far it is */
};

struct file {
	struct store_rehash *rehash;
	struct digest digest;
	struct stat st;
};

struct gc_adopt {
	struct store_walk *walk;
	bool walked;               /* to its end */
	struct file queue[AHEAD];  /* a ring: the disk reads them while the first is hashed */
	unsigned first, queued;
	struct digest found[GC_BATCH];         /* hashed, and right … */
	struct index_object objects[GC_BATCH]; /* … their records … */
	unsigned n;                          /* … not yet written */
	uint64_t began_ms, said_ms, owed_us;
	uint64_t seen, adopted, corrupt, bytes;
};

static void
count(struct gc *g, enum shm_counter c, uint64_t n)
{
	shm_count(g->start->shm, g->start->number, c, n);
}

/* --- records --------------------------------------------------------------------------------- */

static void
decide_adopt(struct index_entry *e, unsigned nth, void *arg)
{
	const struct gc_adopt *a = arg;

	if (e->has_object || e->has_lease)
		return;
	e->has_object = true;
	e->object = a->objects[nth];
}

static bool
write_records(struct gc *g)
{
	struct gc_adopt *a = g->adopt;
	const struct digest *digests[GC_BATCH];
	unsigned n = a->n;

	a->n = 0;
	if (n == 0)
		return true;
	for (unsigned i = 0; i < n; i++)
		digests[i] = &a->found[i];
	if (index_update_many(g->ix, digests, n, decide_adopt, a) != INDEX_OK)
		return false;
	a->adopted += n;
	count(g, COUNT_ADOPTED, n);
	return true;
}

/* Nobody has a record of it, and nobody is about to make one. False also when the index failed. */
static bool
is_unknown(struct gc *g, const struct digest *d)
{
	struct index_entry e;

	return index_look(g->ix, d, &e) == INDEX_OK && !e.has_object && !e.has_lease;
}

/* A manifest's type is in its content; a config is JSON too, but no manifest. */
static bool
read_media_type(const struct file *f, char out[MEDIA_TYPE_SIZE])
{
	size_t n = (size_t)f->st.st_size, whole;
	const char *text = store_rehash_whole(f->rehash, &whole);
	char *copy = NULL;
	bool is;

	if (text != NULL && whole > 0 && text[0] != '{' && text[0] != ' ' && text[0] != '\n')
		return false;
	if (f->st.st_size > MEDIA_DOCUMENT_MAX)
		return false;
	if (text == NULL) {
		text = copy = xmalloc(n);
		if (pread(store_rehash_fd(f->rehash), copy, n, 0) != (ssize_t)n)
			n = 0;
	}
	is = media_of_manifest(text, n, out);
	free(copy);
	return is;
}

static void
note_right(struct gc_adopt *a, const struct file *f)
{
	struct index_object *o = &a->objects[a->n];
	char type[MEDIA_TYPE_SIZE];
	int64_t now = clock_wall();

	memset(o, 0, sizeof(*o));
	o->kind = OBJECT_BLOB;
	o->size = (uint64_t)f->st.st_size;
	o->fetched_at = store_fetched_at(&f->st);
	o->verified_at = now;
	o->usage = INDEX_NO_USAGE;
	if (read_media_type(f, type) && strlen(type) < sizeof(o->media_type)) {
		o->kind = OBJECT_MANIFEST;
		strcpy(o->media_type, type);
	}
	a->found[a->n++] = f->digest;
}

static void
remove_wrong(struct gc *g, const struct file *f, const char *why)
{
	char text[DIGEST_STR_SIZE];
	uint64_t disk = 0;
	bool counted, removed;

	if (!is_unknown(g, &f->digest))
		return;
	counted = store_file_disk(store_rehash_fd(f->rehash), &disk);
	removed = store_remove_this_object(g->store, &f->digest, store_rehash_fd(f->rehash));
	g->adopt->corrupt++;
	count(g, COUNT_CORRUPT, 1);
	log_error("recovery: object %s is corrupt (%s): %s", digest_str(&f->digest, text), why,
	    removed ? "removed" : strerror(errno));
	if (counted && removed)
		shm_disk_remove(g->start->shm, &f->digest, 0, disk);
}

/* --- files ----------------------------------------------------------------------------------- */

/* Into the queue, if it is an object without a record. False: nothing can be opened at present. */
static bool
pick(struct gc *g, const struct store_found *found)
{
	struct gc_adopt *a = g->adopt;
	struct file *f = &a->queue[(a->first + a->queued) % AHEAD];
	uint64_t size;
	int fd;

	a->seen++;
	if (!found->is_object || !is_unknown(g, &found->digest))
		return true;
	fd = store_open_object(g->store, &found->digest, &size);
	if (fd < 0 && errno == ENOENT)
		return true;
	if (fd < 0) {
		log_warn("recovery: cannot open %s: %s", found->path, strerror(errno));
		count(g, COUNT_STORE_ERRORS, 1);
		return errno != EMFILE && errno != ENFILE;
	}
	*f = (struct file){store_rehash_begin(fd, &found->digest), found->digest, found->st};
	f->st.st_size = (off_t)size;
	store_rehash_ahead(f->rehash);
	a->queued++;
	return true;
}

static bool
fill_queue(struct gc *g)
{
	struct gc_adopt *a = g->adopt;
	struct store_found found;

	while (a->queued < AHEAD && !a->walked) {
		a->walked = !store_walk_next(a->walk, &found);
		if (!a->walked && !pick(g, &found))
			return false;
	}
	return true;
}

static void
leave_queue(struct gc_adopt *a)
{
	store_rehash_end(&a->queue[a->first].rehash);
	a->first = (a->first + 1) % AHEAD;
	a->queued--;
}

/* Some bytes of the first file of the queue. Returns how many. */
static uint64_t
hash_some(struct gc *g, size_t max)
{
	struct gc_adopt *a = g->adopt;
	struct file *f = &a->queue[a->first];
	uint64_t before = store_rehash_bytes(f->rehash), after;
	enum store_rehash_result result = store_rehash_step(f->rehash, max);

	after = store_rehash_bytes(f->rehash);
	if (result == STORE_REHASH_MORE && is_unknown(g, &f->digest))
		return after - before;
	if (result == STORE_REHASH_RIGHT && after == (uint64_t)f->st.st_size)
		note_right(a, f);
	else if (result == STORE_REHASH_WRONG)
		remove_wrong(g, f, "its bytes are not those of its digest");
	else if (result == STORE_REHASH_FAILED && errno == EIO)
		remove_wrong(g, f, strerror(errno));
	leave_queue(a);
	return after - before;
}

/* --- the job --------------------------------------------------------------------------------- */

static void
say(struct gc_adopt *a, const char *what)
{
	log_info("recovery: %s: files=%llu adopted=%llu corrupt=%llu bytes=%llu ms=%llu", what,
	    (unsigned long long)a->seen, (unsigned long long)a->adopted,
	    (unsigned long long)a->corrupt, (unsigned long long)a->bytes,
	    (unsigned long long)(clock_ms() - a->began_ms));
	a->said_ms = clock_ms();
}

enum bite { BITE_MORE, BITE_END, BITE_FAILED };

static enum bite
bite(struct gc *g, size_t max, uint64_t began, uint64_t *bytes)
{
	struct gc_adopt *a = g->adopt;

	while (*bytes < max && clock_ms() - began < BITE_MS) {
		if ((a->n == GC_BATCH && !write_records(g)) || !fill_queue(g))
			return BITE_FAILED;
		if (a->queued == 0)
			return write_records(g) ? BITE_END : BITE_FAILED;
		*bytes += hash_some(g, max - (size_t)*bytes);
	}
	return write_records(g) ? BITE_MORE : BITE_FAILED;
}

static void
begin(struct gc *g)
{
	struct gc_adopt *a = xcalloc(1, sizeof(*a));

	a->walk = store_walk_begin(g->store);
	a->began_ms = a->said_ms = clock_ms();
	g->adopt = a;
}

void
gc_end_adopt(struct gc *g)
{
	if (g->adopt == NULL)
		return;
	store_walk_end(&g->adopt->walk);
	while (g->adopt->queued > 0)
		leave_queue(g->adopt);
	free(g->adopt);
	g->adopt = NULL;
}

/* A failure begins the walk again: what has a record by then is passed over. */
static uint64_t
go_on(struct gc *g, enum bite result, uint64_t bytes, uint64_t took_ms)
{
	struct gc_adopt *a = g->adopt;

	switch (result) {
	case BITE_FAILED:
		gc_end_adopt(g);
		return FAILED_MS;
	case BITE_END:
		say(a, "the index is complete");
		gc_end_adopt(g);
		g->rebuild = false;
		if (!store_set_incomplete(g->store, false))
			log_warn("cannot note that the index is complete: %s", strerror(errno));
		return IDLE_MS;
	case BITE_MORE:
		break;
	}
	if (clock_ms() - a->said_ms > SAY_MS)
		say(a, "under way");
	return gc_rate_pause(&a->owed_us, g->start->conf->gc.layers.check_rate, bytes, took_ms);
}

uint64_t
gc_adopt(struct gc *g)
{
	uint64_t began = clock_ms(), bytes = 0;
	uint64_t max = g->start->conf->gc.layers.check_rate / 10;
	enum bite result;

	if (!g->rebuild)
		return IDLE_MS;
	if (g->adopt == NULL)
		begin(g);
	result = bite(g, max < BITE_BYTES ? (size_t)max : BITE_BYTES, began, &bytes);
	g->adopt->bytes += bytes;
	return go_on(g, result, bytes, clock_ms() - began);
}
