/* The fill table: claiming slots in the order of waiting, publishing progress, waking
 * followers. A slot's state, owner and sequence number are one atomic word, so that a claim is
 * one compare-and-swap and a process that dies leaves nothing half claimed.
 *
 * Two races are closed by the order of seq_cst operations, each side storing first and looking
 * after:
 *   follower: sets its armed bit, reads the slot    leader: stores, takes the armed bits
 *   claimer:  enters the queue, looks for a slot    owner:  ends its fill, looks at the queue
 */
#include "shm.h"

#include <string.h>

#include "clock.h"
#include "log.h"
#include "shm_private.h"

enum { STATE_SHIFT = 56, OWNER_SHIFT = 48 };
static const uint64_t seq_mask = (UINT64_C(1) << OWNER_SHIFT) - 1;

static const char *const fill_state_names[] = {
    [FILL_FREE] = "free",
    [FILL_RUNNING] = "running",
    [FILL_DONE] = "done",
    [FILL_FAILED] = "failed",
    [FILL_ABANDONED] = "abandoned",
};

const char *
fill_state_name(enum fill_state s)
{
	return s <= FILL_ABANDONED ? fill_state_names[s] : "unknown";
}

/* --- the word -------------------------------------------------------------------------------- */

static uint64_t
word_make(enum fill_state state, unsigned owner, uint64_t seq)
{
	return (uint64_t)state << STATE_SHIFT | (uint64_t)owner << OWNER_SHIFT | (seq & seq_mask);
}

static enum fill_state
word_state(uint64_t word)
{
	return (enum fill_state)(word >> STATE_SHIFT);
}

static unsigned
word_owner(uint64_t word)
{
	return word >> OWNER_SHIFT & 0xff;
}

static uint64_t
word_seq(uint64_t word)
{
	return word & seq_mask;
}

/* The number after 0x… ffff is 1: 0 means none. */
static uint64_t
seq_after(uint64_t seq)
{
	return seq == seq_mask ? 1 : seq + 1;
}

static struct shm_slot *
slot_of(const struct shm *s, struct fill_ref r)
{
	return r.seq != 0 && r.slot < s->fills ? &s->seg->slots[r.slot] : NULL;
}

/* The slot while it is this fill's and runs, else NULL: its owner has ended it, or was thought
 * dead. */
static struct shm_slot *
running(const struct shm *s, struct fill_ref r)
{
	struct shm_slot *f = slot_of(s, r);
	uint64_t word = f != NULL ? atomic_load(&f->word) : 0;

	return word_seq(word) == r.seq && word_state(word) == FILL_RUNNING ? f : NULL;
}

bool
shm_fill_is_running(const struct shm *s, struct fill_ref r)
{
	return running(s, r) != NULL;
}

unsigned
shm_fill_owner(const struct shm *s, unsigned slot)
{
	return word_owner(atomic_load(&s->seg->slots[slot].word));
}

/* Sequence numbers start from the clock, so that a lease of an earlier run names no fill of
 * this one. */
void
shm_fill_init(struct shm *s)
{
	uint64_t first = word_make(FILL_FREE, 0, clock_ms());

	for (unsigned i = 0; i < s->fills; i++)
		atomic_store(&s->seg->slots[i].word, first);
}

/* --- waking ---------------------------------------------------------------------------------- */

static void
wake_followers(struct shm *s, struct shm_slot *f)
{
	uint64_t armed;

	if (atomic_load(&f->armed) == 0)
		return;
	armed = atomic_exchange(&f->armed, 0);
	for (unsigned i = 0; i < shm_high(s); i++)
		if (armed & UINT64_C(1) << i)
			shm_wake(s, i);
}

/* How many other listeners have a waiter that comes before one of `listener` that waits since
 * then. */
static unsigned
older_waiters(const struct shm *s, unsigned listener, uint64_t since)
{
	unsigned older = 0;

	for (unsigned i = 0; i < shm_high(s); i++) {
		uint64_t w = atomic_load(&s->seg->children[i].waiting_since);

		if (i != listener && w != 0 && (w < since || (w == since && i < listener)))
			older++;
	}
	return older;
}

struct pick {
	struct shm_slot *slot;
	uint64_t word;  /* the slot's, when it was picked */
	uint64_t order; /* of its end; 0: never used */
};

/* Counts the slots that may be claimed; *p becomes the one that ended longest ago. */
static unsigned
count_claimable(const struct shm *s, struct pick *p)
{
	unsigned count = 0, limit = atomic_load(&s->seg->fill_limit);

	for (unsigned i = 0; i < limit; i++) {
		struct shm_slot *f = &s->seg->slots[i];
		uint64_t word = atomic_load(&f->word);
		uint64_t order = atomic_load_explicit(&f->ended_order, memory_order_relaxed);

		if (word_state(word) == FILL_RUNNING)
			continue;
		if (count++ == 0 || order < p->order)
			*p = (struct pick){f, word, order};
	}
	return count;
}

/* Wakes the listeners that could claim a slot now. */
static void
wake_waiters(struct shm *s)
{
	struct pick unused;
	unsigned free_slots;

	if (older_waiters(s, SHM_MAX_LISTENERS, UINT64_MAX) == 0)
		return;
	free_slots = count_claimable(s, &unused);
	for (unsigned i = 0; i < shm_high(s); i++) {
		uint64_t since = atomic_load(&s->seg->children[i].waiting_since);

		if (since != 0 && older_waiters(s, i, since) < free_slots)
			shm_wake(s, i);
	}
}

/* --- claiming -------------------------------------------------------------------------------- */

/* Only the listener itself writes its place in the queue, or the master when the listener is
 * dead. */
static void
queue_enter(struct shm *s, unsigned listener, uint64_t since)
{
	_Atomic uint64_t *place = &s->seg->children[listener].waiting_since;
	uint64_t now = atomic_load(place);

	if (now == 0 || since < now)
		atomic_store(place, since);
}

static void
queue_leave(struct shm *s, unsigned listener, uint64_t since)
{
	_Atomic uint64_t *place = &s->seg->children[listener].waiting_since;

	if (since <= atomic_load(place))
		atomic_store(place, 0);
	wake_waiters(s);
}

/* Who sums up over the slots looks so far. */
static void
note_slot(struct shm *s, unsigned slot)
{
	uint32_t high = atomic_load(&s->seg->slots_high);

	while (slot >= high)
		if (atomic_compare_exchange_weak(&s->seg->slots_high, &high, slot + 1))
			return;
}

/* False: somebody else was faster. What the former fill left is cleared after the claim: nobody
 * can name the new fill before its owner publishes the reference. */
static bool
take(struct shm *s, const struct pick *p, unsigned listener, const struct digest *d,
    struct fill_ref *out)
{
	uint64_t expected = p->word, seq = seq_after(word_seq(p->word));
	struct shm_slot *f = p->slot;

	if (!atomic_compare_exchange_strong(
		&f->word, &expected, word_make(FILL_RUNNING, listener, seq)))
		return false;
	note_slot(s, (unsigned)(f - s->seg->slots));
	atomic_store(&f->reserved, 0);
	atomic_store(&f->wanted, 0);
	atomic_store(&f->allocated, 0);
	atomic_store(&f->bytes, 0);
	atomic_store(&f->size, -1);
	atomic_store(&f->status, 0);
	atomic_store(&f->verified, 0);
	atomic_store(&f->source, 0);
	atomic_store(&f->ended_ms, 0);
	atomic_store(&f->progress_ms, clock_ms());
	f->digest = *d;
	*out = (struct fill_ref){(uint32_t)(f - s->seg->slots), seq};
	return true;
}

bool
shm_fill_claim(struct shm *s, unsigned listener, const struct digest *d, uint64_t since_ms,
    struct fill_ref *out)
{
	uint64_t since = since_ms != 0 ? since_ms : 1;
	struct pick p = {0};

	if (listener >= s->listeners)
		panic("listener %u of %u claims a fill", listener, s->listeners);
	shm_note(s, listener);
	*out = (struct fill_ref){0};
	queue_enter(s, listener, since);
	while (count_claimable(s, &p) > older_waiters(s, listener, since)) {
		if (!take(s, &p, listener, d, out))
			continue;
		queue_leave(s, listener, since);
		return true;
	}
	return false;
}

void
shm_fill_unwait(struct shm *s, unsigned listener, uint64_t oldest_ms)
{
	if (listener >= s->listeners)
		panic("listener %u of %u leaves the queue", listener, s->listeners);
	shm_note(s, listener);
	atomic_store(&s->seg->children[listener].waiting_since, oldest_ms);
	wake_waiters(s);
}

/* --- the owner ------------------------------------------------------------------------------- */

static void
progressed(struct shm *s, struct shm_slot *f)
{
	atomic_store_explicit(&f->progress_ms, clock_ms(), memory_order_release);
	wake_followers(s, f);
}

void
shm_fill_set_size(struct shm *s, struct fill_ref r, int64_t size, unsigned status)
{
	struct shm_slot *f = running(s, r);

	if (f == NULL)
		return;
	atomic_store(&f->status, status);
	atomic_store(&f->size, size);
	progressed(s, f);
}

void
shm_fill_set_source(struct shm *s, struct fill_ref r, uint32_t source)
{
	struct shm_slot *f = running(s, r);

	if (f != NULL)
		atomic_store(&f->source, source);
}

void
shm_fill_progress(struct shm *s, struct fill_ref r, uint64_t bytes)
{
	struct shm_slot *f = running(s, r);

	if (f == NULL)
		return;
	atomic_store(&f->bytes, bytes);
	progressed(s, f);
}

void
shm_fill_verified(struct shm *s, struct fill_ref r)
{
	struct shm_slot *f = running(s, r);

	if (f == NULL)
		return;
	atomic_store(&f->verified, 1);
	progressed(s, f);
}

/* When it ended is stored before it ends, so that whoever sees the end sees the time. */
static bool
end_slot(struct shm *s, struct shm_slot *f, uint64_t word, enum fill_state state)
{
	atomic_store(&f->ended_order, atomic_fetch_add(&s->seg->ends, 1) + 1);
	atomic_store(&f->ended_ms, clock_ms());
	shm_disk_slot_ends(s, f, state == FILL_ABANDONED);
	return atomic_compare_exchange_strong(
	    &f->word, &word, word_make(state, word_owner(word), word_seq(word)));
}

void
shm_fill_end(struct shm *s, struct fill_ref r, enum fill_state state)
{
	struct shm_slot *f = running(s, r);

	if (state != FILL_DONE && state != FILL_FAILED && state != FILL_ABANDONED)
		panic("a fill cannot end as %s", fill_state_name(state));
	if (f == NULL || !end_slot(s, f, atomic_load(&f->word), state))
		return;
	wake_followers(s, f);
	wake_waiters(s);
}

void
shm_fill_abandon_all(struct shm *s, unsigned owner)
{
	atomic_store(&s->seg->children[owner].waiting_since, 0);
	for (unsigned i = 0; i < s->fills; i++) {
		struct shm_slot *f = &s->seg->slots[i];
		uint64_t word = atomic_load(&f->word);

		if (word_state(word) == FILL_RUNNING && word_owner(word) == owner)
			end_slot(s, f, word, FILL_ABANDONED);
	}
}

/* --- followers ------------------------------------------------------------------------------- */

/* `verified` is read before `bytes`, which its owner stores first: a verified fill is seen
 * whole. The word is read again at the end: had the slot been claimed meanwhile, the fields
 * might be of two fills. */
bool
shm_fill_read(const struct shm *s, struct fill_ref r, struct fill_view *v)
{
	const struct shm_slot *f = slot_of(s, r);
	uint64_t word = f != NULL ? atomic_load(&f->word) : 0;

	*v = (struct fill_view){0};
	if (f == NULL || word_seq(word) != r.seq)
		return false;
	v->state = word_state(word);
	v->owner = word_owner(word);
	v->verified = atomic_load(&f->verified) != 0;
	v->size = atomic_load(&f->size);
	v->status = atomic_load(&f->status);
	v->source = atomic_load(&f->source);
	v->bytes = atomic_load(&f->bytes);
	v->ended_ms = v->state == FILL_RUNNING ? 0 : atomic_load(&f->ended_ms);
	if (word_seq(atomic_load(&f->word)) == r.seq)
		return true;
	*v = (struct fill_view){0};
	return false;
}

void
shm_fill_arm(struct shm *s, struct fill_ref r, unsigned listener)
{
	struct shm_slot *f = slot_of(s, r);

	shm_note(s, listener);
	if (f != NULL)
		atomic_fetch_or(&f->armed, UINT64_C(1) << listener);
}

uint64_t
shm_fill_last_progress(const struct shm *s, struct fill_ref r)
{
	const struct shm_slot *f = slot_of(s, r);
	uint64_t when;

	if (f == NULL)
		return 0;
	when = atomic_load(&f->progress_ms);
	return word_seq(atomic_load(&f->word)) == r.seq ? when : 0;
}

unsigned
shm_fills_running(const struct shm *s)
{
	unsigned count = 0;

	for (unsigned i = 0; i < s->fills; i++)
		if (word_state(atomic_load(&s->seg->slots[i].word)) == FILL_RUNNING)
			count++;
	return count;
}
