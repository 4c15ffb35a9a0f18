/* The scrub: objects that were not hashed for gc.layers.checkInterval are hashed again, at
 * gc.layers.checkRate and without a trace in the page cache; what is corrupt is removed, and the next
 * request fetches it. Where it is, the index knows: each object's verified_at, so a restart costs no
 * more than the object it was at. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "child.h"
#include "clock.h"
#include "conf.h"
#include "gc_private.h"
#include "index.h"
#include "log.h"
#include "shm_disk.h"
#include "store.h"
#include "store_rehash.h"
#include "store_scan.h"
#include "xalloc.h"

enum {
	BUCKETS = 512,           /* of a sweep: two algorithms, the first byte of the digest */
	BITE_BYTES = 1024 * 1024,
	BITE_MS = 10,            /* many small objects in one bite */
	BITES_A_SECOND = 10,     /* at least, so that a low rate is even */
	SWEEP_MIN_MS = 1000,     /* between the beginnings of two looks for what is due */
	SWEEP_MAX_MS = 3600000,
	OFF_MS = 3600000,        /* checkSHA: false; a reload makes a new gc */
	PAUSE_SWEEP = 1,         /* what bite() says at the end of a sweep */
	FAILED_MS = 60000,       /* after the store could not be read for reasons of our own */
};

struct due {
	struct digest digest;
	struct index_object object; /* as the index had it */
};

struct gc_scrub {
	unsigned bucket;     /* the next one to look into */
	struct due *due;     /* of the last one, … */
	size_t ndue, size;   /* … how many, room for */
	size_t at;           /* the one that is being hashed, or will be */
	struct store_rehash *rehash; /* of due[at]; NULL: not begun */
	uint64_t began_ms;   /* clock_ms: this sweep */
	uint64_t owed_us;    /* pause that is due for what was read */
	uint64_t objects, bytes, corrupt; /* of this sweep */
};

/* --- what is due ----------------------------------------------------------------------------- */

/* A time in the future is another clock's: it says nothing. */
static bool
is_due(const struct gc *g, const struct index_object *o, int64_t now)
{
	int64_t interval = (int64_t)(g->start->conf->gc.layers.check_interval / 1000);

	return o->verified_at > now || now - o->verified_at >= interval;
}

struct collecting {
	struct gc *gc;
	int64_t now;
};

static bool
collect(const struct digest *d, const struct index_object *o, void *arg)
{
	const struct collecting *c = arg;
	struct gc_scrub *s = c->gc->scrub;

	if (!is_due(c->gc, o, c->now))
		return true;
	if (s->ndue == s->size) {
		s->size = s->size == 0 ? 64 : 2 * s->size;
		s->due = xrealloc(s->due, s->size * sizeof(*s->due));
	}
	s->due[s->ndue++] = (struct due){*d, *o};
	return true;
}

/* False: the sweep is at its end. */
static bool
next_bucket(struct gc *g)
{
	struct gc_scrub *s = g->scrub;
	struct collecting c = {g, clock_wall()};
	unsigned n = s->bucket++;

	s->ndue = s->at = 0;
	if (n >= BUCKETS)
		return false;
	return index_each_object_in(g->ix, n < BUCKETS / 2 ? DIGEST_SHA256 : DIGEST_SHA512,
		   (uint8_t)(n % (BUCKETS / 2)), collect, &c) != INDEX_ERROR;
}

/* --- what comes of it ------------------------------------------------------------------------ */

static void
count(struct gc *g, enum shm_counter c, uint64_t n)
{
	shm_count(g->start->shm, g->start->number, c, n);
}

/* The record is still the one whose file was hashed. */
static bool
is_same(const struct index_entry *e, const struct index_object *o)
{
	return e->has_object && e->object.fetched_at == o->fetched_at &&
	    e->object.size == o->size && e->object.verified_at == o->verified_at;
}

static void
decide_verified(struct index_entry *e, void *arg)
{
	const struct due *d = arg;

	if (is_same(e, &d->object))
		e->object.verified_at = clock_wall();
}

struct dropping {
	const struct due *due;
	bool done;
};

/* What is being filled again is not touched. */
static void
decide_drop(struct index_entry *e, void *arg)
{
	struct dropping *d = arg;

	d->done = is_same(e, &d->due->object) && !e->has_lease;
	if (d->done)
		e->has_object = false;
}

/* First the record, so that nobody new is sent it; then the file, if it is still that one. Who is
 * being sent it goes on: his client sees that the digest is wrong. */
static void
remove_corrupt(struct gc *g, const struct due *d, const char *why)
{
	struct gc_scrub *s = g->scrub;
	struct dropping dropping = {.due = d};
	char text[DIGEST_STR_SIZE];
	uint64_t disk;
	bool removed;

	if (index_update(g->ix, &d->digest, decide_drop, &dropping) != INDEX_OK || !dropping.done)
		return;
	store_object_disk(g->store, &d->digest, &disk);
	removed = s->rehash != NULL ? store_remove_this_object(g->store, &d->digest, store_rehash_fd(s->rehash))
				    : store_remove_object(g->store, &d->digest);
	if (removed)
		shm_disk_remove(g->start->shm, &d->digest, d->object.kind == OBJECT_MANIFEST, disk);
	s->corrupt++;
	count(g, COUNT_CORRUPT, 1);
	log_error("scrub: object %s is corrupt (%s): %s", digest_str(&d->digest, text), why,
	    removed ? "removed" : strerror(errno));
}

static void
verified(struct gc *g, struct due *d)
{
	(void)index_update(g->ix, &d->digest, decide_verified, d);
	g->scrub->objects++;
	count(g, COUNT_SCRUBBED, 1);
}

static void
next_object(struct gc_scrub *s)
{
	store_rehash_end(&s->rehash);
	s->at++;
}

/* --- hashing --------------------------------------------------------------------------------- */

/* The disk's fault, or ours? */
static bool
is_unreadable(int error)
{
	return error == EIO || error == EUCLEAN || error == EBADMSG || error == ENODATA;
}

/* False: nothing can be read at present. */
static bool
failed(struct gc *g, const struct due *d, int error)
{
	char text[DIGEST_STR_SIZE];

	if (error == ENOENT || is_unreadable(error)) {
		remove_corrupt(g, d, strerror(error));
		return true;
	}
	log_warn("scrub: cannot read %s: %s", digest_str(&d->digest, text), strerror(error));
	count(g, COUNT_STORE_ERRORS, 1);
	return false;
}

/* NULL, and *ok as failed() says: it is not to be hashed. */
static struct store_rehash *
begin_object(struct gc *g, const struct due *d, bool *ok)
{
	uint64_t size;
	int fd = store_open_object(g->store, &d->digest, &size);

	*ok = fd >= 0 || failed(g, d, errno);
	if (fd < 0)
		return NULL;
	g->scrub->rehash = store_rehash_begin(fd, &d->digest);
	if (size == d->object.size)
		return g->scrub->rehash;
	remove_corrupt(g, d, "it has another size");
	return NULL;
}

/* Some bytes of the object at hand. False: nothing can be read at present. */
static bool
hash_some(struct gc *g, size_t max, uint64_t *bytes)
{
	struct gc_scrub *s = g->scrub;
	struct due *d = &s->due[s->at];
	struct store_rehash *r = s->rehash;
	enum store_rehash_result result;
	uint64_t before;
	bool ok = true;

	if (r == NULL && (r = begin_object(g, d, &ok)) == NULL) {
		next_object(s);
		return ok;
	}
	before = store_rehash_bytes(r);
	result = store_rehash_step(r, max);
	if (result == STORE_REHASH_FAILED)
		ok = failed(g, d, errno);
	else if (result == STORE_REHASH_WRONG)
		remove_corrupt(g, d, "its bytes are not those of its digest");
	else if (result == STORE_REHASH_RIGHT)
		verified(g, d);
	*bytes += store_rehash_bytes(r) - before;
	if (result != STORE_REHASH_MORE)
		next_object(s);
	return ok;
}

/* --- the job --------------------------------------------------------------------------------- */

static void
begin_sweep(struct gc_scrub *s)
{
	s->bucket = 0;
	s->ndue = s->at = 0;
	s->objects = s->bytes = s->corrupt = 0;
	s->began_ms = clock_ms();
}

static uint64_t
end_sweep(struct gc *g)
{
	struct gc_scrub *s = g->scrub;
	uint64_t took = clock_ms() - s->began_ms;
	uint64_t wait = g->start->conf->gc.layers.check_interval / 10;

	if (s->objects + s->corrupt > 0)
		log_info("scrub: objects=%llu bytes=%llu corrupt=%llu ms=%llu",
		    (unsigned long long)s->objects, (unsigned long long)s->bytes,
		    (unsigned long long)s->corrupt, (unsigned long long)took);
	begin_sweep(s);
	return wait < SWEEP_MIN_MS ? SWEEP_MIN_MS : wait > SWEEP_MAX_MS ? SWEEP_MAX_MS : wait;
}

uint64_t
gc_rate_pause(uint64_t *owed_us, uint64_t rate, uint64_t bytes, uint64_t took_ms)
{
	uint64_t ms;

	*owed_us += bytes * 1000000 / rate;
	ms = *owed_us / 1000;
	*owed_us %= 1000;
	return ms > took_ms + 1 ? ms - took_ms : 1;
}

/* No shorter than the bite was: half of a CPU at most. */
static uint64_t
pause_after(struct gc *g, uint64_t bytes, uint64_t took_ms)
{
	uint64_t ms = gc_rate_pause(
	    &g->scrub->owed_us, g->start->conf->gc.layers.check_rate, bytes, took_ms);

	return ms < took_ms ? took_ms : ms;
}

static size_t
bite_size(const struct gc *g)
{
	uint64_t bytes = g->start->conf->gc.layers.check_rate / BITES_A_SECOND;

	return bytes < BITE_BYTES ? (size_t)bytes : BITE_BYTES;
}

/* Hashes up to `max` bytes. 0: there is more; else how long to wait. */
static uint64_t
bite(struct gc *g, size_t max, uint64_t began, uint64_t *bytes)
{
	struct gc_scrub *s = g->scrub;

	while (*bytes < max && clock_ms() - began < BITE_MS) {
		if (s->at == s->ndue && !next_bucket(g))
			return PAUSE_SWEEP;
		if (s->at < s->ndue && !hash_some(g, max - (size_t)*bytes, bytes))
			return FAILED_MS;
	}
	return 0;
}

uint64_t
gc_scrub(struct gc *g)
{
	uint64_t began = clock_ms(), bytes = 0, wait;

	if (!g->start->conf->gc.layers.check_sha)
		return OFF_MS;
	if (g->scrub == NULL)
		begin_sweep(g->scrub = xcalloc(1, sizeof(*g->scrub)));
	wait = bite(g, bite_size(g), began, &bytes);
	g->scrub->bytes += bytes;
	count(g, COUNT_BYTES_SCRUBBED, bytes);
	if (wait == PAUSE_SWEEP)
		return end_sweep(g);
	return wait > 0 ? wait : pause_after(g, bytes, clock_ms() - began);
}

void
gc_end_scrub(struct gc *g)
{
	if (g->scrub == NULL)
		return;
	store_rehash_end(&g->scrub->rehash);
	free(g->scrub->due);
	free(g->scrub);
	g->scrub = NULL;
}
