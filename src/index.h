/* The index: the one file with lmdb.h. Databases `objects`, `leases`, `names`, `proofs`, and
 * the shared array `usage` (when an object was last used). Values in, values out; LMDB's quirks
 * (map full, map resized, reader slots, the writer's lock) end here. Records are versioned;
 * keys longer than LMDB's limit are replaced by their SHA-256.
 *
 * Open it after fork, once a process; never in the master. No transaction spans two calls, so
 * nothing is held across a return to the event loop. Policy on leases is lease.c's. */
#ifndef INDEX_H
#define INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "digest.h"

enum index_result {
	INDEX_OK,
	INDEX_MISS,  /* there is no such record */
	INDEX_ERROR, /* LMDB failed; logged where it was known; the caller goes on without it */
};

enum object_kind { OBJECT_BLOB = 1, OBJECT_MANIFEST = 2 };

enum { INDEX_MEDIA_TYPE_SIZE = 128, INDEX_NO_USAGE = UINT32_MAX };

struct index_object {
	uint8_t kind;        /* enum object_kind */
	uint64_t size;       /* bytes */
	int64_t fetched_at;  /* seconds since 1970 */
	int64_t verified_at; /* when its bytes were last hashed */
	uint32_t usage;      /* slot in the usage array; set by index_put_object */
	char media_type[INDEX_MEDIA_TYPE_SIZE]; /* "" when not known */
};

struct index_lease {
	uint32_t listener;   /* owner */
	uint64_t generation; /* the owner's, when it took the lease */
	uint64_t id;         /* names the part file; never 0, never the same twice */
	uint32_t slot;       /* fill slot … */
	uint64_t seq;        /* … and its sequence number */
	uint64_t deadline;   /* clock_ms: free after that, unless the fill made progress since */
};

struct index;

/* Opens or makes the environment in the folder `dir` (made when missing, mode 0700). NULL: said
 * why in the log; an index of an unusable version or a damaged one is left as it is. Owned by
 * the caller. */
struct index *index_open(const char *dir);
/* The same with a map of `map_bytes` to begin with, or less where the address space is limited.
 * It grows when it is full; index_open() takes so much that it should not have to. */
struct index *index_open_sized(const char *dir, size_t map_bytes);
void index_close(struct index **ix);
/* Reads every record of the index in a process of its own, and then opens it: LMDB dies of a damaged
 * file (SIGBUS, SIGSEGV) or circles in it, and that must not be here. False: it cannot be used. True
 * also when there is none. Blocks, for less than 1 µs a record. */
bool index_probe(const char *dir) __attribute__((warn_unused_result));
/* The same without opening it to write, for an index in use: true when its pages say that it is damaged, and for no
 * other failure. */
bool index_is_damaged(const char *dir) __attribute__((warn_unused_result));

enum index_result index_get_object(
    struct index *ix, const struct digest *d, struct index_object *o);
/* A new object gets a usage slot, used as of o->fetched_at; one that is replaced keeps its own.
 * o->usage is not looked at. */
enum index_result index_put_object(
    struct index *ix, const struct digest *d, const struct index_object *o);
/* Frees its usage slot, and forgets its proofs: they are about bytes that are gone. */
enum index_result index_delete_object(struct index *ix, const struct digest *d);

/* One write transaction over one digest: `decide` sees what is recorded and changes it in place.
 * lease.c's only tool. `decide` may run more than once and must not block or keep pointers. */
struct index_entry {
	bool has_object, has_lease; /* what is there; on return, what shall be there */
	struct index_object object;
	struct index_lease lease;
};
typedef void index_decide_fn(struct index_entry *e, void *arg);
enum index_result index_update(
    struct index *ix, const struct digest *d, index_decide_fn *decide, void *arg);
/* The same for `n` digests in one transaction; `decide` is told which one. */
typedef void index_decide_nth_fn(struct index_entry *e, unsigned nth, void *arg);
enum index_result index_update_many(struct index *ix, const struct digest *const *digests, unsigned n,
    index_decide_nth_fn *decide, void *arg);
/* The same picture without a write transaction. INDEX_OK also when both are absent. */
enum index_result index_look(struct index *ix, const struct digest *d, struct index_entry *e);

/* Calls `each` for every lease, in batches: no transaction is open while it runs, and what
 * others change meanwhile may be seen or not. Stops when it returns false. */
typedef bool index_lease_fn(const struct digest *d, const struct index_lease *l, void *arg);
enum index_result index_each_lease(struct index *ix, index_lease_fn *each, void *arg);
/* Likewise every object. */
typedef bool index_object_fn(const struct digest *d, const struct index_object *o, void *arg);
enum index_result index_each_object(struct index *ix, index_object_fn *each, void *arg);
/* Those of this algorithm whose hash begins with this byte: a 256th of all. */
enum index_result index_each_object_in(
    struct index *ix, uint8_t algo, uint8_t first, index_object_fn *each, void *arg);

/* names: what was cached, in people's words. `upstream` is scheme://host[:port]. A name that
 * was put with the same digest less than INDEX_NAME_FRESH seconds before is not written again. */
enum { INDEX_NAME_FRESH = 60 };
enum index_result index_put_name(struct index *ix, const char *upstream, const char *repository,
    const char *tag, const struct digest *d, int64_t seen_at);
enum index_result index_get_name(struct index *ix, const char *upstream, const char *repository,
    const char *tag, struct digest *d, int64_t *seen_at);
/* Calls `each` for every name, in the order of their words, as above. */
struct index_name {
	const char *upstream, *repository, *tag; /* NULL: too long, not kept. Good until `each` returns */
	struct digest digest;
	int64_t seen_at;
};
typedef bool index_name_fn(const struct index_name *n, void *arg);
enum index_result index_each_name(struct index *ix, index_name_fn *each, void *arg);
/* proofs: this upstream has itself delivered the bytes of `d` (DESIGN.md section 6). */
enum index_result index_put_proof(struct index *ix, const char *upstream, const struct digest *d);
enum index_result index_get_proof(struct index *ix, const char *upstream, const struct digest *d);

/* Walks over names and proofs and removes those that are of no use: a name whose object is not here an hour
 * after it was seen, or that nobody has asked for for 30 days; a proof about an object that is neither here
 * nor leased. A walk is owned by its caller (index_prune_free). Each call looks at about a thousand records,
 * removes INDEX_PRUNE_MAX at most, and sets *removed; `now` is clock_wall(). INDEX_OK: there are more;
 * INDEX_MISS: that was the end. */
enum { INDEX_PRUNE_MAX = 100 };
struct index_prune;
struct index_prune *index_prune_new(void);
void index_prune_free(struct index_prune **p);
enum index_result index_prune(struct index *ix, struct index_prune *p, int64_t now, unsigned *removed)
    __attribute__((warn_unused_result));

/* Object `o` was used now (clock_wall_ms): one atomic store in the usage array. */
void index_touch(struct index *ix, const struct index_object *o, int64_t now_ms);
/* Its fetched_at in milliseconds; of a record that is out of reason, the largest there are. */
int64_t index_fetched_ms(const struct index_object *o);
/* When `o` was last used, in milliseconds since 1970, or its fetched_at when that is all that is known. */
int64_t index_last_used(struct index *ix, const struct index_object *o);
/* The same, or when the index was made, if that is later: of what was used before nothing is known. */
int64_t index_unused_since(struct index *ix, const struct index_object *o);
/* The wall clock was set by so much and is `now_ms` now: every time of use goes with it, but for those of
 * the last `young_ms`, which may have been taken after that. */
void index_shift_usage(struct index *ix, int64_t by_ms, int64_t now_ms, int64_t young_ms);

/* How large it is. */
enum { INDEX_DATABASES = 4 };
struct index_stats {
	uint64_t records[INDEX_DATABASES]; /* objects, leases, names, proofs */
	uint64_t used_bytes, map_bytes;    /* of the file, and what it may grow to */
};
enum index_result index_get_stats(struct index *ix, struct index_stats *s);

/* Descriptors of the files that fdatasync() brings to the disk, the caller's to close: it may block for as long as
 * the disk likes. -1: there is no such file. False with errno: what there is is still to be closed. */
enum { INDEX_FILES = 2 };
bool index_dup_files(struct index *ix, int fds[INDEX_FILES]) __attribute__((warn_unused_result));
/* It failed: logged and counted as the index's other failures. */
void index_sync_failed(struct index *ix, int error);
/* How many transactions have failed since this was asked last, whatever was made of it: for COUNT_INDEX_ERRORS. */
uint64_t index_take_failures(struct index *ix);
/* Frees the reader slots of dead processes. Returns how many. */
int index_reader_check(struct index *ix);

#endif
