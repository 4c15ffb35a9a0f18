/* The room on disk that a fill's part needs: reserved before it is written, in steps when the length
 * is not known. A leader without room pauses its transfer while gc evicts, for a short time, and
 * then gives the object to its own client uncached. */
#include <errno.h>
#include <string.h>

#include "clock.h"
#include "fill_private.h"
#include "log.h"
#include "registry.h"
#include "shm_disk.h"
#include "store.h"
#include "store_scan.h"

enum {
	SPACE_WAIT_MS = 2000,
	SPACE_BLOCK = 4096,       /* what a file system gives at a time */
	SPACE_STEP = 1024 * 1024, /* bytes reserved ahead of a length that is not known */
	SPACE_STEP_PART = 8,      /* … or this part of what is there, if that is more */
	SPACE_LOG_MS = 10000,
};

/* --- asking ---------------------------------------------------------------------------------- */

static uint64_t
blocks(uint64_t bytes)
{
	return (bytes + SPACE_BLOCK - 1) / SPACE_BLOCK * SPACE_BLOCK;
}

/* The file system sets the blocks aside, where it can. What it takes is what counts. */
static bool
allocate(struct fill *f)
{
	struct fills *fs = f->fills;
	uint64_t disk;

	if (!store_reserve(f->fd, (uint64_t)f->size)) {
		log_warn("store: cannot reserve %lld bytes: %s", (long long)f->size,
		    strerror(errno));
		shm_count(fs->c.shm, fs->c.owner.listener, COUNT_STORE_ERRORS, 1);
		return false;
	}
	if (!store_file_disk(f->fd, &disk) || disk < (uint64_t)f->size)
		return true;
	if (disk > shm_disk_reserved(fs->c.shm, f->ref))
		shm_disk_reserve_anyway(fs->c.shm, f->ref, disk);
	shm_disk_allocated(fs->c.shm, f->ref);
	return true;
}

static enum shm_room
ask(struct fill *f, uint64_t bytes)
{
	struct fills *fs = f->fills;
	enum shm_room room =
	    shm_disk_reserve(fs->c.shm, f->ref, bytes, store_free(fs->c.store));

	return room == ROOM_HAD && f->size >= 0 && !allocate(f) ? ROOM_NEVER : room;
}

/* And a block for the folder that it may be the first in, and for its record. */
static uint64_t
whole(const struct fill *f)
{
	return blocks((uint64_t)f->size) + SPACE_BLOCK;
}

/* What the part needs for `bytes` bytes of the object and some more. What the file system has put
 * behind its end counts, too. */
static uint64_t
ahead_of(const struct fill *f, uint64_t bytes)
{
	uint64_t step = bytes / SPACE_STEP_PART > SPACE_STEP ? bytes / SPACE_STEP_PART : SPACE_STEP;
	uint64_t disk;

	if (store_file_disk(f->fd, &disk) && disk > bytes)
		bytes = disk;
	return blocks(bytes + step); /* a folder's block among it */
}

/* --- waiting --------------------------------------------------------------------------------- */

static void
log_no_room(const struct fill *f)
{
	static uint64_t logged_ms;
	static unsigned unsaid;
	uint64_t now = clock_ms();
	char text[DIGEST_STR_SIZE];

	if (logged_ms != 0 && now - logged_ms < SPACE_LOG_MS) {
		unsaid++;
		return;
	}
	log_warn("no room for %s, %lld bytes (-1: not said): passed through; %u others since the "
		 "last line like this",
	    digest_str(&f->digest, text), (long long)f->size, unsaid);
	logged_ms = now;
	unsaid = 0;
}

/* Ends the fill. Who leads may have the object for itself. */
static void
no_room(struct fill *f)
{
	struct fills *fs = f->fills;

	log_no_room(f);
	f->room_wanted = 0;
	shm_count(fs->c.shm, fs->c.owner.listener, COUNT_NO_ROOM, 1);
	fetch_keep_for_origin(f);
	lead_abort(f, FILL_END_UNCACHED);
}

static bool
want(struct fill *f, uint64_t bytes)
{
	switch (ask(f, bytes)) {
	case ROOM_HAD:
		return true;
	case ROOM_LACKING:
		if (f->room_wanted == 0)
			f->room_until = clock_ms() + SPACE_WAIT_MS;
		f->room_wanted = bytes;
		if (f->call != NULL)
			registry_pause(f->call);
		return true;
	case ROOM_NEVER:
		break;
	}
	no_room(f);
	return false;
}

bool
space_waits(const struct fill *f)
{
	return f->room_wanted != 0;
}

bool
space_for_answer(struct fill *f)
{
	uint64_t bytes = f->size >= 0 ? whole(f) : ahead_of(f, f->bytes);

	if (bytes <= shm_disk_reserved(f->fills->c.shm, f->ref))
		return true;
	return want(f, bytes);
}

bool
space_for_more(struct fill *f)
{
	uint64_t bytes = f->bytes + buf_len(&f->gather) + f->beside;

	if (space_waits(f) || bytes <= shm_disk_reserved(f->fills->c.shm, f->ref))
		return true;
	if (f->size < 0)
		return want(f, f->beside + ahead_of(f, bytes - f->beside));
	log_warn("fill: %s sends more than the %lld bytes that it said", f->source.host,
	    (long long)f->size);
	buf_free(&f->gather);
	lead_abort(f, FILL_END_DIGEST);
	return false;
}

/* Room was made, perhaps, or the time is over. */
void
space_retry(struct fill *f)
{
	struct fills *fs = f->fills;
	uint64_t bytes = f->room_wanted;
	enum shm_room room = ask(f, bytes);

	if (room == ROOM_LACKING && clock_ms() < f->room_until)
		return;
	if (room != ROOM_HAD) {
		shm_disk_unwait(fs->c.shm, f->ref);
		no_room(f);
		return;
	}
	f->room_wanted = 0;
	if (f->finish_due) {
		f->finish_due = false;
		lead_finish(f);
	} else if (fetch_flush(f) && !space_waits(f)) {
		if (f->call != NULL)
			registry_resume(f->call);
		decode_resume(f);
	}
}

/* --- what is on disk already ----------------------------------------------------------------- */

void
space_inherit(struct fill *f)
{
	uint64_t disk;

	if (store_file_disk(f->fd, &disk))
		shm_disk_reserve_anyway(f->fills->c.shm, f->ref, disk);
}

uint64_t
space_becomes_object(struct fill *f)
{
	uint64_t disk;

	if (!store_file_disk(f->fd, &disk))
		disk = f->bytes;
	if (!store_has_folder(f->fills->c.store, &f->digest))
		shm_disk_add_overhead(f->fills->c.shm, SPACE_BLOCK);
	shm_disk_add(f->fills->c.shm, &f->digest, f->source.kind - 1u, disk);
	return disk;
}

void
space_becomes_none(struct fill *f, uint64_t disk)
{
	shm_disk_remove(f->fills->c.shm, &f->digest, f->source.kind - 1u, disk);
}
