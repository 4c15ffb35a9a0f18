/* Fills: the listener's table of them, their clients, and who is told what. Leading is
 * fill_lead.c's and fill_fetch.c's, following fill_follow.c's. */
#include "fill.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "clock.h"
#include "fill_private.h"
#include "log.h"
#include "notes.h"
#include "refusal.h"
#include "registry.h"
#include "xalloc.h"

enum { SWEEP_MS = 250, ALIVE_SWEEPS = 40 };

const char *
fill_phase_name(enum fill_phase p)
{
	static const char *const names[] = {
	    "queued", "adopt", "rehash", "fetch", "decode", "follow", "ended"};

	return names[p];
}

const char *
fill_end_name(enum fill_end e)
{
	static const char *const names[] = {"going on", "done", "again", "refused", "busy",
	    "upstream failed", "upstream timed out", "wrong digest", "not to be cached"};

	return names[e];
}

/* --- the table -------------------------------------------------------------------------------- */

static struct fill *
find(struct fills *fs, const struct digest *d)
{
	struct fill *f;

	LIST_FOREACH(f, &fs->buckets[d->bytes[0] % FILL_BUCKETS], link)
	if (digest_equal(&f->digest, d))
		return f;
	return NULL;
}

struct fill *
fill_new(struct fills *fs, const struct digest *d, enum fill_phase phase)
{
	struct fill *f = xcalloc(1, sizeof(*f));

	f->fills = fs;
	f->digest = *d;
	f->phase = phase;
	f->fd = -1;
	f->size = -1;
	f->since = clock_ms();
	TAILQ_INIT(&f->clients);
	LIST_INSERT_HEAD(&fs->buckets[d->bytes[0] % FILL_BUCKETS], f, link);
	TAILQ_INSERT_TAIL(&fs->all, f, all);
	return f;
}

static void
fill_free(struct fill *f)
{
	lead_release(f);
	registry_cancel(&f->spare);
	refusal_free(&f->refusal);
	notes_free(&f->notes);
	if (f->fd >= 0)
		close(f->fd);
	free(f);
}

void
fill_set_phase(struct fill *f, enum fill_phase phase)
{
	char text[DIGEST_STR_SIZE];

	if (log_enabled(LOG_L_TRACE))
		log_trace("fill %s: %s -> %s", digest_str(&f->digest, text),
		    fill_phase_name(f->phase), fill_phase_name(phase));
	f->phase = phase;
}

void
fill_use_file(struct fill *f, int fd)
{
	struct stat st = {0};

	if (f->fd >= 0)
		close(f->fd);
	f->fd = fd;
	if (fstat(fd, &st) != 0) /* then no client goes on in it: inode 0 is no file */
		log_warn("fill: fstat: %s", strerror(errno));
	f->device = st.st_dev;
	f->inode = st.st_ino;
}

void
fill_ended(struct fill *f, enum fill_end end)
{
	char text[DIGEST_STR_SIZE];

	if (f->phase == PHASE_ENDED)
		return;
	log_debug("fill %s: %s ended: %s, %llu bytes", digest_str(&f->digest, text),
	    fill_phase_name(f->phase), fill_end_name(end), (unsigned long long)f->bytes);
	fill_set_phase(f, PHASE_ENDED);
	f->end = end;
	LIST_REMOVE(f, link);
	TAILQ_REMOVE(&f->fills->all, f, all);
	fill_tell(f);
	if (TAILQ_EMPTY(&f->clients))
		fill_free(f);
}

/* --- clients ---------------------------------------------------------------------------------- */

void
fill_tell(struct fill *f)
{
	struct fills *fs = f->fills;
	struct fill_client *c;

	TAILQ_FOREACH(c, &f->clients, link)
	{
		if (c->due)
			continue;
		c->due = true;
		c->due_turn = fs->turn;
		TAILQ_INSERT_TAIL(&fs->pending, c, pending);
	}
	if (!TAILQ_EMPTY(&fs->pending))
		event_active(fs->tell, EV_TIMEOUT, 1);
}

/* A client told may leave, and may make clients due: those made due meanwhile wait for the next
 * turn. */
static void
tell_pending(evutil_socket_t fd, short what, void *arg)
{
	struct fills *fs = arg;
	struct fill_client *c;

	(void)fd;
	(void)what;
	fs->turn++;
	while ((c = TAILQ_FIRST(&fs->pending)) != NULL && c->due_turn != fs->turn) {
		TAILQ_REMOVE(&fs->pending, c, pending);
		c->due = false;
		c->changed(c->arg);
	}
	if (c != NULL)
		event_active(fs->tell, EV_TIMEOUT, 1);
}

/* FNV-1a over scheme and host; never 0. */
static uint32_t
upstream_hash(const char *scheme, const char *host)
{
	uint32_t h = 2166136261u;

	for (; *scheme != '\0'; scheme++)
		h = (h ^ (unsigned char)*scheme) * 16777619u;
	for (; *host != '\0'; host++)
		h = (h ^ (unsigned char)*host) * 16777619u;
	return h != 0 ? h : 1;
}

static struct fill_client *
add_client(
    struct fill *f, const struct fill_want *want, bool origin, fill_changed_fn *changed, void *arg)
{
	struct fill_client *c = xcalloc(1, sizeof(*c));

	c->fill = f;
	c->changed = changed;
	c->arg = arg;
	c->checked = want->checked;
	c->origin = origin;
	c->upstream_hash = upstream_hash(want->scheme, want->host);
	TAILQ_INSERT_TAIL(&f->clients, c, link);
	return c;
}

static enum fill_join
join_new(struct fills *fs, const struct fill_want *want, struct fill **f, bool *origin)
{
	struct lease_answer a;

	switch (lease_peek(fs->c.index, fs->c.shm, want->digest, &a)) {
	case LEASE_OBJECT:
		return FILL_JOIN_OBJECT;
	case LEASE_ERROR:
		return FILL_JOIN_UNCACHED;
	case LEASE_FOLLOW:
		if (!want->checked)
			return FILL_JOIN_CHECK;
		*f = fill_new(fs, want->digest, PHASE_FOLLOW);
		follow_begin(*f, &a.lease);
		return FILL_JOINED;
	case LEASE_LEAD:
		break;
	}
	*f = fill_new(fs, want->digest, PHASE_QUEUED);
	(*f)->upstream_hash = upstream_hash(want->scheme, want->host);
	*origin = true;
	lead_begin(*f, want);
	return FILL_JOINED;
}

enum fill_join
fill_join(struct fills *fs, const struct fill_want *want, fill_changed_fn *changed, void *arg,
    struct fill_client **client)
{
	struct fill *f = find(fs, want->digest);
	bool origin = false;
	enum fill_join result;

	*client = NULL;
	if (fs->c.index == NULL || fs->c.store == NULL)
		return FILL_JOIN_UNCACHED;
	if (f != NULL && !want->checked)
		return FILL_JOIN_CHECK;
	if (f == NULL && (result = join_new(fs, want, &f, &origin)) != FILL_JOINED)
		return result;
	*client = add_client(f, want, origin, changed, arg);
	if (f->phase == PHASE_QUEUED && origin)
		lead_try(fs);
	else if (f->phase == PHASE_FOLLOW)
		follow_update(f);
	fill_tell(f);
	return FILL_JOINED;
}

void
fill_leave(struct fill_client **client)
{
	struct fill_client *c = *client;
	struct fill *f;

	if (c == NULL)
		return;
	f = c->fill;
	if (c->due)
		TAILQ_REMOVE(&f->fills->pending, c, pending);
	TAILQ_REMOVE(&f->clients, c, link);
	free(c);
	*client = NULL;
	if (!TAILQ_EMPTY(&f->clients))
		return;
	if (f->phase == PHASE_ENDED)
		fill_free(f);
	else if (f->phase == PHASE_QUEUED) /* nobody waits for it any more */
		lead_abort(f, FILL_END_BUSY);
	else if (f->phase == PHASE_FOLLOW)
		fill_ended(f, FILL_END_AGAIN);
}

uint64_t
fill_announced(const struct fill *f)
{
	return f->coding == CODING_NONE || f->verified ? f->bytes : 0;
}

/* A file without a record may be anything: nobody is sent a byte of it before all was hashed. */
static uint64_t
readable(const struct fill *f)
{
	uint64_t held = FILL_HELD_BACK, limit;

	if (f->verified)
		return f->bytes;
	if (f->phase == PHASE_ADOPT || f->coding != CODING_NONE)
		return 0;
	if (f->size < 0)
		return f->bytes > held ? f->bytes - held : 0;
	limit = (uint64_t)f->size > held ? (uint64_t)f->size - held : 0;
	return f->bytes < limit ? f->bytes : limit;
}

/* Did the fill end for a fault of its upstream's, that another upstream need not share? */
static bool
is_fault_of_source(const struct fill *f)
{
	return f->end == FILL_END_UPSTREAM || f->end == FILL_END_TIMEOUT ||
	    f->end == FILL_END_DIGEST || f->end == FILL_END_REFUSED;
}

/* A large file that is hashed before it is served, here or in the listener that is followed: who has
 * waited for so long is passed through, and the hashing goes on. */
static bool
hashes_too_long(const struct fill *f)
{
	return (f->phase == PHASE_ADOPT || (f->phase == PHASE_FOLLOW && f->hashing)) &&
	    clock_ms() - f->since > f->fills->c.queue_timeout_ms;
}

/* A refusal of the leader's credentials says nothing of another client's, and a fault of its
 * upstream nothing of another upstream; but whose own credentials could not go on does not lead
 * again. */
static enum fill_end
end_for(const struct fill_client *c)
{
	const struct fill *f = c->fill;

	if (f->end == FILL_END_NONE && hashes_too_long(f))
		return FILL_END_UNCACHED;
	if (f->end == FILL_END_REFUSED && !c->origin && f->refusal != NULL &&
	    f->refusal->status < 500)
		return FILL_END_AGAIN;
	if (f->end == FILL_END_AGAIN && c->origin && f->refusal != NULL)
		return FILL_END_REFUSED;
	if (is_fault_of_source(f) && f->upstream_hash != 0 && f->upstream_hash != c->upstream_hash)
		return FILL_END_AGAIN;
	if (f->end == FILL_END_DONE && !c->checked && !f->vouched)
		return FILL_END_AGAIN;
	return f->end;
}

void
fill_look(const struct fill_client *c, struct fill_status *s)
{
	const struct fill *f = c->fill;
	bool allowed = c->checked || f->vouched;

	s->end = end_for(c);
	s->leading = c->origin;
	s->own = c->origin && !f->inherited;
	s->resumed = f->resumed;
	s->size = allowed ? f->size : -1;
	s->readable = allowed && f->fd >= 0 ? readable(f) : 0;
	s->fd = allowed ? f->fd : -1;
	s->device = f->device;
	s->inode = f->inode;
	s->media_type = f->media_type;
	s->why = f->why;
}

struct registry_call *
fill_take_call(struct fill_client *c)
{
	struct registry_call *call = c->origin ? c->fill->spare : NULL;

	if (call != NULL)
		c->fill->spare = NULL;
	return call;
}

struct notes *
fill_take_notes(struct fill_client *c)
{
	struct notes *notes = c->origin ? c->fill->notes : NULL;

	if (notes != NULL)
		c->fill->notes = NULL;
	return notes;
}

const struct refusal *
fill_refusal(const struct fill_client *c)
{
	return c->fill->refusal;
}

/* --- turns of the loop ------------------------------------------------------------------------ */

static void
do_work(evutil_socket_t fd, short what, void *arg)
{
	struct fills *fs = arg;
	struct fill *f, *next;
	bool more = false;

	(void)fd;
	(void)what;
	for (f = TAILQ_FIRST(&fs->all); f != NULL; f = next) {
		next = TAILQ_NEXT(f, all);
		if (f->phase == PHASE_DECODE && !space_waits(f)) {
			more = true;
			decode_step(f);
		}
		if (f->phase != PHASE_ADOPT && f->phase != PHASE_REHASH)
			continue;
		more = true;
		lead_step(f);
	}
	if (more) {
		struct timeval now = {0, 0};

		event_add(
		    fs->work, &now); /* not event_active(): sockets get their turn in between */
	}
}

void
fills_wake(struct fills *fs)
{
	struct fill *f, *next;

	for (f = TAILQ_FIRST(&fs->all); f != NULL; f = next) {
		next = TAILQ_NEXT(f, all);
		if (f->phase == PHASE_FOLLOW)
			follow_update(f);
		else if (space_waits(f))
			space_retry(f);
	}
	lead_try(fs);
}

static void
sweep(evutil_socket_t fd, short what, void *arg)
{
	struct fills *fs = arg;
	struct fill *f, *next;
	uint64_t now = clock_ms();
	bool say_alive = ++fs->sweeps % ALIVE_SWEEPS == 0;

	(void)fd;
	(void)what;
	for (f = TAILQ_FIRST(&fs->all); f != NULL; f = next) {
		next = TAILQ_NEXT(f, all);
		if (f->has_lease && say_alive) /* a slow upstream is not a dead leader */
			shm_fill_progress(fs->c.shm, f->ref, fill_announced(f));
		if (hashes_too_long(f))
			fill_tell(f);
		if (f->phase == PHASE_QUEUED && now - f->since > fs->c.queue_timeout_ms) {
			fill_measure_wait(f, false);
			lead_abort(f, FILL_END_BUSY);
		} else if (f->phase == PHASE_FOLLOW && !lease_live(fs->c.shm, &f->lease, now))
			follow_update(f);
		else if (space_waits(f))
			space_retry(f);
	}
	lead_try(fs);
}

struct fills *
fills_new(const struct fills_config *config)
{
	struct fills *fs = xcalloc(1, sizeof(*fs));
	struct timeval every = {0, SWEEP_MS * 1000};

	fs->c = *config;
	for (size_t i = 0; i < FILL_BUCKETS; i++)
		LIST_INIT(&fs->buckets[i]);
	TAILQ_INIT(&fs->all);
	TAILQ_INIT(&fs->pending);
	fs->tell = event_new(config->base, -1, 0, tell_pending, fs);
	fs->work = event_new(config->base, -1, 0, do_work, fs);
	fs->sweep = event_new(config->base, -1, EV_PERSIST, sweep, fs);
	if (fs->tell == NULL || fs->work == NULL || fs->sweep == NULL ||
	    event_add(fs->sweep, &every) != 0)
		panic("cannot make the fills' events");
	return fs;
}

void
fills_free(struct fills **fsp)
{
	struct fills *fs = *fsp;
	struct fill *f;

	if (fs == NULL)
		return;
	while ((f = TAILQ_FIRST(&fs->all)) != NULL) {
		if (f->phase == PHASE_FOLLOW)
			fill_ended(f, FILL_END_AGAIN);
		else
			lead_abort(f, FILL_END_AGAIN);
	}
	event_free(fs->tell);
	event_free(fs->work);
	event_free(fs->sweep);
	free(fs);
	*fsp = NULL;
}

void
fills_set_store(struct fills *fs, struct store *store, struct index *index)
{
	fs->c.store = store;
	fs->c.index = index;
}

