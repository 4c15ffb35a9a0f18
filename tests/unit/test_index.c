/* The index in one process: records, names, proofs, usage slots, walks, and files that are not
 * as they should be. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/CUnit.h>
#include <lmdb.h>

#include "index.h"
#include "index_record.h"
#include "index_usage.h"
#include "scratch.h"
#include "suites.h"
#include "xalloc.h"

static char *folder;

static struct index *
open_index(void)
{
	struct index *ix = index_open(folder);

	CU_ASSERT_PTR_NOT_NULL_FATAL(ix);
	return ix;
}

static struct index *
begin(void)
{
	folder = scratch_folder();
	return open_index();
}

static void
end(struct index **ix)
{
	index_close(ix);
	CU_ASSERT_PTR_NULL(*ix);
	scratch_remove(&folder);
}

static struct index_object
object(uint64_t size)
{
	struct index_object o = {
	    .kind = OBJECT_BLOB, .size = size, .fetched_at = 1000, .verified_at = 2000};

	strcpy(o.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
	return o;
}

static struct index_object
get(struct index *ix, unsigned n)
{
	struct digest d = scratch_digest(n);
	struct index_object o;

	CU_ASSERT_EQUAL(index_get_object(ix, &d, &o), INDEX_OK);
	return o;
}

static void
put(struct index *ix, unsigned n, uint64_t size)
{
	struct digest d = scratch_digest(n);
	struct index_object o = object(size);

	CU_ASSERT_EQUAL(index_put_object(ix, &d, &o), INDEX_OK);
}

static void delete (struct index *ix, unsigned n)
{
	struct digest d = scratch_digest(n);

	CU_ASSERT_EQUAL(index_delete_object(ix, &d), INDEX_OK);
}

/* --- objects --------------------------------------------------------------------------------- */

static void
an_object_comes_back_as_it_was_put(void)
{
	struct index *ix = begin();
	struct digest d = scratch_digest(1);
	struct index_object in = object(UINT64_MAX), out;

	in.kind = OBJECT_MANIFEST;
	in.fetched_at = INT64_MAX;
	in.verified_at = -1;
	memset(in.media_type, 'x', sizeof(in.media_type) - 1);
	CU_ASSERT_EQUAL(index_get_object(ix, &d, &out), INDEX_MISS);
	CU_ASSERT_EQUAL(index_put_object(ix, &d, &in), INDEX_OK);
	index_close(&ix);
	ix = open_index();
	CU_ASSERT_EQUAL(index_get_object(ix, &d, &out), INDEX_OK);
	CU_ASSERT_EQUAL(out.kind, OBJECT_MANIFEST);
	CU_ASSERT_EQUAL(out.size, UINT64_MAX);
	CU_ASSERT_EQUAL(out.fetched_at, INT64_MAX);
	CU_ASSERT_EQUAL(out.verified_at, -1);
	CU_ASSERT_STRING_EQUAL(out.media_type, in.media_type);
	CU_ASSERT_EQUAL(index_delete_object(ix, &d), INDEX_OK);
	CU_ASSERT_EQUAL(index_delete_object(ix, &d), INDEX_MISS);
	CU_ASSERT_EQUAL(index_get_object(ix, &d, &out), INDEX_MISS);
	end(&ix);
}

static void
digests_of_different_algorithms_are_different_objects(void)
{
	struct index *ix = begin();
	struct digest d = scratch_digest(1), longer = d;
	struct index_object o = object(5);

	longer.algo = DIGEST_SHA512;
	longer.len = 64;
	CU_ASSERT_EQUAL(index_put_object(ix, &longer, &o), INDEX_OK);
	CU_ASSERT_EQUAL(index_get_object(ix, &d, &o), INDEX_MISS);
	CU_ASSERT_EQUAL(index_get_object(ix, &longer, &o), INDEX_OK);
	end(&ix);
}

static void
keep(struct index_entry *e, void *arg)
{
	struct index_entry *seen = arg;

	*seen = *e;
}

static void
swap_object_for_lease(struct index_entry *e, void *arg)
{
	(void)arg;
	e->has_object = !e->has_object;
	e->has_lease = !e->has_object;
	e->object = object(9);
	e->lease = (struct index_lease){1, UINT64_MAX, 3, 4, 5, 6};
}

static void
an_update_changes_object_and_lease_together(void)
{
	struct index *ix = begin();
	struct digest d = scratch_digest(1);
	struct index_entry e;

	CU_ASSERT_EQUAL(index_look(ix, &d, &e), INDEX_OK);
	CU_ASSERT_FALSE(e.has_object || e.has_lease);
	CU_ASSERT_EQUAL(index_update(ix, &d, swap_object_for_lease, NULL), INDEX_OK);
	CU_ASSERT_EQUAL(index_look(ix, &d, &e), INDEX_OK);
	CU_ASSERT_TRUE(e.has_object && !e.has_lease);
	CU_ASSERT_EQUAL(e.object.size, 9);
	CU_ASSERT_EQUAL(index_update(ix, &d, swap_object_for_lease, NULL), INDEX_OK);
	CU_ASSERT_EQUAL(index_update(ix, &d, keep, &e), INDEX_OK);
	CU_ASSERT_TRUE(!e.has_object && e.has_lease);
	CU_ASSERT_EQUAL(e.lease.listener, 1);
	CU_ASSERT_EQUAL(e.lease.generation, UINT64_MAX);
	CU_ASSERT_EQUAL(e.lease.id, 3);
	CU_ASSERT_EQUAL(e.lease.slot, 4);
	CU_ASSERT_EQUAL(e.lease.seq, 5);
	CU_ASSERT_EQUAL(e.lease.deadline, 6);
	end(&ix);
}

/* --- usage ----------------------------------------------------------------------------------- */

static void
an_objects_last_use_begins_with_its_fetch_and_is_touched(void)
{
	struct index *ix = begin();
	struct index_object o, none = object(1);

	put(ix, 1, 1);
	o = get(ix, 1);
	CU_ASSERT_NOT_EQUAL(o.usage, INDEX_NO_USAGE);
	CU_ASSERT_EQUAL(index_last_used(ix, &o), 1000000);
	index_touch(ix, &o, 4000000000);
	CU_ASSERT_EQUAL(index_last_used(ix, &o), 4000000000);
	put(ix, 1, 2);
	CU_ASSERT_EQUAL(get(ix, 1).usage, o.usage);
	CU_ASSERT_EQUAL(index_last_used(ix, &o), 4000000000);
	none.usage = INDEX_NO_USAGE;
	index_touch(ix, &none, 5000000);
	CU_ASSERT_EQUAL(index_last_used(ix, &none), 1000000);
	none.usage = 4000000000;
	index_touch(ix, &none, 5000000);
	CU_ASSERT_EQUAL(index_last_used(ix, &none), 1000000);
	end(&ix);
}

static void
usage_slots_of_deleted_objects_are_used_again(void)
{
	enum { COUNT = 50 };
	struct index *ix = begin();
	bool taken[COUNT] = {false};
	struct index_object o;

	for (unsigned i = 0; i < COUNT; i++)
		put(ix, i, i);
	for (unsigned i = 0; i < COUNT; i += 2) {
		o = get(ix, i);
		index_touch(ix, &o, 3000000);
		delete (ix, i);
	}
	index_close(&ix);
	ix = open_index();
	for (unsigned i = 0; i < COUNT; i += 2) {
		put(ix, 1000 + i, i);
		o = get(ix, 1000 + i);
		CU_ASSERT_EQUAL(index_last_used(ix, &o), 1000000);
	}
	for (unsigned i = 0; i < COUNT; i++) {
		o = get(ix, i % 2 == 0 ? 1000 + i : i);
		CU_ASSERT_TRUE_FATAL(o.usage < COUNT);
		CU_ASSERT_FALSE(taken[o.usage]);
		taken[o.usage] = true;
	}
	end(&ix);
}

static void
a_lost_usage_file_is_made_again(void)
{
	struct index *ix = begin();
	char *path = scratch_path(folder, "usage");
	struct index_object o;

	put(ix, 1, 1);
	index_close(&ix);
	CU_ASSERT_EQUAL(unlink(path), 0);
	ix = open_index();
	o = get(ix, 1);
	CU_ASSERT_EQUAL(index_last_used(ix, &o), 1000000);
	index_touch(ix, &o, 3000000);
	CU_ASSERT_EQUAL(index_last_used(ix, &o), 3000000);
	free(path);
	end(&ix);
}

static void
the_usage_array_grows_under_the_feet_of_others(void)
{
	struct index_usage *a, *b;

	folder = scratch_folder();
	a = index_usage_open(folder);
	b = index_usage_open(folder);
	CU_ASSERT_PTR_NOT_NULL_FATAL(a);
	CU_ASSERT_PTR_NOT_NULL_FATAL(b);
	index_usage_set(b, 0, 7);
	CU_ASSERT_EQUAL(index_usage_get(b, 0), 0);
	for (uint32_t slot = 0; slot < 1000000; slot += 99999) {
		CU_ASSERT_TRUE(index_usage_reserve(a, slot));
		index_usage_set(a, slot, slot + 1);
		CU_ASSERT_EQUAL(index_usage_get(b, slot), slot + 1);
	}
	index_usage_set(b, 10000000, 7);
	CU_ASSERT_EQUAL(index_usage_get(b, 10000000), 0);
	CU_ASSERT_EQUAL(index_usage_get(a, 0), 1);
	index_usage_close(&a);
	index_usage_close(&b);
	scratch_remove(&folder);
}

/* --- names and proofs ------------------------------------------------------------------------ */

static void
a_name_is_found_by_all_its_words(void)
{
	struct index *ix = begin();
	struct digest d = scratch_digest(1), out;
	int64_t when;

	CU_ASSERT_EQUAL(index_get_name(ix, "https://a", "lib/x", "1", &out, &when), INDEX_MISS);
	CU_ASSERT_EQUAL(index_put_name(ix, "https://a", "lib/x", "1", &d, 100), INDEX_OK);
	CU_ASSERT_EQUAL(index_get_name(ix, "https://a", "lib/x", "1", &out, &when), INDEX_OK);
	CU_ASSERT_TRUE(digest_equal(&out, &d));
	CU_ASSERT_EQUAL(when, 100);
	CU_ASSERT_EQUAL(index_get_name(ix, "https://a", "lib/", "x1", &out, &when), INDEX_MISS);
	CU_ASSERT_EQUAL(index_get_name(ix, "https://al", "ib/x", "1", &out, &when), INDEX_MISS);
	CU_ASSERT_EQUAL(index_get_name(ix, "", "", "", &out, &when), INDEX_MISS);
	CU_ASSERT_EQUAL(when, 0);
	end(&ix);
}

static void
a_name_is_written_when_it_moved_or_is_old(void)
{
	struct index *ix = begin();
	struct digest a = scratch_digest(1), b = scratch_digest(2), out;
	int64_t when;

	CU_ASSERT_EQUAL(index_put_name(ix, "u", "r", "t", &a, 100), INDEX_OK);
	CU_ASSERT_EQUAL(index_put_name(ix, "u", "r", "t", &a, 99 + INDEX_NAME_FRESH), INDEX_OK);
	CU_ASSERT_EQUAL(index_get_name(ix, "u", "r", "t", &out, &when), INDEX_OK);
	CU_ASSERT_EQUAL(when, 100);
	CU_ASSERT_EQUAL(index_put_name(ix, "u", "r", "t", &b, 101), INDEX_OK);
	CU_ASSERT_EQUAL(index_get_name(ix, "u", "r", "t", &out, &when), INDEX_OK);
	CU_ASSERT_TRUE(digest_equal(&out, &b));
	CU_ASSERT_EQUAL(index_put_name(ix, "u", "r", "t", &b, 101 + INDEX_NAME_FRESH), INDEX_OK);
	CU_ASSERT_EQUAL(index_get_name(ix, "u", "r", "t", &out, &when), INDEX_OK);
	CU_ASSERT_EQUAL(when, 101 + INDEX_NAME_FRESH);
	end(&ix);
}

static void
names_of_every_length_are_told_apart(void)
{
	struct index *ix = begin();
	char repository[2000];
	struct digest d, out;
	int64_t when;

	memset(repository, 'r', sizeof(repository));
	for (unsigned n = 490; n < 530; n++) {
		repository[n] = '\0';
		d = scratch_digest(n);
		CU_ASSERT_EQUAL(index_put_name(ix, "u", repository, "t", &d, n), INDEX_OK);
		repository[n] = 'r';
	}
	for (unsigned n = 490; n < 530; n++) {
		repository[n] = '\0';
		d = scratch_digest(n);
		CU_ASSERT_EQUAL(index_get_name(ix, "u", repository, "t", &out, &when), INDEX_OK);
		CU_ASSERT_TRUE(digest_equal(&out, &d));
		repository[n] = 'r';
	}
	repository[1999] = '\0';
	CU_ASSERT_EQUAL(index_get_name(ix, "u", repository, "t", &out, &when), INDEX_MISS);
	CU_ASSERT_EQUAL(index_put_name(ix, "u", repository, "t", &d, 1), INDEX_OK);
	CU_ASSERT_EQUAL(index_get_name(ix, "u", repository, "t", &out, &when), INDEX_OK);
	repository[1998] = 'x';
	CU_ASSERT_EQUAL(index_get_name(ix, "u", repository, "t", &out, &when), INDEX_MISS);
	end(&ix);
}

static void
a_proof_is_about_one_upstream_and_one_object(void)
{
	struct index *ix = begin();
	struct digest a = scratch_digest(1), b = scratch_digest(2);
	char upstream[1000];

	memset(upstream, 'u', sizeof(upstream));
	upstream[999] = '\0';
	CU_ASSERT_EQUAL(index_get_proof(ix, "https://a", &a), INDEX_MISS);
	CU_ASSERT_EQUAL(index_put_proof(ix, "https://a", &a), INDEX_OK);
	CU_ASSERT_EQUAL(index_put_proof(ix, "https://a", &a), INDEX_OK);
	CU_ASSERT_EQUAL(index_put_proof(ix, upstream, &a), INDEX_OK);
	CU_ASSERT_EQUAL(index_get_proof(ix, "https://a", &a), INDEX_OK);
	CU_ASSERT_EQUAL(index_get_proof(ix, upstream, &a), INDEX_OK);
	CU_ASSERT_EQUAL(index_get_proof(ix, "https://a", &b), INDEX_MISS);
	CU_ASSERT_EQUAL(index_get_proof(ix, "https://", &a), INDEX_MISS);
	CU_ASSERT_EQUAL(index_get_proof(ix, upstream + 1, &a), INDEX_MISS);
	end(&ix);
}

static void
proofs_go_with_their_object(void)
{
	struct index *ix = begin();
	struct digest a = scratch_digest(1), b = scratch_digest(2);
	char upstream[600];

	memset(upstream, 'u', sizeof(upstream));
	upstream[599] = '\0';
	put(ix, 1, 1);
	for (char c = 'a'; c <= 'z'; c++) {
		char name[] = {c, '\0'};

		CU_ASSERT_EQUAL(index_put_proof(ix, name, &a), INDEX_OK);
		CU_ASSERT_EQUAL(index_put_proof(ix, name, &b), INDEX_OK);
	}
	CU_ASSERT_EQUAL(index_put_proof(ix, upstream, &a), INDEX_OK);
	delete (ix, 1);
	CU_ASSERT_EQUAL(index_get_proof(ix, upstream, &a), INDEX_MISS);
	for (char c = 'a'; c <= 'z'; c++) {
		char name[] = {c, '\0'};

		CU_ASSERT_EQUAL(index_get_proof(ix, name, &a), INDEX_MISS);
		CU_ASSERT_EQUAL(index_get_proof(ix, name, &b), INDEX_OK);
	}
	end(&ix);
}

/* --- walks ----------------------------------------------------------------------------------- */

enum { WALKED = 1000 };

struct tally {
	struct index *ix;
	unsigned seen[WALKED];
	unsigned calls, limit;
};

static bool
tally_object(const struct digest *d, const struct index_object *o, void *arg)
{
	struct tally *t = arg;
	struct digest expected = scratch_digest((unsigned)o->size);

	CU_ASSERT_TRUE(digest_equal(d, &expected));
	t->seen[o->size]++;
	t->calls++;
	CU_ASSERT_EQUAL(index_delete_object(t->ix, d), INDEX_OK);
	return t->calls != t->limit;
}

static void
a_walk_sees_each_object_once_and_may_delete_it(void)
{
	struct index *ix = begin();
	struct tally t = {.ix = ix, .limit = 300};

	CU_ASSERT_EQUAL(index_each_object(ix, tally_object, &t), INDEX_OK);
	CU_ASSERT_EQUAL(t.calls, 0);
	for (unsigned i = 0; i < WALKED; i++)
		put(ix, i, i);
	CU_ASSERT_EQUAL(index_each_object(ix, tally_object, &t), INDEX_OK);
	CU_ASSERT_EQUAL(t.calls, 300);
	CU_ASSERT_EQUAL(index_each_object(ix, tally_object, &t), INDEX_OK);
	CU_ASSERT_EQUAL(t.calls, WALKED);
	for (unsigned i = 0; i < WALKED; i++)
		CU_ASSERT_EQUAL(t.seen[i], 1);
	end(&ix);
}

static void
put_lease(struct index_entry *e, void *arg)
{
	const unsigned *n = arg;

	e->has_lease = true;
	e->lease = (struct index_lease){.id = *n + 1, .slot = *n};
}

static bool
tally_lease(const struct digest *d, const struct index_lease *l, void *arg)
{
	struct tally *t = arg;
	struct digest expected = scratch_digest(l->slot);

	CU_ASSERT_TRUE(digest_equal(d, &expected));
	t->seen[l->slot]++;
	return true;
}

static void
a_walk_sees_each_lease_once(void)
{
	struct index *ix = begin();
	struct tally t = {0};

	for (unsigned i = 0; i < WALKED; i++) {
		struct digest d = scratch_digest(i);

		CU_ASSERT_EQUAL(index_update(ix, &d, put_lease, &i), INDEX_OK);
	}
	CU_ASSERT_EQUAL(index_each_lease(ix, tally_lease, &t), INDEX_OK);
	for (unsigned i = 0; i < WALKED; i++)
		CU_ASSERT_EQUAL(t.seen[i], 1);
	end(&ix);
}

/* --- records that are not ours --------------------------------------------------------------- */

static void
a_record_of_any_other_length_or_version_is_refused(void)
{
	uint8_t bytes[INDEX_RECORD_MAX + 1] = {0};
	struct index_object o = object(1);
	struct index_lease l = {.id = 1};
	struct digest d = scratch_digest(1);
	int64_t when;
	size_t n = index_record_encode_object(&o, bytes);

	for (size_t i = 0; i <= sizeof(bytes); i++)
		CU_ASSERT_EQUAL(index_record_decode_object(bytes, i, &o), i == n);
	bytes[0]++;
	CU_ASSERT_FALSE(index_record_decode_object(bytes, n, &o));
	CU_ASSERT_EQUAL(o.size, 0);
	n = index_record_encode_lease(&l, bytes);
	for (size_t i = 0; i <= sizeof(bytes); i++)
		CU_ASSERT_EQUAL(index_record_decode_lease(bytes, i, &l), i == n);
	bytes[0]++;
	CU_ASSERT_FALSE(index_record_decode_lease(bytes, n, &l));
	n = index_record_encode_name(&d, 5, bytes);
	for (size_t i = 0; i <= sizeof(bytes); i++)
		CU_ASSERT_EQUAL(index_record_decode_name(bytes, i, &d, &when), i == n);
	bytes[0]++;
	CU_ASSERT_FALSE(index_record_decode_name(bytes, n, &d, &when));
}

/* Puts bytes into a database past our own code. */
static void
put_raw(const char *db, const void *key, size_t key_len, const void *bytes, size_t len)
{
	MDB_val k = {key_len, (void *)(uintptr_t)key}, v = {len, (void *)(uintptr_t)bytes};
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;

	CU_ASSERT_EQUAL_FATAL(mdb_env_create(&env), 0);
	CU_ASSERT_EQUAL_FATAL(mdb_env_set_maxdbs(env, 8), 0);
	CU_ASSERT_EQUAL_FATAL(mdb_env_open(env, folder, 0, 0600), 0);
	CU_ASSERT_EQUAL_FATAL(mdb_txn_begin(env, NULL, 0, &txn), 0);
	CU_ASSERT_EQUAL_FATAL(mdb_dbi_open(txn, db, 0, &dbi), 0);
	CU_ASSERT_EQUAL_FATAL(mdb_put(txn, dbi, &k, &v, 0), 0);
	CU_ASSERT_EQUAL_FATAL(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
}

static void
an_unknown_record_counts_as_absent_and_is_written_over(void)
{
	static const uint8_t future[] = {200, 1, 2, 3};
	struct index *ix = begin();
	struct digest d = scratch_digest(1);
	uint8_t key[DIGEST_KEY_MAX];
	size_t n = digest_key(&d, key);
	struct tally t = {.ix = ix};
	struct index_object o;
	struct index_entry e;
	unsigned number = 1;

	index_close(&ix);
	put_raw("objects", key, n, future, sizeof(future));
	put_raw("leases", key, n, future, sizeof(future));
	put_raw("objects", "odd key", 7, future, sizeof(future));
	put_raw("objects", "", 1, "", 0);
	t.ix = ix = open_index();
	CU_ASSERT_EQUAL(index_get_object(ix, &d, &o), INDEX_MISS);
	CU_ASSERT_EQUAL(index_delete_object(ix, &d), INDEX_MISS);
	CU_ASSERT_EQUAL(index_look(ix, &d, &e), INDEX_OK);
	CU_ASSERT_FALSE(e.has_object || e.has_lease);
	CU_ASSERT_EQUAL(index_each_object(ix, tally_object, &t), INDEX_OK);
	CU_ASSERT_EQUAL(t.calls, 0);
	put(ix, 1, 77);
	CU_ASSERT_EQUAL(get(ix, 1).size, 77);
	CU_ASSERT_EQUAL(index_update(ix, &d, put_lease, &number), INDEX_OK);
	CU_ASSERT_EQUAL(index_look(ix, &d, &e), INDEX_OK);
	CU_ASSERT_TRUE(e.has_object && e.has_lease);
	end(&ix);
}

static void
the_index_can_be_synced(void)
{
	struct index *ix = begin();
	static const char *const names[INDEX_FILES] = {"data.mdb", "usage"};
	int fds[INDEX_FILES];

	put(ix, 1, 1);
	CU_ASSERT_TRUE_FATAL(index_dup_files(ix, fds));
	for (int i = 0; i < INDEX_FILES; i++) {
		char *path = scratch_path(folder, names[i]);
		struct stat file, named;

		CU_ASSERT_EQUAL(fdatasync(fds[i]), 0);
		CU_ASSERT_EQUAL(fstat(fds[i], &file), 0);
		CU_ASSERT_EQUAL(stat(path, &named), 0);
		CU_ASSERT_EQUAL(file.st_ino, named.st_ino);
		close(fds[i]);
		free(path);
	}
	CU_ASSERT_EQUAL(index_reader_check(ix), 0);
	end(&ix);
}

static const CU_TestInfo tests[] = {
    {"an object comes back as it was put", an_object_comes_back_as_it_was_put},
    {"algorithms are told apart", digests_of_different_algorithms_are_different_objects},
    {"an update changes object and lease together", an_update_changes_object_and_lease_together},
    {"last use begins with the fetch", an_objects_last_use_begins_with_its_fetch_and_is_touched},
    {"usage slots of deleted objects are used again",
	usage_slots_of_deleted_objects_are_used_again},
    {"a lost usage file is made again", a_lost_usage_file_is_made_again},
    {"the usage array grows under others' feet", the_usage_array_grows_under_the_feet_of_others},
    {"a name is found by all its words", a_name_is_found_by_all_its_words},
    {"a name is written when it moved or is old", a_name_is_written_when_it_moved_or_is_old},
    {"names of every length are told apart", names_of_every_length_are_told_apart},
    {"a proof is about one upstream and one object", a_proof_is_about_one_upstream_and_one_object},
    {"proofs go with their object", proofs_go_with_their_object},
    {"a walk sees each object once", a_walk_sees_each_object_once_and_may_delete_it},
    {"a walk sees each lease once", a_walk_sees_each_lease_once},
    {"records of other lengths and versions are refused",
	a_record_of_any_other_length_or_version_is_refused},
    {"an unknown record counts as absent", an_unknown_record_counts_as_absent_and_is_written_over},
    {"the index can be synced", the_index_can_be_synced},
};

void
suite_index(void)
{
	CU_pSuite suite = CU_add_suite("index", NULL, NULL);

	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		CU_add_test(suite, tests[i].pName, tests[i].pTestFunc);
}
