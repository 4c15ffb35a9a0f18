/* The format of the whole index: its databases, keys and the usage array. Records have versions of
 * their own (index_record.c). An index of another format is not opened: it is made again from the
 * files. */
#include "clock.h"
#include "index_private.h"

enum {
	FORMAT = 2, /* 1 had no such key, and 32 bits a slot in `usage` */
	FORMAT_SIZE = 4,
	MADE_SIZE = 8,
};

static const char format_key[] = "v";
static const char made_key[] = "t"; /* when it was made, clock_wall_ms, 64 bits, little-endian */

static int
put_format(struct index *ix, MDB_txn *txn)
{
	uint8_t bytes[FORMAT_SIZE] = {FORMAT};
	MDB_val key = {1, (void *)(uintptr_t)format_key}, value = {sizeof(bytes), bytes};

	return mdb_put(txn, ix->db[DB_META], &key, &value, 0);
}

static int
put_made(struct index *ix, MDB_txn *txn)
{
	uint64_t now = (uint64_t)clock_wall_ms();
	uint8_t bytes[MADE_SIZE];
	MDB_val key = {1, (void *)(uintptr_t)made_key}, value = {sizeof(bytes), bytes};

	for (unsigned i = 0; i < MADE_SIZE; i++)
		bytes[i] = (uint8_t)(now >> 8 * i);
	return mdb_put(txn, ix->db[DB_META], &key, &value, 0);
}

int
index_format_made(struct index *ix, MDB_txn *txn, void *made_ms)
{
	MDB_val key = {1, (void *)(uintptr_t)made_key}, value;
	int rc = mdb_get(txn, ix->db[DB_META], &key, &value);
	const uint8_t *p = value.mv_data;
	uint64_t ms = 0;

	if (rc != 0)
		return rc;
	if (value.mv_size != MADE_SIZE)
		return MDB_CORRUPTED;
	for (unsigned i = 0; i < MADE_SIZE; i++)
		ms |= (uint64_t)p[i] << 8 * i;
	*(int64_t *)made_ms = (int64_t)ms;
	return 0;
}

/* Has it ever held anything? Not only now: a slot that was given out stays recorded. */
static int
is_new(struct index *ix, MDB_txn *txn, bool *result)
{
	MDB_stat meta, objects;
	int rc = mdb_stat(txn, ix->db[DB_META], &meta);

	if (rc == 0)
		rc = mdb_stat(txn, ix->db[DB_OBJECTS], &objects);
	*result = rc == 0 && meta.ms_entries == 0 && objects.ms_entries == 0;
	return rc;
}

int
index_format_check(struct index *ix, MDB_txn *txn)
{
	MDB_val key = {1, (void *)(uintptr_t)format_key}, value;
	int rc = mdb_get(txn, ix->db[DB_META], &key, &value);
	const uint8_t *p = value.mv_data;
	bool new = false;

	if (rc == 0)
		return value.mv_size == FORMAT_SIZE && p[0] == FORMAT && (p[1] | p[2] | p[3]) == 0
		    ? 0
		    : MDB_VERSION_MISMATCH;
	if (rc == MDB_NOTFOUND)
		rc = is_new(ix, txn, &new);
	if (rc != 0)
		return rc;
	if (!new)
		return MDB_VERSION_MISMATCH;
	rc = put_format(ix, txn);
	return rc != 0 ? rc : put_made(ix, txn);
}
