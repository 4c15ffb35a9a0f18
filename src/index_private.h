/* What the index*.c files share: the environment, and the one way in which a transaction is
 * made. LMDB's quirks (map full, map resized, reader slots) are handled in index_env.c and
 * nowhere else. */
#ifndef INDEX_PRIVATE_H
#define INDEX_PRIVATE_H

#include <lmdb.h>

#include "index.h"

enum index_db { DB_OBJECTS, DB_LEASES, DB_NAMES, DB_PROOFS, DB_META, DB_COUNT };
extern const char *const index_db_names[DB_COUNT];

/* LMDB's limit as it is compiled by default; index_open() refuses a library with a lower one. */
enum { INDEX_KEY_MAX = 511 };

struct index_usage;

struct index {
	char *dir;
	size_t map_bytes;
	MDB_env *env;    /* NULL: it could not be opened again */
	MDB_txn *reader; /* kept for look-ups, reset between them; NULL: none yet */
	MDB_dbi db[DB_COUNT];
	struct index_usage *usage; /* NULL: could not be opened */
	bool lost;                 /* the environment or its map: opened again before its next use */
	uint64_t reopened_ms;      /* clock_ms; 0: never */
	int64_t made_ms;           /* clock_wall_ms; 0: not known */
	bool odd_seen;             /* a record that could not be decoded was logged */
	uint64_t failures;         /* of transactions, not yet taken */
	int logged_rc;             /* the last failure that was logged … */
	uint64_t logged_ms;        /* … and when (clock_ms) */
};

/* One step of a transaction, with LMDB's result codes: 0 commits, MDB_NOTFOUND is INDEX_MISS,
 * INDEX_KEEP is INDEX_OK with nothing written. Run again from its start when the map had to
 * grow. */
typedef int index_step_fn(struct index *ix, MDB_txn *txn, void *arg);
enum { INDEX_KEEP = -1 };

/* `what` is for the log: "cannot <what>". */
enum index_result index_env_write(
    struct index *ix, const char *what, index_step_fn *step, void *arg);
enum index_result index_env_read(
    struct index *ix, const char *what, index_step_fn *step, void *arg);

/* Opens environment and databases in ix->dir. Returns LMDB's code, 0 when all is well; after a failure
 * there is nothing to close. */
int index_env_open(struct index *ix);
void index_env_close(struct index *ix);
/* Logs a failure, once in a while when it repeats itself. */
void index_env_failed(struct index *ix, const char *what, int rc);

/* A record in `db` could not be decoded: logged once, and treated as absent. */
void index_odd_record(struct index *ix, enum index_db db);

/* index_format.c: MDB_VERSION_MISMATCH when the index is of another format; a new one is marked. */
int index_format_check(struct index *ix, MDB_txn *txn);

/* When the index was made; MDB_NOTFOUND: that is not known. */
int index_format_made(struct index *ix, MDB_txn *txn, void *made_ms);

/* index_scan.c: walks over a database in batches. A step of the caller's empties what it collects, then lets
 * index_batch() call `row` for the records after the one that the walk has reached, until that returns INDEX_ENOUGH,
 * which counts its record, or a failure, after which the batch may be run again; of INDEX_BATCH at most. */
struct index_key {
	uint8_t bytes[INDEX_KEY_MAX];
	size_t len;
};
struct index_walk {
	enum index_db db;
	uint8_t prefix[2];  /* of all keys that the walk sees … */
	size_t prefix_len;  /* … 0: every key */
	struct index_key last; /* the key that the walk has reached; its len is 0: it begins */
	bool at_end;
};
enum { INDEX_ENOUGH = 1, INDEX_BATCH = 1024 };
typedef int index_row_fn(
    struct index *ix, MDB_txn *txn, const MDB_val *key, const MDB_val *value, void *arg);
int index_batch(struct index *ix, MDB_txn *txn, struct index_walk *w, index_row_fn *row, void *arg);
void index_key_copy(struct index_key *to, const MDB_val *key);

/* index_name.c: removes all proofs about a digest. */
int index_proofs_delete(struct index *ix, MDB_txn *txn, const struct digest *d);

/* index_slot.c: which usage slots are taken, recorded in the same transaction as the object
 * that has one. *slot is INDEX_NO_USAGE when the array cannot grow, which is no failure of the
 * transaction. */
int index_slot_take(struct index *ix, MDB_txn *txn, uint32_t *slot);
int index_slot_free(struct index *ix, MDB_txn *txn, uint32_t slot);
/* Makes the array long enough for every slot taken, in case the file was lost. */
int index_slot_restore(struct index *ix, MDB_txn *txn, void *unused);

#endif
