/* Names (upstream, repository, tag) and proofs (digest, upstream). A key is a letter and the
 * words, or, when that is longer than LMDB allows, another letter and the words' SHA-256. */
#include "index.h"

#include <stdlib.h>
#include <string.h>

#include "index_private.h"
#include "index_record.h"
#include "xalloc.h"

enum { PLAIN = 'p', HASHED = 'h' };

/* Appends the words, each with its NUL, so that no two lists of words look the same. */
static void
add_words(struct index_key *k, const char *const *words, size_t count)
{
	struct digest d;
	struct hasher *h;
	size_t len = 0;

	for (size_t i = 0; i < count; i++)
		len += strlen(words[i]) + 1;
	if (len < sizeof(k->bytes) - k->len) {
		k->bytes[k->len++] = PLAIN;
		for (size_t i = 0; i < count; i++) {
			memcpy(k->bytes + k->len, words[i], strlen(words[i]) + 1);
			k->len += strlen(words[i]) + 1;
		}
		return;
	}
	h = hasher_new(DIGEST_SHA256);
	for (size_t i = 0; i < count; i++)
		hasher_update(h, words[i], strlen(words[i]) + 1);
	hasher_final(h, &d);
	hasher_free(&h);
	k->bytes[k->len++] = HASHED;
	memcpy(k->bytes + k->len, d.bytes, d.len);
	k->len += d.len;
}

/* --- names ----------------------------------------------------------------------------------- */

struct name {
	struct index_key key;
	struct digest digest;
	int64_t seen_at;
};

static void
name_init(struct name *n, const char *upstream, const char *repository, const char *tag)
{
	const char *const words[] = {upstream, repository, tag};

	memset(n, 0, sizeof(*n));
	add_words(&n->key, words, 3);
}

static int
put_name_step(struct index *ix, MDB_txn *txn, void *arg)
{
	struct name *n = arg;
	uint8_t record[INDEX_RECORD_MAX];
	MDB_val key = {n->key.len, n->key.bytes}, value = {0, record};

	value.mv_size = index_record_encode_name(&n->digest, n->seen_at, record);
	return mdb_put(txn, ix->db[DB_NAMES], &key, &value, 0);
}

static int
get_name_step(struct index *ix, MDB_txn *txn, void *arg)
{
	struct name *n = arg;
	MDB_val key = {n->key.len, n->key.bytes}, value;
	int rc = mdb_get(txn, ix->db[DB_NAMES], &key, &value);

	if (rc != 0)
		return rc;
	if (index_record_decode_name(value.mv_data, value.mv_size, &n->digest, &n->seen_at))
		return 0;
	index_odd_record(ix, DB_NAMES);
	return MDB_NOTFOUND;
}

/* A tag is asked for again and again: a look-up is a hundred times cheaper than a write, and
 * blocks nobody. */
enum index_result
index_put_name(struct index *ix, const char *upstream, const char *repository, const char *tag,
    const struct digest *d, int64_t seen_at)
{
	struct name n;

	name_init(&n, upstream, repository, tag);
	if (index_env_read(ix, "look up a name", get_name_step, &n) == INDEX_OK &&
	    digest_equal(&n.digest, d) && seen_at >= n.seen_at &&
	    seen_at - n.seen_at < INDEX_NAME_FRESH)
		return INDEX_OK;
	n.digest = *d;
	n.seen_at = seen_at;
	return index_env_write(ix, "write a name", put_name_step, &n);
}

enum index_result
index_get_name(struct index *ix, const char *upstream, const char *repository, const char *tag,
    struct digest *d, int64_t *seen_at)
{
	struct name n;
	enum index_result result;

	name_init(&n, upstream, repository, tag);
	result = index_env_read(ix, "look up a name", get_name_step, &n);
	*d = n.digest;
	*seen_at = n.seen_at;
	return result;
}

/* --- all names ------------------------------------------------------------------------------- */

enum { NAME_ROWS = 64 };

struct name_rows {
	struct index_walk at;
	struct name row[NAME_ROWS];
	unsigned n;
};

static int
add_name(struct index *ix, MDB_txn *txn, const MDB_val *key, const MDB_val *value, void *arg)
{
	struct name_rows *rows = arg;
	struct name *n = &rows->row[rows->n];

	(void)txn;
	index_key_copy(&n->key, key);
	if (index_record_decode_name(value->mv_data, value->mv_size, &n->digest, &n->seen_at))
		rows->n++;
	else
		index_odd_record(ix, DB_NAMES);
	return rows->n == NAME_ROWS ? INDEX_ENOUGH : 0;
}

static int
read_names_step(struct index *ix, MDB_txn *txn, void *arg)
{
	struct name_rows *rows = arg;

	rows->n = 0;
	return index_batch(ix, txn, &rows->at, add_name, rows);
}

/* The words of a plain key, each with its NUL. */
static void
split_words(const struct index_key *k, struct index_name *out)
{
	const char **const words[] = {&out->upstream, &out->repository, &out->tag};
	const char *p = (const char *)k->bytes + 1, *end = (const char *)k->bytes + k->len;

	if (k->len == 0 || k->bytes[0] != PLAIN || k->bytes[k->len - 1] != '\0')
		return;
	for (int i = 0; i < 3; i++) {
		if (p >= end) {
			out->upstream = NULL;
			return;
		}
		*words[i] = p;
		p += strlen(p) + 1;
	}
}

static bool
hand_on(const struct name_rows *rows, index_name_fn *each, void *arg)
{
	for (unsigned i = 0; i < rows->n; i++) {
		const struct name *n = &rows->row[i];
		struct index_name out = {.digest = n->digest, .seen_at = n->seen_at};

		split_words(&n->key, &out);
		if (!each(&out, arg))
			return false;
	}
	return true;
}

enum index_result
index_each_name(struct index *ix, index_name_fn *each, void *arg)
{
	struct name_rows *rows = xcalloc(1, sizeof(*rows));
	enum index_result result;

	rows->at.db = DB_NAMES;
	do
		result = index_env_read(ix, "walk over the names", read_names_step, rows);
	while (result == INDEX_OK && hand_on(rows, each, arg) && !rows->at.at_end);
	free(rows);
	return result;
}

/* --- proofs: the digest comes first, so that those about one object stand together ----------- */

enum { PROOF_VERSION = 1 };

static void
proof_init(struct index_key *k, const char *upstream, const struct digest *d)
{
	k->len = digest_key(d, k->bytes);
	add_words(k, &upstream, 1);
}

static int
put_proof_step(struct index *ix, MDB_txn *txn, void *arg)
{
	struct index_key *k = arg;
	uint8_t version = PROOF_VERSION;
	MDB_val key = {k->len, k->bytes}, value = {1, &version};

	return mdb_put(txn, ix->db[DB_PROOFS], &key, &value, 0);
}

static int
get_proof_step(struct index *ix, MDB_txn *txn, void *arg)
{
	struct index_key *k = arg;
	MDB_val key = {k->len, k->bytes}, value;
	int rc = mdb_get(txn, ix->db[DB_PROOFS], &key, &value);

	if (rc != 0)
		return rc;
	if (value.mv_size == 1 && *(const uint8_t *)value.mv_data == PROOF_VERSION)
		return 0;
	index_odd_record(ix, DB_PROOFS);
	return MDB_NOTFOUND;
}

enum index_result
index_put_proof(struct index *ix, const char *upstream, const struct digest *d)
{
	struct index_key k;

	proof_init(&k, upstream, d);
	if (index_env_read(ix, "look up a proof", get_proof_step, &k) == INDEX_OK)
		return INDEX_OK;
	return index_env_write(ix, "write a proof", put_proof_step, &k);
}

enum index_result
index_get_proof(struct index *ix, const char *upstream, const struct digest *d)
{
	struct index_key k;

	proof_init(&k, upstream, d);
	return index_env_read(ix, "look up a proof", get_proof_step, &k);
}

/* 0: one was deleted. MDB_NOTFOUND: there is none any more. */
static int
delete_first(MDB_cursor *cursor, const struct index_key *prefix)
{
	MDB_val key = {prefix->len, (void *)(uintptr_t)prefix->bytes}, value;
	int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);

	if (rc != 0)
		return rc;
	if (key.mv_size < prefix->len || memcmp(key.mv_data, prefix->bytes, prefix->len) != 0)
		return MDB_NOTFOUND;
	return mdb_cursor_del(cursor, 0);
}

int
index_proofs_delete(struct index *ix, MDB_txn *txn, const struct digest *d)
{
	struct index_key prefix;
	MDB_cursor *cursor;
	int rc = mdb_cursor_open(txn, ix->db[DB_PROOFS], &cursor);

	if (rc != 0)
		return rc;
	prefix.len = digest_key(d, prefix.bytes);
	do
		rc = delete_first(cursor, &prefix);
	while (rc == 0);
	mdb_cursor_close(cursor);
	return rc == MDB_NOTFOUND ? 0 : rc;
}
