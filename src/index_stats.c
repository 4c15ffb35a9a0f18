/* How large the index is. */
#include "index_private.h"

static int
read_stats(struct index *ix, MDB_txn *txn, void *arg)
{
	static const enum index_db dbs[INDEX_DATABASES] = {DB_OBJECTS, DB_LEASES, DB_NAMES, DB_PROOFS};
	struct index_stats *s = arg;
	MDB_envinfo info;
	MDB_stat stat;
	int rc;

	for (int i = 0; i < INDEX_DATABASES; i++) {
		if ((rc = mdb_stat(txn, ix->db[dbs[i]], &stat)) != 0)
			return rc;
		s->records[i] = stat.ms_entries;
	}
	if ((rc = mdb_env_info(ix->env, &info)) != 0)
		return rc;
	s->used_bytes = (uint64_t)(info.me_last_pgno + 1) * stat.ms_psize;
	s->map_bytes = info.me_mapsize;
	return 0;
}

enum index_result
index_get_stats(struct index *ix, struct index_stats *s)
{
	*s = (struct index_stats){0};
	return index_env_read(ix, "read its size", read_stats, s);
}
