/* Names and proofs outlive their objects: a farm has a new tag with every build, and a proof may be of what
 * was only passed through. A walk over both removes those that are of no use any more, some at a time. */
#include <stdlib.h>

#include "index_private.h"
#include "index_record.h"
#include "xalloc.h"

enum {
	NAME_WAITS_S = 3600,       /* for its object, which is fetched after the name was seen */
	NAME_UNSEEN_S = 30 * 86400, /* nobody asks for that tag any more, though its object is here */
	PROOF_ALGORITHMS = 2,
};

struct index_prune {
	struct index_walk at;
	int64_t now;
	struct index_key stale[INDEX_PRUNE_MAX];
	unsigned n, removed;
};

/* 0 or MDB_NOTFOUND. */
static int
has_record(struct index *ix, MDB_txn *txn, enum index_db db, const struct digest *d)
{
	uint8_t bytes[DIGEST_KEY_MAX];
	MDB_val key = {digest_key(d, bytes), bytes}, value;

	return mdb_get(txn, ix->db[db], &key, &value);
}

/* The digest that a proof's key begins with. */
static bool
proven(const MDB_val *key, struct digest *d)
{
	static const size_t lengths[PROOF_ALGORITHMS] = {1 + 32, 1 + 64};

	for (int i = 0; i < PROOF_ALGORITHMS; i++)
		if (key->mv_size > lengths[i] && digest_from_key(key->mv_data, lengths[i], d))
			return true;
	return false;
}

/* 0: it is of no use. MDB_KEYEXIST: it stays. A name from the future is one of a clock that was set
 * back; it is written again when it is seen again. */
static int
judge_name(struct index *ix, MDB_txn *txn, const struct index_prune *p, const MDB_val *value)
{
	struct digest d;
	int64_t seen_at;
	int rc;

	if (!index_record_decode_name(value->mv_data, value->mv_size, &d, &seen_at))
		return 0;
	if (p->now < seen_at || p->now - seen_at < NAME_WAITS_S)
		return MDB_KEYEXIST;
	if (p->now - seen_at >= NAME_UNSEEN_S)
		return 0;
	rc = has_record(ix, txn, DB_OBJECTS, &d);
	return rc == 0 ? MDB_KEYEXIST : rc == MDB_NOTFOUND ? 0 : rc;
}

/* Who holds the lease writes the proof before the object. */
static int
judge_proof(struct index *ix, MDB_txn *txn, const MDB_val *key)
{
	struct digest d;
	int rc;

	if (!proven(key, &d))
		return 0;
	rc = has_record(ix, txn, DB_OBJECTS, &d);
	if (rc == MDB_NOTFOUND)
		rc = has_record(ix, txn, DB_LEASES, &d);
	return rc == 0 ? MDB_KEYEXIST : rc == MDB_NOTFOUND ? 0 : rc;
}

static int
judge(struct index *ix, MDB_txn *txn, const struct index_prune *p, const MDB_val *key,
    const MDB_val *value)
{
	return p->at.db == DB_NAMES ? judge_name(ix, txn, p, value) : judge_proof(ix, txn, key);
}

static int
look(struct index *ix, MDB_txn *txn, const MDB_val *key, const MDB_val *value, void *arg)
{
	struct index_prune *p = arg;
	int verdict = judge(ix, txn, p, key, value);

	if (verdict == 0)
		index_key_copy(&p->stale[p->n++], key);
	else if (verdict != MDB_KEYEXIST)
		return verdict;
	return p->n == INDEX_PRUNE_MAX ? INDEX_ENOUGH : 0;
}

static int
look_step(struct index *ix, MDB_txn *txn, void *arg)
{
	struct index_prune *p = arg;

	p->n = 0;
	return index_batch(ix, txn, &p->at, look, p);
}

/* Those that are as they were: one may have been seen again since. */
static int
remove_step(struct index *ix, MDB_txn *txn, void *arg)
{
	struct index_prune *p = arg;
	int rc = 0;

	p->removed = 0;
	for (unsigned i = 0; i < p->n && rc == 0; i++) {
		MDB_val key = {p->stale[i].len, p->stale[i].bytes}, value;

		rc = mdb_get(txn, ix->db[p->at.db], &key, &value);
		if (rc == 0)
			rc = judge(ix, txn, p, &key, &value);
		if (rc == 0 && (rc = mdb_del(txn, ix->db[p->at.db], &key, NULL)) == 0)
			p->removed++;
		if (rc == MDB_NOTFOUND || rc == MDB_KEYEXIST)
			rc = 0;
	}
	return rc;
}

struct index_prune *
index_prune_new(void)
{
	struct index_prune *p = xcalloc(1, sizeof(*p));

	p->at.db = DB_NAMES;
	return p;
}

void
index_prune_free(struct index_prune **p)
{
	free(*p);
	*p = NULL;
}

enum index_result
index_prune(struct index *ix, struct index_prune *p, int64_t now, unsigned *removed)
{
	enum index_result result;

	*removed = 0;
	p->now = now;
	result = index_env_read(ix, "look for names that are of no use", look_step, p);
	if (result == INDEX_OK && p->n > 0) {
		result = index_env_write(ix, "remove names that are of no use", remove_step, p);
		*removed = result == INDEX_OK ? p->removed : 0;
	}
	if (result != INDEX_OK)
		return INDEX_ERROR;
	if (!p->at.at_end)
		return INDEX_OK;
	if (p->at.db == DB_PROOFS)
		return INDEX_MISS;
	p->at = (struct index_walk){.db = DB_PROOFS};
	return INDEX_OK;
}
