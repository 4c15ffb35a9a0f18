/* The account of disk space. A bucket's account is one atomic word, objects and blocks together, so
 * that gc's count replaces it only when nobody changed it meanwhile. */
#include "shm_disk.h"

#include "log.h"
#include "shm_private.h"

enum {
	BLOCK = 512,
	COUNT_SHIFT = 44,
	EVICT_TO_PERCENT = 95,
	LEFT_FOR_INDEX = 1024 * 1024, /* on a file system of which gc.disk.minFree wants less kept free */
};

static const uint64_t blocks_mask = (UINT64_C(1) << COUNT_SHIFT) - 1;

static uint64_t
blocks_of(uint64_t bytes)
{
	uint64_t blocks = bytes / BLOCK + (bytes % BLOCK != 0);

	return blocks < blocks_mask ? blocks : blocks_mask;
}

static struct shm_disk *
disk_of(const struct shm *s)
{
	return &s->seg->disk;
}

static struct shm_slot *
slot_of(const struct shm *s, struct fill_ref r)
{
	return shm_fill_is_running(s, r) ? &s->seg->slots[r.slot] : NULL;
}

void
shm_disk_set_limits(struct shm *s, uint64_t max_size, uint64_t min_free)
{
	atomic_store(&disk_of(s)->limit, max_size);
	atomic_store(&disk_of(s)->min_free, min_free);
}

/* --- summing up ------------------------------------------------------------------------------ */

static void
sum_buckets(const struct shm *s, struct shm_disk_use *u)
{
	uint64_t objects, bytes;

	for (unsigned kind = 0; kind < SHM_DISK_KINDS; kind++)
		for (unsigned b = 0; b < SHM_DISK_BUCKETS; b++) {
			shm_disk_read_bucket(s, b, kind, &objects, &bytes);
			u->objects[kind] += objects;
			u->bytes[kind] += bytes;
		}
}

/* What of its reservation a fill has still to take from the file system. */
static uint64_t
still_to_take(const struct shm_slot *f)
{
	uint64_t reserved = atomic_load(&f->reserved), bytes = atomic_load(&f->bytes);

	return atomic_load(&f->allocated) != 0 || bytes >= reserved ? 0 : reserved - bytes;
}

struct slots_sum {
	uint64_t reserved, to_take, wanted;
};

/* What waits is counted as long as it could have room when everything was evicted. */
static struct slots_sum
sum_slots(const struct shm *s, uint64_t most_wanted)
{
	struct slots_sum sum = {0};
	unsigned high = atomic_load(&s->seg->slots_high);

	for (unsigned i = 0; i < high; i++) {
		const struct shm_slot *f = &s->seg->slots[i];

		sum.reserved += atomic_load(&f->reserved);
		sum.to_take += still_to_take(f);
	}
	for (unsigned i = 0; i < high; i++) {
		uint64_t wanted = atomic_load(&s->seg->slots[i].wanted);

		if (sum.reserved + sum.wanted + wanted <= most_wanted)
			sum.wanted += wanted;
	}
	return sum;
}

/* In the order in which bytes move: what moves on meanwhile is seen twice rather than not at all.
 * From adrift they may move back to a slot. */
void
shm_disk_use(const struct shm *s, struct shm_disk_use *u)
{
	const struct shm_disk *d = disk_of(s);
	uint64_t adrift = atomic_load(&d->adrift), later;

	*u = (struct shm_disk_use){
	    .known = atomic_load(&d->known) != 0,
	    .limit = atomic_load(&d->limit),
	    .overhead = atomic_load(&d->overhead),
	};
	u->reserved = sum_slots(s, 0).reserved;
	later = atomic_load(&d->adrift);
	u->adrift = later > adrift ? later : adrift;
	sum_buckets(s, u);
	u->total = u->reserved + u->adrift + u->overhead;
	for (unsigned kind = 0; kind < SHM_DISK_KINDS; kind++)
		u->total += u->bytes[kind];
}

/* --- reserving ------------------------------------------------------------------------------- */

static bool
fits_limit(const struct shm *s)
{
	struct shm_disk_use u;

	shm_disk_use(s, &u);
	return u.limit == 0 || (u.known && u.total <= u.limit);
}

static uint64_t
kept_free(const struct shm *s)
{
	uint64_t min_free = atomic_load(&disk_of(s)->min_free);

	return min_free > LEFT_FOR_INDEX ? min_free : LEFT_FOR_INDEX;
}

/* The new reservation is among what is still to be taken. */
static bool
fits_file_system(const struct shm *s, uint64_t free_bytes)
{
	uint64_t kept = kept_free(s);

	return free_bytes >= kept && free_bytes - kept >= sum_slots(s, 0).to_take;
}

/* What fills could take of the file system if every object was evicted. */
static uint64_t
most_of_file_system(const struct shm *s, uint64_t free_bytes)
{
	struct shm_disk_use u;
	uint64_t room = free_bytes, kept = kept_free(s);

	shm_disk_use(s, &u);
	for (unsigned kind = 0; kind < SHM_DISK_KINDS; kind++)
		if (__builtin_add_overflow(room, u.bytes[kind], &room))
			return UINT64_MAX;
	return room > kept ? room - kept : 0;
}

/* `more` of the `bytes` are not reserved yet. */
static bool
is_too_large(const struct shm *s, uint64_t bytes, uint64_t more, uint64_t free_bytes)
{
	uint64_t limit = atomic_load(&disk_of(s)->limit);
	uint64_t overhead = atomic_load(&disk_of(s)->overhead);

	if (limit > 0 && (bytes > limit || overhead > limit - bytes))
		return true;
	return shm_disk_known(s) && more > most_of_file_system(s, free_bytes);
}

enum shm_room
shm_disk_reserve(struct shm *s, struct fill_ref r, uint64_t bytes, uint64_t free_bytes)
{
	struct shm_slot *f = slot_of(s, r);
	uint64_t before, rounded = blocks_of(bytes) * BLOCK;

	before = f != NULL ? atomic_load(&f->reserved) : 0;
	if (f == NULL ||
	    is_too_large(s, rounded, rounded > before ? rounded - before : 0, free_bytes))
		return ROOM_NEVER;
	if (rounded <= before)
		return ROOM_HAD;
	atomic_store(&f->allocated, 0);
	atomic_store(&f->reserved, rounded);
	if (fits_limit(s) && fits_file_system(s, free_bytes)) {
		atomic_store(&f->wanted, 0);
		return ROOM_HAD;
	}
	atomic_store(&f->reserved, before);
	if (atomic_exchange(&f->wanted, rounded - before) == 0)
		shm_wake(s, shm_gc(s)); /* it looks again by itself as long as somebody waits */
	return ROOM_LACKING;
}

void
shm_disk_reserve_anyway(struct shm *s, struct fill_ref r, uint64_t bytes)
{
	struct shm_slot *f = slot_of(s, r);

	if (f != NULL)
		atomic_store(&f->reserved, blocks_of(bytes) * BLOCK);
	shm_wake(s, shm_gc(s)); /* the same bytes are adrift, until gc looks */
}

void
shm_disk_allocated(struct shm *s, struct fill_ref r)
{
	struct shm_slot *f = slot_of(s, r);

	if (f != NULL)
		atomic_store(&f->allocated, 1);
}

uint64_t
shm_disk_reserved(const struct shm *s, struct fill_ref r)
{
	const struct shm_slot *f = slot_of(s, r);

	return f != NULL ? atomic_load(&f->reserved) : 0;
}

void
shm_disk_unwait(struct shm *s, struct fill_ref r)
{
	struct shm_slot *f = slot_of(s, r);

	if (f != NULL)
		atomic_store(&f->wanted, 0);
}

/* By the slot's owner, or by the master for a dead one, before the slot is ended. */
void
shm_disk_slot_ends(struct shm *s, struct shm_slot *f, bool part_stays)
{
	if (part_stays)
		atomic_fetch_add(&disk_of(s)->adrift, atomic_load(&f->reserved));
	atomic_store(&f->reserved, 0);
	atomic_store(&f->wanted, 0);
}

/* --- objects --------------------------------------------------------------------------------- */

static _Atomic uint64_t *
word_of(const struct shm *s, unsigned bucket, unsigned kind)
{
	if (bucket >= SHM_DISK_BUCKETS || kind >= SHM_DISK_KINDS)
		panic("there is no bucket %u of kind %u", bucket, kind);
	return &disk_of(s)->buckets[kind][bucket];
}

void
shm_disk_add(struct shm *s, const struct digest *d, unsigned kind, uint64_t bytes)
{
	atomic_fetch_add(
	    word_of(s, d->bytes[0], kind), (UINT64_C(1) << COUNT_SHIFT) + blocks_of(bytes));
}

/* Never below nothing: the account may have been wrong. */
void
shm_disk_remove(struct shm *s, const struct digest *d, unsigned kind, uint64_t bytes)
{
	_Atomic uint64_t *place = word_of(s, d->bytes[0], kind);
	uint64_t word = atomic_load(place), after, blocks = blocks_of(bytes);

	do {
		uint64_t had = word & blocks_mask, count = word >> COUNT_SHIFT;

		after = (count > 0 ? count - 1 : 0) << COUNT_SHIFT;
		after |= had > blocks ? had - blocks : 0;
	} while (!atomic_compare_exchange_weak(place, &word, after));
}

/* --- gc -------------------------------------------------------------------------------------- */

uint64_t
shm_disk_bucket(const struct shm *s, unsigned bucket, unsigned kind)
{
	return atomic_load(word_of(s, bucket, kind));
}

void
shm_disk_read_bucket(const struct shm *s, unsigned bucket, unsigned kind, uint64_t *objects,
    uint64_t *bytes)
{
	uint64_t word = shm_disk_bucket(s, bucket, kind);

	*objects = word >> COUNT_SHIFT;
	*bytes = (word & blocks_mask) * BLOCK;
}

bool
shm_disk_set_bucket(struct shm *s, unsigned bucket, unsigned kind, uint64_t seen, uint64_t objects,
    uint64_t bytes)
{
	return atomic_compare_exchange_strong(word_of(s, bucket, kind), &seen,
	    objects << COUNT_SHIFT | blocks_of(bytes));
}

uint64_t
shm_disk_adrift(const struct shm *s)
{
	return atomic_load(&disk_of(s)->adrift);
}

bool
shm_disk_set_adrift(struct shm *s, uint64_t seen, uint64_t bytes)
{
	return atomic_compare_exchange_strong(&disk_of(s)->adrift, &seen, bytes);
}

uint64_t
shm_disk_overhead(const struct shm *s)
{
	return atomic_load(&disk_of(s)->overhead);
}

bool
shm_disk_set_overhead(struct shm *s, uint64_t seen, uint64_t bytes)
{
	return atomic_compare_exchange_strong(&disk_of(s)->overhead, &seen, bytes);
}

void
shm_disk_add_overhead(struct shm *s, uint64_t bytes)
{
	atomic_fetch_add(&disk_of(s)->overhead, bytes);
}

void
shm_disk_set_known(struct shm *s)
{
	atomic_store(&disk_of(s)->known, 1);
}

bool
shm_disk_known(const struct shm *s)
{
	return atomic_load(&disk_of(s)->known) != 0;
}

static uint64_t
over(uint64_t used, uint64_t limit)
{
	return used > limit ? used - limit : 0;
}

/* How much is over gc.disk.maxSize, with what waits. */
static uint64_t
excess_of_limit(const struct shm *s, bool evicting)
{
	struct shm_disk_use u;
	uint64_t fixed, wanted;

	shm_disk_use(s, &u);
	if (u.limit == 0 || !u.known)
		return 0;
	fixed = u.adrift + u.overhead;
	wanted = sum_slots(s, u.limit > fixed ? u.limit - fixed : 0).wanted;
	return over(u.total + wanted, evicting ? u.limit / 100 * EVICT_TO_PERCENT : u.limit);
}

static uint64_t
excess_of_file_system(const struct shm *s, uint64_t free_bytes, bool evicting)
{
	uint64_t kept = kept_free(s), most = most_of_file_system(s, free_bytes);
	struct slots_sum sum = sum_slots(s, 0);

	if (__builtin_add_overflow(most, sum.reserved - sum.to_take, &most))
		most = UINT64_MAX;
	sum.wanted = sum_slots(s, most).wanted;
	if (sum.wanted == 0 && atomic_load(&disk_of(s)->min_free) == 0)
		return 0; /* others have filled it, and nobody here needs room */
	if (evicting)
		kept += kept / 100 * (100 - EVICT_TO_PERCENT);
	return over(kept + sum.to_take + sum.wanted, free_bytes);
}

uint64_t
shm_disk_excess(const struct shm *s, uint64_t free_bytes, bool evicting)
{
	uint64_t a = excess_of_limit(s, evicting);
	uint64_t b = excess_of_file_system(s, free_bytes, evicting);

	return a > b ? a : b;
}

bool
shm_disk_waited_for(const struct shm *s)
{
	unsigned high = atomic_load(&s->seg->slots_high);

	for (unsigned i = 0; i < high; i++)
		if (atomic_load(&s->seg->slots[i].wanted) != 0)
			return true;
	return false;
}

void
shm_disk_wake(struct shm *s)
{
	unsigned high = atomic_load(&s->seg->slots_high);
	uint64_t listeners = 0;

	for (unsigned i = 0; i < high; i++)
		if (atomic_load(&s->seg->slots[i].wanted) != 0)
			listeners |= UINT64_C(1) << shm_fill_owner(s, i);
	for (unsigned i = 0; i < shm_high(s); i++)
		if (listeners & UINT64_C(1) << i)
			shm_wake(s, i);
}

void
shm_disk_set_evicted_age(struct shm *s, int64_t seconds)
{
	atomic_store(&disk_of(s)->evicted_age, seconds + 1);
}

int64_t
shm_disk_evicted_age(const struct shm *s)
{
	return atomic_load(&disk_of(s)->evicted_age) - 1;
}
