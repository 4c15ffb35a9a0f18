/* Following a fill: reading the fill table and another listener's part file. */
#include <errno.h>
#include <string.h>

#include "clock.h"
#include "fill_private.h"
#include "log.h"
#include "store.h"

void
follow_begin(struct fill *f, const struct index_lease *lease)
{
	f->lease = *lease;
	f->ref = (struct fill_ref){lease->slot, lease->seq};
	shm_count(f->fills->c.shm, f->fills->c.owner.listener, COUNT_FOLLOWS, 1);
}

/* A leader that adopts an object has no part; then the object is looked up when it is done. */
static void
open_part(struct fill *f)
{
	int fd;

	if (f->fd >= 0 || f->bytes == 0)
		return;
	fd = store_open_part(f->fills->c.store, &f->digest, f->lease.id);
	if (fd >= 0)
		fill_use_file(f, fd);
	else if (errno != ENOENT)
		log_warn("store: cannot open a part file: %s", strerror(errno));
}

static enum fill_end
failure(const struct fill_view *v)
{
	enum fill_end end = FILL_END_AGAIN;

	if (v->status > FILL_STATUS_REASON && v->status <= FILL_STATUS_REASON + FILL_END_UNCACHED)
		end = (enum fill_end)(v->status - FILL_STATUS_REASON);
	switch (end) {
	case FILL_END_UPSTREAM:
	case FILL_END_TIMEOUT:
	case FILL_END_DIGEST:
	case FILL_END_UNCACHED:
		return end;
	default: /* the leader's credentials, or its queue: no concern of ours */
		return FILL_END_AGAIN;
	}
}

static void
take_view(struct fill *f, const struct fill_view *v)
{
	bool news = v->bytes != f->bytes || v->size != f->size || v->verified != f->verified;

	f->size = v->size;
	f->bytes = v->bytes;
	f->upstream_hash = v->source;
	f->hashing = v->status == FILL_STATUS_HASHING;
	open_part(f);
	f->verified = v->verified && f->fd >= 0;
	if (news)
		fill_tell(f);
}

static void
follow_ended(struct fill *f, const struct fill_view *v)
{
	if (v->state == FILL_DONE)
		fill_ended(f,
		    f->verified || (f->size == 0 && f->fd >= 0) ? FILL_END_DONE : FILL_END_AGAIN);
	else
		fill_ended(f, failure(v)); /* of a leader that died: again */
}

void
follow_update(struct fill *f)
{
	struct fills *fs = f->fills;
	struct fill_view v;

	for (int pass = 0; pass < 2; pass++) { /* look, arm, and look once more before sleeping */
		if (!shm_fill_read(fs->c.shm, f->ref, &v)) {
			fill_ended(f, FILL_END_AGAIN);
			return;
		}
		take_view(f, &v);
		if (v.state != FILL_RUNNING) {
			follow_ended(f, &v);
			return;
		}
		if (pass == 0)
			shm_fill_arm(fs->c.shm, f->ref, fs->c.owner.listener);
	}
	if (!lease_live(fs->c.shm, &f->lease, clock_ms()))
		fill_ended(f, FILL_END_AGAIN);
}
