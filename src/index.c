/* Objects and leases by digest: look-ups, and the one read-modify-write that leases are made
 * of. Names and proofs are in index_name.c, walks in index_scan.c, transactions in index_env.c. */
#include "index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "index_private.h"
#include "index_record.h"
#include "index_usage.h"
#include "log.h"
#include "xalloc.h"

/* Costs nothing but address space; a full map would cost a remapping in every process. */
static const size_t default_map_bytes = (size_t)64 << 30;

struct index *
index_open(const char *dir)
{
	return index_open_sized(dir, default_map_bytes);
}

struct index *
index_open_sized(const char *dir, size_t map_bytes)
{
	struct index *ix = xcalloc(1, sizeof(*ix));
	int rc;

	ix->dir = xstrdup(dir);
	ix->map_bytes = map_bytes;
	rc = index_env_open(ix);
	if (rc != 0) {
		log_error("cannot open the index %s: %s", dir, mdb_strerror(rc));
		free(ix->dir);
		free(ix);
		return NULL;
	}
	ix->usage = index_usage_open(dir);
	(void)index_env_write(ix, "look at the usage slots", index_slot_restore, NULL);
	(void)index_env_read(ix, "look when it was made", index_format_made, &ix->made_ms);
	if (ix->made_ms > clock_wall_ms()) /* by a clock that was wrong */
		ix->made_ms = 0;
	return ix;
}

void
index_close(struct index **ix)
{
	if (*ix == NULL)
		return;
	index_env_close(*ix);
	index_usage_close(&(*ix)->usage);
	free((*ix)->dir);
	free(*ix);
	*ix = NULL;
}

/* --- an entry: what is recorded for one digest ----------------------------------------------- */

/* The question that a transaction answers. `key` points to the digest's binary form. */
struct question {
	uint8_t bytes[DIGEST_KEY_MAX];
	MDB_val key;
	const struct digest *digest;
	struct index_entry *entry;
	index_decide_fn *decide;
	void *arg;
};

static void
ask(struct question *q, const struct digest *d, struct index_entry *e)
{
	q->key = (MDB_val){digest_key(d, q->bytes), q->bytes};
	q->digest = d;
	q->entry = e;
}

/* Object or not: 0 in both cases. */
static int
load_object(struct index *ix, MDB_txn *txn, MDB_val *key, struct index_entry *e)
{
	MDB_val value;
	int rc = mdb_get(txn, ix->db[DB_OBJECTS], key, &value);

	if (rc != 0)
		return rc == MDB_NOTFOUND ? 0 : rc;
	e->has_object = index_record_decode_object(value.mv_data, value.mv_size, &e->object);
	if (!e->has_object)
		index_odd_record(ix, DB_OBJECTS);
	return 0;
}

static int
load_lease(struct index *ix, MDB_txn *txn, MDB_val *key, struct index_entry *e)
{
	MDB_val value;
	int rc = mdb_get(txn, ix->db[DB_LEASES], key, &value);

	if (rc != 0)
		return rc == MDB_NOTFOUND ? 0 : rc;
	e->has_lease = index_record_decode_lease(value.mv_data, value.mv_size, &e->lease);
	if (!e->has_lease)
		index_odd_record(ix, DB_LEASES);
	return 0;
}

static int
load_entry(struct index *ix, MDB_txn *txn, struct question *q)
{
	int rc;

	memset(q->entry, 0, sizeof(*q->entry));
	rc = load_object(ix, txn, &q->key, q->entry);
	return rc != 0 ? rc : load_lease(ix, txn, &q->key, q->entry);
}

static int
put_record(
    struct index *ix, MDB_txn *txn, enum index_db db, MDB_val *key, uint8_t *record, size_t len)
{
	MDB_val value = {len, record};

	return mdb_put(txn, ix->db[db], key, &value, 0);
}

int64_t
index_fetched_ms(const struct index_object *o)
{
	int64_t ms;

	return __builtin_mul_overflow(o->fetched_at, 1000, &ms) ? INT64_MAX : ms;
}

/* In milliseconds, if it was fetched a moment ago. */
static int64_t
first_used(const struct index_object *o)
{
	int64_t now = clock_wall_ms();

	return o->fetched_at <= now / 1000 && o->fetched_at >= now / 1000 - 1
	    ? now
	    : index_fetched_ms(o);
}

/* The slot stays with the object while there is a record of it. */
static int
store_object(struct index *ix, MDB_txn *txn, struct question *q, const struct index_entry *before)
{
	struct index_object o = q->entry->object;
	uint8_t record[INDEX_RECORD_MAX];
	int rc;

	o.usage = before->has_object ? before->object.usage : INDEX_NO_USAGE;
	if (o.usage == INDEX_NO_USAGE && (rc = index_slot_take(ix, txn, &o.usage)) != 0)
		return rc;
	if (ix->usage != NULL && o.usage != INDEX_NO_USAGE &&
	    (!before->has_object || before->object.fetched_at != o.fetched_at))
		index_usage_set(ix->usage, o.usage, first_used(&o));
	return put_record(
	    ix, txn, DB_OBJECTS, &q->key, record, index_record_encode_object(&o, record));
}

static int
delete_object(struct index *ix, MDB_txn *txn, struct question *q, const struct index_entry *before)
{
	int rc = mdb_del(txn, ix->db[DB_OBJECTS], &q->key, NULL);

	if (rc == 0)
		rc = index_slot_free(ix, txn, before->object.usage);
	return rc != 0 ? rc : index_proofs_delete(ix, txn, q->digest);
}

static int
apply_object(struct index *ix, MDB_txn *txn, struct question *q, const struct index_entry *before)
{
	if (q->entry->has_object)
		return store_object(ix, txn, q, before);
	return before->has_object ? delete_object(ix, txn, q, before) : 0;
}

static int
apply_lease(struct index *ix, MDB_txn *txn, struct question *q, const struct index_entry *before)
{
	uint8_t record[INDEX_RECORD_MAX];

	if (q->entry->has_lease)
		return put_record(ix, txn, DB_LEASES, &q->key, record,
		    index_record_encode_lease(&q->entry->lease, record));
	return before->has_lease ? mdb_del(txn, ix->db[DB_LEASES], &q->key, NULL) : 0;
}

static bool
object_changed(const struct index_entry *a, const struct index_entry *b)
{
	return a->has_object != b->has_object ||
	    (a->has_object && memcmp(&a->object, &b->object, sizeof(a->object)) != 0);
}

static bool
lease_changed(const struct index_entry *a, const struct index_entry *b)
{
	return a->has_lease != b->has_lease ||
	    (a->has_lease && memcmp(&a->lease, &b->lease, sizeof(a->lease)) != 0);
}

static int
update_step(struct index *ix, MDB_txn *txn, void *arg)
{
	struct question *q = arg;
	struct index_entry before;
	bool object, lease;
	int rc = load_entry(ix, txn, q);

	if (rc != 0)
		return rc;
	memcpy(&before, q->entry, sizeof(before));
	q->decide(q->entry, q->arg);
	object = object_changed(&before, q->entry);
	lease = lease_changed(&before, q->entry);
	if (!object && !lease)
		return INDEX_KEEP;
	if (object)
		rc = apply_object(ix, txn, q, &before);
	return rc == 0 && lease ? apply_lease(ix, txn, q, &before) : rc;
}

enum index_result
index_update(struct index *ix, const struct digest *d, index_decide_fn *decide, void *arg)
{
	struct index_entry e;
	struct question q = {.decide = decide, .arg = arg};

	ask(&q, d, &e);
	return index_env_write(ix, "write a record", update_step, &q);
}

struct questions {
	const struct digest *const *digests;
	unsigned n, at;
	index_decide_nth_fn *decide;
	void *arg;
};

static void
decide_nth(struct index_entry *e, void *arg)
{
	struct questions *qs = arg;

	qs->decide(e, qs->at, qs->arg);
}

static int
update_many_step(struct index *ix, MDB_txn *txn, void *arg)
{
	struct questions *qs = arg;
	int rc = 0, result = INDEX_KEEP;

	for (qs->at = 0; qs->at < qs->n; qs->at++) {
		struct index_entry e;
		struct question q = {.decide = decide_nth, .arg = qs};

		ask(&q, qs->digests[qs->at], &e);
		rc = update_step(ix, txn, &q);
		if (rc == 0)
			result = 0;
		else if (rc != INDEX_KEEP)
			return rc;
	}
	return result;
}

enum index_result
index_update_many(struct index *ix, const struct digest *const *digests, unsigned n,
    index_decide_nth_fn *decide, void *arg)
{
	struct questions qs = {.digests = digests, .n = n, .decide = decide, .arg = arg};

	return index_env_write(ix, "write records", update_many_step, &qs);
}

static int
look_step(struct index *ix, MDB_txn *txn, void *arg)
{
	return load_entry(ix, txn, arg);
}

enum index_result
index_look(struct index *ix, const struct digest *d, struct index_entry *e)
{
	struct question q = {0};

	ask(&q, d, e);
	return index_env_read(ix, "look up a record", look_step, &q);
}

/* --- objects --------------------------------------------------------------------------------- */

static int
get_object_step(struct index *ix, MDB_txn *txn, void *arg)
{
	struct question *q = arg;
	int rc = load_object(ix, txn, &q->key, q->entry);

	return rc != 0 || q->entry->has_object ? rc : MDB_NOTFOUND;
}

enum index_result
index_get_object(struct index *ix, const struct digest *d, struct index_object *o)
{
	struct index_entry e = {0};
	struct question q = {0};
	enum index_result result;

	ask(&q, d, &e);
	result = index_env_read(ix, "look up an object", get_object_step, &q);
	*o = e.object;
	return result;
}

static void
decide_put(struct index_entry *e, void *arg)
{
	const struct index_object *o = arg;
	uint32_t usage = e->has_object ? e->object.usage : INDEX_NO_USAGE;

	e->has_object = true;
	memcpy(&e->object, o, sizeof(*o));
	e->object.usage = usage;
}

enum index_result
index_put_object(struct index *ix, const struct digest *d, const struct index_object *o)
{
	struct index_object copy = *o;

	return index_update(ix, d, decide_put, &copy);
}

static void
decide_delete(struct index_entry *e, void *arg)
{
	bool *found = arg;

	*found = e->has_object;
	e->has_object = false;
}

enum index_result
index_delete_object(struct index *ix, const struct digest *d)
{
	bool found = false;
	enum index_result result = index_update(ix, d, decide_delete, &found);

	return result == INDEX_OK && !found ? INDEX_MISS : result;
}

/* --- usage, and the disk --------------------------------------------------------------------- */

void
index_touch(struct index *ix, const struct index_object *o, int64_t now_ms)
{
	if (ix->usage != NULL && o->usage != INDEX_NO_USAGE)
		index_usage_set(ix->usage, o->usage, now_ms);
}

int64_t
index_last_used(struct index *ix, const struct index_object *o)
{
	int64_t used = 0;

	if (ix->usage != NULL && o->usage != INDEX_NO_USAGE)
		used = index_usage_get(ix->usage, o->usage);
	return used != 0 ? used : index_fetched_ms(o);
}

int64_t
index_unused_since(struct index *ix, const struct index_object *o)
{
	int64_t used = index_last_used(ix, o);

	return used > ix->made_ms ? used : ix->made_ms;
}

void
index_shift_usage(struct index *ix, int64_t by_ms, int64_t now_ms, int64_t young_ms)
{
	if (ix->usage != NULL)
		index_usage_shift(ix->usage, by_ms, now_ms, young_ms);
	if (ix->made_ms != 0)
		ix->made_ms += by_ms;
}

bool
index_dup_files(struct index *ix, int fds[INDEX_FILES])
{
	mdb_filehandle_t data;

	fds[0] = fds[1] = -1;
	if (ix->lost || mdb_env_get_fd(ix->env, &data) != 0) {
		errno = EIO;
		return false;
	}
	if (ix->usage != NULL && (fds[1] = index_usage_dup(ix->usage)) < 0)
		return false;
	fds[0] = fcntl(data, F_DUPFD_CLOEXEC, 0);
	return fds[0] >= 0;
}

void
index_sync_failed(struct index *ix, int error)
{
	index_env_failed(ix, "flush", error);
}
