/* The account of disk space in shared memory: what objects use, what fills have reserved, what lies
 * about of dead fills. gc.disk.maxSize and minFree hold at every moment over all processes,
 * because a fill reserves before it writes.
 *
 * There is no total to keep in step with its parts: a process may die between two stores. Who
 * reserves announces it in its own fill slot first and sums up then, and takes it back when that
 * is too much. Whatever order two stores have, a death between them counts bytes twice rather
 * than never; gc counts the files again, bucket by bucket, and sets that right.
 *
 * The life of a part's bytes in the account:
 *   reserved   in its leader's fill slot: shm_disk_reserve()
 *   object     added to its bucket when it is about to be renamed: shm_disk_add(); the slot's end
 *              forgets the reservation
 *   adrift     its leader died, or left it to a successor: moved there by the end of the slot as
 *              FILL_ABANDONED, until gc has looked which parts have a living leader
 *   (none)     its leader removed the file, then ended the slot
 * All sizes are bytes of real blocks (st_blocks × 512). */
#ifndef SHM_DISK_H
#define SHM_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "digest.h"
#include "shm.h"

enum {
	SHM_DISK_KINDS = 2,     /* blobs, manifests: enum object_kind - 1 */
	SHM_DISK_BUCKETS = 256, /* by the first byte of the digest, as the folders of the store */
};

/* Master, at the start and when the configuration is read again. max_size 0: no limit but the file
 * system's, of which a little is kept for the index whatever min_free is. */
void shm_disk_set_limits(struct shm *s, uint64_t max_size, uint64_t min_free);

enum shm_room {
	ROOM_HAD,     /* reserved */
	ROOM_LACKING, /* not now: gc was woken to evict, and this listener is woken when it has */
	ROOM_NEVER,   /* more than limit or file system leave to an object, whatever is evicted */
};

/* The leader: its part may use `bytes` in all from now on. `free_bytes` is what the file system
 * has left. LACKING: what was reserved before stays so. */
enum shm_room shm_disk_reserve(struct shm *s, struct fill_ref r, uint64_t bytes, uint64_t free_bytes)
    __attribute__((warn_unused_result));
/* For what the part has on disk already (it was inherited). */
void shm_disk_reserve_anyway(struct shm *s, struct fill_ref r, uint64_t bytes);
/* The file system has set the reserved blocks aside (fallocate): its free space is without them. */
void shm_disk_allocated(struct shm *s, struct fill_ref r);
/* How much is reserved; 0 when the slot is not this fill's any more. */
uint64_t shm_disk_reserved(const struct shm *s, struct fill_ref r);
/* The leader does not wait for room any more. */
void shm_disk_unwait(struct shm *s, struct fill_ref r);

/* One object more, or less, in the bucket of `d`. Add before the file has its name, remove after
 * it is gone. */
void shm_disk_add(struct shm *s, const struct digest *d, unsigned kind, uint64_t bytes);
void shm_disk_remove(struct shm *s, const struct digest *d, unsigned kind, uint64_t bytes);

/* The index or the folders take so much more, until gc has looked how much it is in all. */
void shm_disk_add_overhead(struct shm *s, uint64_t bytes);

struct shm_disk_use {
	bool known; /* false: gc has not counted yet, and with a limit nobody may reserve */
	uint64_t limit;
	uint64_t objects[SHM_DISK_KINDS], bytes[SHM_DISK_KINDS];
	uint64_t reserved; /* by running fills */
	uint64_t adrift;   /* parts without a leader */
	uint64_t overhead; /* the index and folders */
	uint64_t total;    /* bytes, of all that */
};
void shm_disk_use(const struct shm *s, struct shm_disk_use *u);

/* --- gc -------------------------------------------------------------------------------------- */

/* What a bucket's account is, as one word; set only if it is still `seen`. False: it changed. */
uint64_t shm_disk_bucket(const struct shm *s, unsigned bucket, unsigned kind);
void shm_disk_read_bucket(const struct shm *s, unsigned bucket, unsigned kind, uint64_t *objects,
    uint64_t *bytes);
bool shm_disk_set_bucket(struct shm *s, unsigned bucket, unsigned kind, uint64_t seen,
    uint64_t objects, uint64_t bytes) __attribute__((warn_unused_result));
/* The count of parts without a leader, likewise. */
uint64_t shm_disk_adrift(const struct shm *s);
bool shm_disk_set_adrift(struct shm *s, uint64_t seen, uint64_t bytes)
    __attribute__((warn_unused_result));
/* The index and folders, likewise. */
uint64_t shm_disk_overhead(const struct shm *s);
bool shm_disk_set_overhead(struct shm *s, uint64_t seen, uint64_t bytes)
    __attribute__((warn_unused_result));
/* Every bucket has been counted: reservations are judged from now on. */
void shm_disk_set_known(struct shm *s);
bool shm_disk_known(const struct shm *s);

/* How many bytes gc is to evict: so that use and what waits fits the limits. 0: it fits. `evicting`:
 * it has begun, and goes on to 95 % of the limit. */
uint64_t shm_disk_excess(const struct shm *s, uint64_t free_bytes, bool evicting);
/* Does a leader wait for room? */
bool shm_disk_waited_for(const struct shm *s);
/* Wakes the listeners whose leaders wait for room. */
void shm_disk_wake(struct shm *s);

/* How long the object evicted last had been unused, in seconds; -1: none was. */
void shm_disk_set_evicted_age(struct shm *s, int64_t seconds);
int64_t shm_disk_evicted_age(const struct shm *s);

#endif
