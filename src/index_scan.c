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

struct walk {
	enum index_db db;
	uint8_t last[DIGEST_KEY_MAX]; /* the key that the walk has reached */
	size_t last_len;              /* 0: it begins */
	bool done;
	size_t count;
	struct row rows[BATCH];
};

static void
add_row(struct index *ix, struct walk *w, const MDB_val *key, const MDB_val *value)
{
	struct row *r = &w->rows[w->count];
	bool ok = digest_from_key(key->mv_data, key->mv_size, &r->digest);

	if (ok && w->db == DB_LEASES)
		ok = index_record_decode_lease(value->mv_data, value->mv_size, &r->as.lease);
	else if (ok)
		ok = index_record_decode_object(value->mv_data, value->mv_size, &r->as.object);
	if (ok)
		w->count++;
	else
		index_odd_record(ix, w->db);
}

/* Places the cursor on the first record after the key that the walk has reached. */
static int
seek(struct walk *w, MDB_cursor *cursor, MDB_val *key, MDB_val *value)
{
	int rc;

	if (w->last_len == 0)
		return mdb_cursor_get(cursor, key, value, MDB_FIRST);
	*key = (MDB_val){w->last_len, w->last};
	rc = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
	if (rc != 0 || key->mv_size != w->last_len ||
	    memcmp(key->mv_data, w->last, w->last_len) != 0)
		return rc;
	return mdb_cursor_get(cursor, key, value, MDB_NEXT);
}

static int
batch(struct index *ix, struct walk *w, MDB_cursor *cursor)
{
	MDB_val key, value;
	int rc = seek(w, cursor, &key, &value);

	for (int i = 0; rc == 0 && i < BATCH; i++) {
		add_row(ix, w, &key, &value);
		w->last_len = key.mv_size < sizeof(w->last) ? key.mv_size : sizeof(w->last);
		memcpy(w->last, key.mv_data, w->last_len);
		rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
	}
	w->done = rc == MDB_NOTFOUND;
	return rc == MDB_NOTFOUND ? 0 : rc;
}

static int
batch_step(struct index *ix, MDB_txn *txn, void *arg)
{
	struct walk *w = arg;
	MDB_cursor *cursor;
	int rc = mdb_cursor_open(txn, ix->db[w->db], &cursor);

	if (rc != 0)
		return rc;
	w->count = 0;
	rc = batch(ix, w, cursor);
	mdb_cursor_close(cursor);
	return rc;
}

typedef bool row_fn(const struct row *r, void *arg);

/* False: `each` has seen enough. */
static bool
hand_on(const struct walk *w, row_fn *each, void *arg)
{
	for (size_t i = 0; i < w->count; i++)
		if (!each(&w->rows[i], arg))
			return false;
	return true;
}

static enum index_result
walk(struct index *ix, enum index_db db, row_fn *each, void *arg)
{
	struct walk *w = xcalloc(1, sizeof(*w));
	enum index_result result;

	w->db = db;
	do
		result = index_env_read(ix, "walk over the records", batch_step, w);
	while (result == INDEX_OK && hand_on(w, each, arg) && !w->done);
	free(w);
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
	return walk(ix, DB_LEASES, call_lease, &(struct lease_call){each, arg});
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
	return walk(ix, DB_OBJECTS, call_object, &(struct object_call){each, arg});
}
