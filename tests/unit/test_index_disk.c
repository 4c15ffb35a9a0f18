/* The index where room is short: a map that is full, little address space, a full disk, a read-only
 * disk; and files that are no index. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/CUnit.h>
#include <lmdb.h>

#include "index.h"
#include "scratch.h"
#include "suites.h"

enum { TINY_MAP = 64 * 1024 };

static char *folder;

static struct index_object
object(uint64_t size)
{
	return (struct index_object){.kind = OBJECT_BLOB, .size = size, .fetched_at = 1000};
}

static enum index_result
put_many(struct index *ix, unsigned from, unsigned to)
{
	enum index_result result = INDEX_OK;

	for (unsigned i = from; i < to && result == INDEX_OK; i++) {
		struct digest d = scratch_digest(i);
		struct index_object o = object(i);

		result = index_put_object(ix, &d, &o);
	}
	return result;
}

static void
expect_size(struct index *ix, unsigned n)
{
	struct digest d = scratch_digest(n);
	struct index_object o;

	CU_ASSERT_EQUAL(index_get_object(ix, &d, &o), INDEX_OK);
	CU_ASSERT_EQUAL(o.size, n);
}

/* --- the map --------------------------------------------------------------------------------- */

static void
a_map_that_is_full_grows_unseen(void)
{
	struct index *ix;

	folder = scratch_folder();
	ix = index_open_sized(folder, TINY_MAP);
	CU_ASSERT_PTR_NOT_NULL_FATAL(ix);
	CU_ASSERT_EQUAL(put_many(ix, 0, 3000), INDEX_OK);
	for (unsigned i = 0; i < 3000; i++)
		expect_size(ix, i);
	index_close(&ix);
	ix = index_open_sized(folder, TINY_MAP);
	CU_ASSERT_PTR_NOT_NULL_FATAL(ix);
	expect_size(ix, 2999);
	index_close(&ix);
	scratch_remove(&folder);
}

static int
open_with_little_address_space(void *arg)
{
	struct rlimit limit = {(rlim_t)2 << 30, (rlim_t)2 << 30};
	struct digest d = scratch_digest(1);
	struct index_object o = object(1);
	struct index *ix;

	(void)arg;
	MUST(setrlimit(RLIMIT_AS, &limit) == 0);
	ix = index_open(folder);
	MUST(ix != NULL);
	MUST(index_put_object(ix, &d, &o) == INDEX_OK);
	index_close(&ix);
	return 0;
}

/* Sanitizers map more than that for themselves. */
static bool
address_space_can_be_limited(void)
{
	struct rlimit limit;
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	bool known = f != NULL && fscanf(f, "%lu", &pages) == 1;

	if (f != NULL)
		fclose(f);
	return known && pages < 100000 && getrlimit(RLIMIT_AS, &limit) == 0;
}

static void
a_limited_address_space_gets_a_smaller_map(void)
{
	if (!address_space_can_be_limited()) {
		fprintf(stderr, "skipped: this program takes too much address space itself\n");
		return;
	}
	folder = scratch_folder();
	CU_ASSERT_EQUAL(scratch_run(open_with_little_address_space, NULL), 0);
	scratch_remove(&folder);
}

/* --- a full disk, a read-only disk ----------------------------------------------------------- */

static void
fill_disk(const char *name)
{
	static const char block[4096];
	char *path = scratch_path(folder, name);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	MUST(fd >= 0);
	while (write(fd, block, sizeof(block)) > 0)
		continue;
	close(fd);
	free(path);
}

/* Both files are at their end: the database cannot grow, the usage array cannot either. */
static int
use_full_disk(void *arg)
{
	struct digest d = scratch_digest(0);
	struct index_object o;
	struct index *ix;
	char *ballast;

	(void)arg;
	if (!scratch_mount_tmpfs(folder, "2m"))
		return SCRATCH_SKIPPED;
	ix = index_open(folder);
	MUST(ix != NULL);
	MUST(put_many(ix, 0, 10) == INDEX_OK);
	fill_disk("ballast");
	MUST(put_many(ix, 10, 20000) == INDEX_ERROR);
	MUST(index_get_object(ix, &d, &o) == INDEX_OK);
	index_touch(ix, &o, 3000000);
	MUST(index_last_used(ix, &o) == 3000000);
	ballast = scratch_path(folder, "ballast");
	MUST(unlink(ballast) == 0);
	free(ballast);
	MUST(put_many(ix, 20000, 20100) == INDEX_OK);
	index_close(&ix);
	return 0;
}

static void
on_a_full_disk_look_ups_go_on_and_writes_come_back(void)
{
	int status;

	folder = scratch_folder();
	status = scratch_run(use_full_disk, NULL);
	if (!scratch_skipped(status, "a tmpfs cannot be mounted here"))
		CU_ASSERT_EQUAL(status, 0);
	scratch_remove(&folder);
}

/* No block is left for the usage array when the index is opened: a touch must not be SIGBUS. */
static int
use_disk_without_usage(void *arg)
{
	struct digest d = scratch_digest(0);
	struct index_object o = object(1);
	struct index *ix;
	char *usage;

	(void)arg;
	if (!scratch_mount_tmpfs(folder, "1m"))
		return SCRATCH_SKIPPED;
	ix = index_open(folder);
	MUST(ix != NULL && put_many(ix, 0, 200) == INDEX_OK);
	for (unsigned i = 100; i < 200; i++) { /* pages to be used again */
		struct digest gone = scratch_digest(i);

		MUST(index_delete_object(ix, &gone) == INDEX_OK);
	}
	index_close(&ix);
	usage = scratch_path(folder, "usage");
	MUST(unlink(usage) == 0);
	fill_disk("ballast");
	ix = index_open(folder);
	MUST(ix != NULL);
	MUST(index_get_object(ix, &d, &o) == INDEX_OK);
	index_touch(ix, &o, 3000000);
	MUST(index_last_used(ix, &o) == 1000000);
	MUST(put_many(ix, 300, 301) == INDEX_OK);
	d = scratch_digest(300);
	MUST(index_get_object(ix, &d, &o) == INDEX_OK && o.usage == INDEX_NO_USAGE);
	index_close(&ix);
	free(usage);
	return 0;
}

static void
a_usage_array_without_room_costs_only_the_times(void)
{
	int status;

	folder = scratch_folder();
	status = scratch_run(use_disk_without_usage, NULL);
	if (!scratch_skipped(status, "a tmpfs cannot be mounted here"))
		CU_ASSERT_EQUAL(status, 0);
	scratch_remove(&folder);
}

static int
open_read_only(void *arg)
{
	(void)arg;
	if (!scratch_mount_read_only(folder))
		return SCRATCH_SKIPPED;
	return index_open(folder) == NULL ? 0 : 1;
}

static void
a_read_only_index_is_refused(void)
{
	struct index *ix;
	int status;

	folder = scratch_folder();
	ix = index_open(folder);
	CU_ASSERT_PTR_NOT_NULL_FATAL(ix);
	CU_ASSERT_EQUAL(put_many(ix, 0, 1), INDEX_OK);
	index_close(&ix);
	status = scratch_run(open_read_only, NULL);
	if (!scratch_skipped(status, "a read-only mount is not allowed here"))
		CU_ASSERT_EQUAL(status, 0);
	scratch_remove(&folder);
}

static void
a_file_that_is_no_index_is_refused_and_left_alone(void)
{
	char text[9000], *path;
	struct stat st;

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	folder = scratch_folder();
	scratch_write(folder, "data.mdb", text);
	CU_ASSERT_PTR_NULL(index_open(folder));
	path = scratch_path(folder, "data.mdb");
	CU_ASSERT_EQUAL(stat(path, &st), 0);
	CU_ASSERT_EQUAL(st.st_size, (off_t)sizeof(text) - 1);
	free(path);
	path = scratch_path(folder, "data.mdb/below");
	CU_ASSERT_PTR_NULL(index_open(path));
	free(path);
	scratch_remove(&folder);
}

/* --- another version ------------------------------------------------------------------------- */

static void
change_format(const uint8_t *format, size_t n)
{
	MDB_val key = {1, "v"}, value = {n, (void *)(uintptr_t)format};
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi meta;

	CU_ASSERT_EQUAL_FATAL(mdb_env_create(&env), 0);
	CU_ASSERT_EQUAL(mdb_env_set_maxdbs(env, 8), 0);
	CU_ASSERT_EQUAL_FATAL(mdb_env_open(env, folder, 0, 0600), 0);
	CU_ASSERT_EQUAL_FATAL(mdb_txn_begin(env, NULL, 0, &txn), 0);
	CU_ASSERT_EQUAL_FATAL(mdb_dbi_open(txn, "meta", 0, &meta), 0);
	CU_ASSERT_EQUAL(format == NULL ? mdb_del(txn, meta, &key, NULL)
				       : mdb_put(txn, meta, &key, &value, 0), 0);
	CU_ASSERT_EQUAL(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
}

static void
an_index_of_another_version_is_not_opened(void)
{
	static const uint8_t later[4] = {99}, odd[1] = {2};
	struct index *ix;

	folder = scratch_folder();
	ix = index_open_sized(folder, TINY_MAP);
	CU_ASSERT_PTR_NOT_NULL_FATAL(ix);
	CU_ASSERT_EQUAL(put_many(ix, 0, 10), INDEX_OK);
	index_close(&ix);
	CU_ASSERT_TRUE(index_probe(folder));
	change_format(later, sizeof(later));
	CU_ASSERT_PTR_NULL(index_open_sized(folder, TINY_MAP));
	CU_ASSERT_FALSE(index_probe(folder));
	change_format(odd, sizeof(odd));
	CU_ASSERT_PTR_NULL(index_open_sized(folder, TINY_MAP));
	change_format(NULL, 0); /* from before formats were numbered */
	CU_ASSERT_PTR_NULL(index_open_sized(folder, TINY_MAP));
	scratch_remove(&folder);
}

static const CU_TestInfo tests[] = {
    {"an index of another version is not opened", an_index_of_another_version_is_not_opened},
    {"a file that is no index is left alone", a_file_that_is_no_index_is_refused_and_left_alone},
    {"a map that is full grows unseen", a_map_that_is_full_grows_unseen},
    {"a limited address space gets a smaller map", a_limited_address_space_gets_a_smaller_map},
    {"on a full disk look-ups go on", on_a_full_disk_look_ups_go_on_and_writes_come_back},
    {"a usage array without room costs only the times",
	a_usage_array_without_room_costs_only_the_times},
    {"a read-only index is refused", a_read_only_index_is_refused},
};

void
suite_index_disk(void)
{
	CU_pSuite suite = CU_add_suite("index_disk", NULL, NULL);

	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		CU_add_test(suite, tests[i].pName, tests[i].pTestFunc);
}
