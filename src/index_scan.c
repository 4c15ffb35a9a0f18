/* Walks over all leases or all objects. Records are read in batches and handed on when the
 * transaction is over, so that a walk, however long, pins no pages and blocks nobody. */
#include "index.h"

#include <stdlib.h>
#include <string.h>

#include "index_private.h"
#include "index_record.h"
#include "xalloc.h"

enum { BATCH = 256 };

struct row {
	struct digest digest;
	union {
		struct index_object object;
		struct index_lease lease;
	} as;
};

struct rows {
	struct index_walk at;
	size_t count;
	struct row row[BATCH];
};

/* --- a batch ---------------------------------------------------------------------------------- */

void
index_key_copy(struct index_key *to, const MDB_val *key)
{
	to->len = key->mv_size < sizeof(to->bytes) ? key->mv_size : sizeof(to->bytes);
	memcpy(to->bytes, key->mv_data, to->len);
}

/* Places the cursor on the first record after the key that the walk has reached. */
static int
seek(const struct index_walk *w, MDB_cursor *cursor, MDB_val *key, MDB_val *value)
{
	const struct index_key *last = &w->last;
	int rc;

	if (last->len == 0 && w->prefix_len == 0)
		return mdb_cursor_get(cursor, key, value, MDB_FIRST);
	if (last->len == 0) {
		*key = (MDB_val){w->prefix_len, (void *)(uintptr_t)w->prefix};
		return mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
	}
	*key = (MDB_val){last->len, (void *)(uintptr_t)last->bytes};
	rc = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
	if (rc != 0 || key->mv_size != last->len || memcmp(key->mv_data, last->bytes, last->len) != 0)
		return rc;
	return mdb_cursor_get(cursor, key, value, MDB_NEXT);
}

/* MDB_NOTFOUND: the walk has left the keys that it is to see. */
static int
within(const struct index_walk *w, const MDB_val *key)
{
	bool is = key->mv_size >= w->prefix_len && memcmp(key->mv_data, w->prefix, w->prefix_len) == 0;

	return is ? 0 : MDB_NOTFOUND;
}

/* In a damaged tree the next key may be one that the walk has seen: it would never end. */
static bool
goes_on(const struct index_walk *w, MDB_cursor *cursor, const MDB_val *key)
{
	MDB_val last = {w->last.len, (void *)(uintptr_t)w->last.bytes};

	return last.mv_size == 0 ||
	    mdb_cmp(mdb_cursor_txn(cursor), mdb_cursor_dbi(cursor), &last, key) < 0;
}

static int
see_rows(struct index *ix, MDB_cursor *cursor, struct index_walk *w, index_row_fn *row, void *arg)
{
	MDB_val key, value;
	int rc = seek(w, cursor, &key, &value), seen = 0;

	for (int i = 0; rc == 0 && seen == 0 && i < INDEX_BATCH && (rc = within(w, &key)) == 0; i++) {
		if (!goes_on(w, cursor, &key))
			return MDB_CORRUPTED;
		seen = row(ix, mdb_cursor_txn(cursor), &key, &value, arg);
		if (seen != 0 && seen != INDEX_ENOUGH)
			return seen;
		index_key_copy(&w->last, &key);
		rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
	}
	w->at_end = rc == MDB_NOTFOUND;
	return w->at_end ? 0 : rc;
}

int
index_batch(struct index *ix, MDB_txn *txn, struct index_walk *w, index_row_fn *row, void *arg)
{
	const struct index_key began = w->last;
	MDB_cursor *cursor;
	int rc = mdb_cursor_open(txn, ix->db[w->db], &cursor);

	if (rc != 0)
		return rc;
	rc = see_rows(ix, cursor, w, row, arg);
	mdb_cursor_close(cursor);
	if (rc != 0)
		w->last = began;
	return rc;
}

/* --- leases and objects ----------------------------------------------------------------------- */

static int
add_row(struct index *ix, MDB_txn *txn, const MDB_val *key, const MDB_val *value, void *arg)
{
	struct rows *rows = arg;
	struct row *r = &rows->row[rows->count];
	bool ok = digest_from_key(key->mv_data, key->mv_size, &r->digest);

	(void)txn;
	if (ok && rows->at.db == DB_LEASES)
		ok = index_record_decode_lease(value->mv_data, value->mv_size, &r->as.lease);
	else if (ok)
		ok = index_record_decode_object(value->mv_data, value->mv_size, &r->as.object);
	if (ok)
		rows->count++;
	else
		index_odd_record(ix, rows->at.db);
	return rows->count == BATCH ? INDEX_ENOUGH : 0;
}

static int
batch_step(struct index *ix, MDB_txn *txn, void *arg)
{
	struct rows *rows = arg;

	rows->count = 0;
	return index_batch(ix, txn, &rows->at, add_row, rows);
}

typedef bool row_fn(const struct row *r, void *arg);

/* False: `each` has seen enough. */
static bool
hand_on(const struct rows *rows, row_fn *each, void *arg)
{
	for (size_t i = 0; i < rows->count; i++)
		if (!each(&rows->row[i], arg))
			return false;
	return true;
}

static enum index_result
walk(struct index *ix, const struct index_walk *start, row_fn *each, void *arg)
{
	struct rows *rows = xmalloc(sizeof(*rows));
	enum index_result result;

	rows->at = *start;
	do
		result = index_env_read(ix, "walk over the records", batch_step, rows);
	while (result == INDEX_OK && hand_on(rows, each, arg) && !rows->at.at_end);
	free(rows);
	return result;
}

struct lease_call {
	index_lease_fn *each;
	void *arg;
};

static bool
call_lease(const struct row *r, void *arg)
{
	const struct lease_call *call = arg;

	return call->each(&r->digest, &r->as.lease, call->arg);
}

enum index_result
index_each_lease(struct index *ix, index_lease_fn *each, void *arg)
{
	const struct index_walk start = {.db = DB_LEASES};

	return walk(ix, &start, call_lease, &(struct lease_call){each, arg});
}

struct object_call {
	index_object_fn *each;
	void *arg;
};

static bool
call_object(const struct row *r, void *arg)
{
	const struct object_call *call = arg;

	return call->each(&r->digest, &r->as.object, call->arg);
}

enum index_result
index_each_object(struct index *ix, index_object_fn *each, void *arg)
{
	const struct index_walk start = {.db = DB_OBJECTS};

	return walk(ix, &start, call_object, &(struct object_call){each, arg});
}

enum index_result
index_each_object_in(
    struct index *ix, uint8_t algo, uint8_t first, index_object_fn *each, void *arg)
{
	const struct index_walk start = {.db = DB_OBJECTS, .prefix = {algo, first}, .prefix_len = 2};

	return walk(ix, &start, call_object, &(struct object_call){each, arg});
}
