/* Which slots of the usage array are taken. Database `meta`: "n" is the first slot never given
 * out (32 bits, little-endian), and a key "f" + slot (32 bits, big-endian) for each that an
 * object gave back. */
#include "index_private.h"

#include <errno.h>

#include "index_usage.h"

enum { FREE_KEY_SIZE = 5, NEXT_SIZE = 4 };

static const char next_key[] = "n";

static void
free_key(uint32_t slot, uint8_t key[FREE_KEY_SIZE])
{
	key[0] = 'f';
	for (int i = 0; i < 4; i++)
		key[1 + i] = (uint8_t)(slot >> (24 - 8 * i));
}

/* Some slot that was given back. */
static int
find_free(struct index *ix, MDB_txn *txn, uint32_t *slot)
{
	MDB_val key = {1, "f"}, value;
	MDB_cursor *cursor;
	const uint8_t *p;
	int rc = mdb_cursor_open(txn, ix->db[DB_META], &cursor);

	if (rc != 0)
		return rc;
	rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
	mdb_cursor_close(cursor);
	if (rc != 0)
		return rc;
	p = key.mv_data;
	if (key.mv_size != FREE_KEY_SIZE || p[0] != 'f')
		return MDB_NOTFOUND;
	*slot = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
	return 0;
}

static int
get_next(struct index *ix, MDB_txn *txn, uint32_t *next)
{
	MDB_val key = {1, (void *)(uintptr_t)next_key}, value;
	const uint8_t *p;
	int rc = mdb_get(txn, ix->db[DB_META], &key, &value);

	*next = 0;
	if (rc == MDB_NOTFOUND)
		return 0;
	if (rc != 0)
		return rc;
	if (value.mv_size != NEXT_SIZE)
		return MDB_CORRUPTED;
	p = value.mv_data;
	*next = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
	return 0;
}

static int
put_next(struct index *ix, MDB_txn *txn, uint32_t next)
{
	uint8_t bytes[NEXT_SIZE] = {
	    (uint8_t)next, (uint8_t)(next >> 8), (uint8_t)(next >> 16), (uint8_t)(next >> 24)};
	MDB_val key = {1, (void *)(uintptr_t)next_key}, value = {sizeof(bytes), bytes};

	return mdb_put(txn, ix->db[DB_META], &key, &value, 0);
}

/* False: said why in the log; such an object is served all the same. */
static bool
has_room(struct index *ix, uint32_t slot)
{
	if (ix->usage == NULL || slot == INDEX_NO_USAGE)
		return false;
	if (index_usage_reserve(ix->usage, slot))
		return true;
	index_env_failed(ix, "make the usage array longer", errno);
	return false;
}

int
index_slot_take(struct index *ix, MDB_txn *txn, uint32_t *slot)
{
	uint8_t bytes[FREE_KEY_SIZE];
	MDB_val key = {sizeof(bytes), bytes};
	uint32_t found;
	int rc = find_free(ix, txn, &found);
	bool reused = rc == 0;

	*slot = INDEX_NO_USAGE;
	if (rc == MDB_NOTFOUND)
		rc = get_next(ix, txn, &found);
	if (rc != 0 || !has_room(ix, found))
		return rc;
	*slot = found;
	if (!reused)
		return put_next(ix, txn, found + 1);
	free_key(found, bytes);
	return mdb_del(txn, ix->db[DB_META], &key, NULL);
}

int
index_slot_free(struct index *ix, MDB_txn *txn, uint32_t slot)
{
	uint8_t bytes[FREE_KEY_SIZE];
	MDB_val key = {sizeof(bytes), bytes}, value = {0, ""};

	if (slot == INDEX_NO_USAGE)
		return 0;
	free_key(slot, bytes);
	return mdb_put(txn, ix->db[DB_META], &key, &value, 0);
}

int
index_slot_restore(struct index *ix, MDB_txn *txn, void *unused)
{
	uint32_t next;
	int rc = get_next(ix, txn, &next);

	(void)unused;
	if (rc == 0 && next > 0)
		has_room(ix, next - 1);
	return rc != 0 ? rc : INDEX_KEEP;
}
