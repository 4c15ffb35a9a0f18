/* Leading a fill: its turn in the queue, the lease, what is already on disk (a dead leader's
 * part, an object file without a record), and publishing. The transfer itself is fill_fetch.c's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "clock.h"
#include "fill_private.h"
#include "log.h"
#include "media.h"
#include "shm_disk.h"
#include "store.h"
#include "store_scan.h"
#include "registry.h"
#include "xalloc.h"

static char *
copy(const char *s)
{
	return s != NULL ? xstrdup(s) : NULL;
}

void
lead_begin(struct fill *f, const struct fill_want *want)
{
	f->source = (struct fill_source){
	    .scheme = xstrdup(want->scheme),
	    .host = xstrdup(want->host),
	    .target = xstrdup(want->target),
	    .authorization = copy(want->authorization),
	    .accept = copy(want->accept),
	    .unproven = copy(want->unproven),
	    .registry = want->registry,
	    .first_host = want->first_host,
	    .deadline_ms = want->deadline_ms,
	    .kind = want->kind,
	};
	f->client = want->client;
}

void
lead_release(struct fill *f)
{
	free(f->source.scheme);
	free(f->source.host);
	free(f->source.target);
	free(f->source.authorization);
	free(f->source.accept);
	free(f->source.unproven);
	f->source = (struct fill_source){0};
	decode_release(f);
	registry_cancel(&f->call);
	hasher_free(&f->hasher);
	buf_free(&f->gather);
	if (f->timer != NULL)
		event_free(f->timer);
	f->timer = NULL;
}

static uint64_t
due(const struct fill *f)
{
	return turns_due(&f->fills->turns, f->client, f->since);
}

/* Whose turn it is of those that wait for a slot; NULL: nobody's. */
static struct fill *
next_in_turn(const struct fills *fs, const struct fill *but)
{
	struct fill *f, *first = NULL;

	TAILQ_FOREACH(f, &fs->all, all)
	if (f->phase == PHASE_QUEUED && f != but && (first == NULL || due(f) < due(first)))
		first = f;
	return first;
}

/* Since when this listener waits, for the others, in clock_ms; 0: it does not. */
static uint64_t
waits_since(const struct fills *fs, const struct fill *but)
{
	const struct fill *f = next_in_turn(fs, but);

	return f != NULL ? due(f) : 0;
}

/* --- ending ----------------------------------------------------------------------------------- */

static void
end_slot(struct fill *f, enum fill_state state, enum fill_end reason)
{
	if (f->ref.seq == 0)
		return;
	if (state != FILL_DONE)
		shm_fill_set_size(
		    f->fills->c.shm, f->ref, f->size, FILL_STATUS_REASON + (unsigned)reason);
	shm_fill_end(f->fills->c.shm, f->ref, state);
	f->ref.seq = 0;
}

static void
end_lead(struct fill *f, enum fill_state state, enum fill_end end)
{
	struct fills *fs = f->fills;
	bool queued = f->phase == PHASE_QUEUED;

	f->has_lease = false;
	end_slot(f, state, end);
	lead_release(f);
	if (queued)
		shm_fill_unwait(fs->c.shm, fs->c.owner.listener, waits_since(fs, f));
	fill_ended(f, end);
}

/* Other credentials, or another upstream, may go on where these could not. */
static bool
can_be_gone_on_with(const struct fill *f, enum fill_end end)
{
	if (!f->has_lease || f->phase != PHASE_FETCH || f->coding != CODING_NONE || space_waits(f) ||
	    f->bytes + buf_len(&f->gather) > shm_disk_reserved(f->fills->c.shm, f->ref))
		return false;
	return end == FILL_END_AGAIN ||
	    ((end == FILL_END_UPSTREAM || end == FILL_END_TIMEOUT) && f->bytes > 0);
}

void
lead_abort(struct fill *f, enum fill_end end)
{
	struct fills *fs = f->fills;

	registry_cancel(&f->call);
	if (can_be_gone_on_with(f, end) && fetch_write(f)) {
		end_lead(f, FILL_ABANDONED, end); /* lease and part stay for who takes it over */
		return;
	}
	if (f->has_lease) {
		store_remove_part(fs->c.store, &f->digest, f->lease.id);
		(void)lease_drop(fs->c.index, &f->digest, f->lease.id);
	}
	end_lead(f, FILL_FAILED, end);
}

/* --- publishing ------------------------------------------------------------------------------- */

/* The registry did not say the type: the document does (WIRE.md 4.1). */
static void
derive_media_type(struct fill *f)
{
	char type[MEDIA_TYPE_SIZE], *text;
	size_t n = (size_t)f->bytes;

	if (f->source.kind != OBJECT_MANIFEST || f->media_type[0] != '\0' ||
	    f->bytes > MEDIA_DOCUMENT_MAX)
		return;
	text = xmalloc(n + 1);
	if (pread(f->fd, text, n, 0) == (ssize_t)n && media_of_manifest(text, n, type) &&
	    strlen(type) < sizeof(f->media_type))
		strcpy(f->media_type, type);
	free(text);
}

/* The upstream has delivered the object itself (DESIGN.md section 6). */
static void
note_proof(struct fill *f)
{
	struct fills *fs = f->fills;

	if (f->source.unproven != NULL && !f->inherited)
		(void)index_put_proof(fs->c.index, f->source.unproven, &f->digest);
}

/* What is adopted was fetched in another life of the index. */
static int64_t
fetched_at(const struct fill *f, bool rename_part)
{
	struct stat st;

	return rename_part || fstat(f->fd, &st) != 0 ? clock_wall() : store_fetched_at(&st);
}

static void
publish(struct fill *f, bool rename_part)
{
	struct fills *fs = f->fills;
	struct index_object o = {
	    .kind = (uint8_t)f->source.kind,
	    .size = f->bytes,
	    .fetched_at = fetched_at(f, rename_part),
	    .verified_at = clock_wall(),
	    .usage = INDEX_NO_USAGE,
	};

	uint64_t disk = rename_part ? space_becomes_object(f) : 0;

	note_proof(f);
	derive_media_type(f);
	memcpy(o.media_type, f->media_type, sizeof(o.media_type));
	if (rename_part && !store_publish_part(fs->c.store, &f->digest, f->lease.id)) {
		log_error("store: cannot publish: %s", strerror(errno));
		shm_count(fs->c.shm, fs->c.owner.listener, COUNT_STORE_ERRORS, 1);
		store_remove_part(fs->c.store, &f->digest, f->lease.id);
		space_becomes_none(f, disk);
		(void)lease_drop(fs->c.index, &f->digest, f->lease.id);
	} else {
		(void)lease_publish(fs->c.index, &f->digest, f->lease.id, &o);
	}
	end_lead(f, FILL_DONE, FILL_END_DONE);
}

static bool
digest_right(struct fill *f)
{
	struct digest got;
	char want_text[DIGEST_STR_SIZE], got_text[DIGEST_STR_SIZE];

	hasher_final(f->hasher, &got);
	hasher_free(&f->hasher);
	if (digest_equal(&got, &f->digest))
		return true;
	shm_count(f->fills->c.shm, f->fills->c.owner.listener, COUNT_DIGEST_FAILURES, 1);
	log_error("fill %s: wrong digest: %llu bytes from %s://%s%.*s are %s",
	    digest_str(&f->digest, want_text), (unsigned long long)f->bytes, f->source.scheme,
	    f->source.host, (int)strcspn(f->source.target, "?"), f->source.target,
	    digest_str(&got, got_text)); /* a query may hold a secret */
	return false;
}

void
lead_finish(struct fill *f)
{
	if (!fetch_flush(f))
		return;
	f->finish_due = space_waits(f);
	if (f->finish_due)
		return;
	if (f->coding != CODING_NONE && !f->decoded && !hasher_is(f->hasher, &f->digest)) {
		decode_begin(f);
		return;
	}
	if (!digest_right(f)) {
		lead_abort(f, FILL_END_DIGEST);
		return;
	}
	if (f->coding != CODING_NONE && !store_keep_to_leader(f->fd, false))
		log_warn("store: chmod of a part: %s", strerror(errno));
	f->size = (int64_t)f->bytes;
	f->verified = true;
	fill_measure(f);
	shm_fill_set_size(f->fills->c.shm, f->ref, f->size, 200);
	shm_fill_progress(f->fills->c.shm, f->ref, f->bytes);
	shm_fill_verified(f->fills->c.shm, f->ref);
	publish(f, f->phase != PHASE_ADOPT);
}

/* --- what is on disk already ------------------------------------------------------------------ */

bool
lead_new_part(struct fill *f)
{
	struct fills *fs = f->fills;
	int fd = store_create_part(fs->c.store, &f->digest, f->lease.id);

	if (fd < 0) {
		log_warn("store: cannot make a part file: %s", strerror(errno));
		shm_count(fs->c.shm, fs->c.owner.listener, COUNT_STORE_ERRORS, 1);
		lead_abort(f, FILL_END_UNCACHED);
		return false;
	}
	fill_use_file(f, fd);
	hasher_free(&f->hasher);
	f->hasher = hasher_new((enum digest_algo)f->digest.algo);
	f->bytes = 0;
	f->flushed = 0;
	f->verified = false;
	return true;
}

void
lead_fetch_afresh(struct fill *f)
{
	if (!lead_new_part(f))
		return;
	decode_release(f);
	f->coding = CODING_NONE;
	f->decoded = f->inherited = false;
	fill_set_phase(f, PHASE_FETCH);
	fetch_start(f);
}

static void
hash_file(struct fill *f, int fd, uint64_t size, enum fill_phase phase)
{
	struct timeval now = {0, 0};

	fill_use_file(f, fd);
	f->hasher = hasher_new((enum digest_algo)f->digest.algo);
	f->file_left = size;
	f->inherited = true;
	fill_set_phase(f, phase);
	event_add(f->fills->work, &now);
}

/* A dead leader's part is gone on with only when nobody can write to it any more. */
static bool
inherit(struct fill *f, const struct lease_answer *a)
{
	struct fills *fs = f->fills;
	struct stat st;
	int fd;

	if (!a->inherited)
		return false;
	if (!a->dead_for_sure) {
		store_remove_part(fs->c.store, &f->digest, a->dead.id);
		return false;
	}
	fd = store_inherit_part(fs->c.store, &f->digest, a->dead.id, f->lease.id);
	if (fd < 0) {
		store_remove_part(fs->c.store, &f->digest, a->dead.id);
		return false;
	}
	if (fstat(fd, &st) != 0) {
		close(fd);
		return false;
	}
	shm_count(fs->c.shm, fs->c.owner.listener, COUNT_TAKEOVERS, 1);
	log_info("fill of lease %016llx taken over with %lld bytes on disk",
	    (unsigned long long)a->dead.id, (long long)st.st_size);
	hash_file(f, fd, (uint64_t)st.st_size, PHASE_REHASH);
	space_inherit(f);
	return true;
}

static bool
adopt(struct fill *f)
{
	uint64_t size;
	int fd = store_open_object(f->fills->c.store, &f->digest, &size);

	if (fd < 0)
		return false;
	shm_fill_set_size(f->fills->c.shm, f->ref, -1, FILL_STATUS_HASHING);
	hash_file(f, fd, size, PHASE_ADOPT);
	return true;
}

static void
adopt_failed(struct fill *f)
{
	char text[DIGEST_STR_SIZE];
	uint64_t disk;

	log_error(
	    "store: object %s is corrupt: removed, fetched again", digest_str(&f->digest, text));
	shm_count(f->fills->c.shm, f->fills->c.owner.listener, COUNT_CORRUPT, 1);
	if (store_file_disk(f->fd, &disk) && store_remove_object(f->fills->c.store, &f->digest))
		space_becomes_none(f, disk);
	lead_fetch_afresh(f);
}

static void
adopted(struct fill *f)
{
	struct digest got;

	hasher_final(f->hasher, &got);
	if (!digest_equal(&got, &f->digest)) {
		adopt_failed(f);
		return;
	}
	hasher_free(&f->hasher);
	shm_count(f->fills->c.shm, f->fills->c.owner.listener, COUNT_ADOPTED, 1);
	f->size = (int64_t)f->bytes;
	f->verified = true;
	publish(f, false);
}

static void
step_done(struct fill *f)
{
	if (f->phase == PHASE_ADOPT) {
		adopted(f);
		return;
	}
	fill_set_phase(f, PHASE_FETCH);
	if (hasher_is(f->hasher, &f->digest)) /* the dead leader had it all */
		lead_finish(f);
	else
		fetch_start(f);
}

/* An object that the disk cannot give, or that has become shorter, is fetched again. */
static void
cannot_read(struct fill *f, int error)
{
	log_error("store: cannot read what is on disk: %s", strerror(error));
	shm_count(f->fills->c.shm, f->fills->c.owner.listener, COUNT_STORE_ERRORS, 1);
	if (f->phase == PHASE_ADOPT && error == EIO)
		adopt_failed(f);
	else
		lead_abort(f, FILL_END_UNCACHED);
}

void
lead_step(struct fill *f)
{
	static unsigned char block[65536];
	size_t step = 0;

	while (f->file_left > 0 && step < FILL_STEP) {
		size_t want = f->file_left < sizeof(block) ? (size_t)f->file_left : sizeof(block);
		ssize_t n = pread(f->fd, block, want, (off_t)f->bytes);

		if (n <= 0) {
			cannot_read(f, n == 0 ? EIO : errno);
			return;
		}
		hasher_update(f->hasher, block, (size_t)n);
		f->bytes += (uint64_t)n;
		f->file_left -= (uint64_t)n;
		step += (size_t)n;
	}
	if (f->phase == PHASE_REHASH) {
		shm_fill_progress(f->fills->c.shm, f->ref, f->bytes);
		fill_tell(f);
	}
	if (f->file_left == 0)
		step_done(f);
}

/* --- queue and lease -------------------------------------------------------------------------- */

static void
lead(struct fill *f, const struct lease_answer *a)
{
	struct fills *fs = f->fills;

	f->has_lease = true;
	f->lease = a->lease;
	shm_fill_set_source(fs->c.shm, f->ref, f->upstream_hash);
	shm_count(fs->c.shm, fs->c.owner.listener, COUNT_FILLS, 1);
	if (!inherit(f, a) && !adopt(f))
		lead_fetch_afresh(f);
}

/* False: there is no slot for it now. Else it may be gone. */
static bool
try_to_lead(struct fill *f)
{
	struct fills *fs = f->fills;
	struct lease_answer a;

	if (!shm_fill_claim(fs->c.shm, fs->c.owner.listener, &f->digest, due(f), &f->ref)) {
		f->ref.seq = 0;
		f->had_to_wait = true;
		return false;
	}
	if (f->had_to_wait)
		fill_measure_wait(f, true);
	turns_served(&fs->turns, f->client, clock_ms());
	shm_fill_unwait(fs->c.shm, fs->c.owner.listener, waits_since(fs, f));
	if (f->source.deadline_ms != 0)
		f->source.deadline_ms += clock_ms() - f->since;
	f->since = clock_ms();
	switch (lease_take(fs->c.index, fs->c.shm, &f->digest, &fs->c.owner, f->ref, &a)) {
	case LEASE_LEAD:
		lead(f, &a);
		break;
	case LEASE_OBJECT:
	case LEASE_FOLLOW: /* somebody else was faster */
		end_lead(f, FILL_DONE, FILL_END_AGAIN);
		break;
	case LEASE_ERROR:
		end_lead(f, FILL_FAILED, FILL_END_UNCACHED);
		break;
	}
	return true;
}

void
lead_try(struct fills *fs)
{
	struct fill *f;

	while ((f = next_in_turn(fs, NULL)) != NULL && try_to_lead(f))
		;
}
