/* The format of the whole index: its databases, keys and the usage array. Records have versions of
 * their own (index_record.c). An index of another format is not opened: it is made again from the
 * files. */
#include "index_private.h"

enum {
	FORMAT = 2, /* 1 had no such key, and 32 bits a slot in `usage` */
	FORMAT_SIZE = 4,
};

static const char format_key[] = "v";

static int
put_format(struct index *ix, MDB_txn *txn)
{
	uint8_t bytes[FORMAT_SIZE] = {FORMAT};
	MDB_val key = {1, (void *)(uintptr_t)format_key}, value = {sizeof(bytes), bytes};

	return mdb_put(txn, ix->db[DB_META], &key, &value, 0);
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
	return new ? put_format(ix, txn) : MDB_VERSION_MISMATCH;
}
