/* The store between runs, when the last one did not end well: damaged indexes set aside, copies, an
 * index that is still being made; and the sync of a clean end. */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

#include <CUnit/CUnit.h>

#include "scratch.h"
#include "store_trial.h"
#include "suites.h"

static unsigned
count_names(const char *pattern)
{
	char *path = scratch_path(folder, pattern);
	glob_t found;
	unsigned n = 0;

	if (glob(path, 0, NULL, &found) == 0)
		n = (unsigned)found.gl_pathc;
	globfree(&found);
	free(path);
	return n;
}

static void
damaged_indexes_are_set_aside_but_not_for_ever(void)
{
	struct store *s = begin();

	CU_ASSERT_TRUE(store_quarantine_index(s)); /* there is none */
	CU_ASSERT_EQUAL(count_names("index/damaged.*"), 0);
	scratch_write(folder, "index/damaged.00000000000000000001", "old");
	scratch_write(folder, "index/damaged.00000000000000000002", "newer");
	scratch_write(folder, "index/data.mdb", "newest");
	scratch_write(folder, "index/usage", "x");
	CU_ASSERT_TRUE(store_has_index(s));
	CU_ASSERT_TRUE(store_quarantine_index(s));
	CU_ASSERT_FALSE(store_has_index(s));
	CU_ASSERT_FALSE(scratch_exists(folder, "index/usage"));
	CU_ASSERT_EQUAL(count_names("index/damaged.*"), STORE_DAMAGED_KEPT);
	CU_ASSERT_FALSE(scratch_exists(folder, "index/damaged.00000000000000000001"));
	CU_ASSERT_TRUE(scratch_exists(folder, "index/damaged.00000000000000000002"));
	end(&s);
}

static void
a_copy_of_a_running_store_is_not_taken_for_it(void)
{
	struct store *s = begin();
	char *from = scratch_path(folder, "index"), *to = scratch_path(folder, "moved");

	CU_ASSERT_TRUE(store_write_state(s, false));
	store_close(&s);
	CU_ASSERT_EQUAL(rename(from, to), 0);
	s = store_open(folder); /* makes another folder of the name */
	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	free(from);
	free(to);
	from = scratch_path(folder, "moved/state");
	to = scratch_path(folder, "index/state");
	CU_ASSERT_EQUAL(rename(from, to), 0);
	CU_ASSERT_EQUAL(store_read_state(s), STORE_MACHINE_DIED);
	free(from);
	free(to);
	end(&s);
}

static void
that_the_index_is_incomplete_outlives_the_process(void)
{
	struct store *s = begin();

	CU_ASSERT_FALSE(store_is_incomplete(s));
	CU_ASSERT_TRUE(store_set_incomplete(s, false));
	CU_ASSERT_TRUE(store_set_incomplete(s, true));
	CU_ASSERT_TRUE(store_set_incomplete(s, true));
	store_close(&s);
	s = store_open(folder);
	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	CU_ASSERT_TRUE(store_is_incomplete(s));
	CU_ASSERT_TRUE(store_set_incomplete(s, false));
	CU_ASSERT_FALSE(store_is_incomplete(s));
	end(&s);
}

static void
beat(void *arg)
{
	++*(unsigned *)arg;
}

static void
a_clean_end_is_marked(void)
{
	struct store *s = begin();
	unsigned beats = 0;

	scratch_write(folder, "objects/x", "x");
	CU_ASSERT_TRUE(store_write_state(s, false));
	CU_ASSERT_EQUAL(store_read_state(s), STORE_CRASHED);
	CU_ASSERT_TRUE(store_close_cleanly(s, beat, &beats));
	CU_ASSERT_EQUAL(store_read_state(s), STORE_CLEAN);
	end(&s);
}

void
suite_store_quarantine(void)
{
	CU_pSuite suite = CU_add_suite("store_quarantine", NULL, NULL);

	CU_add_test(
	    suite, "damaged indexes are set aside", damaged_indexes_are_set_aside_but_not_for_ever);
	CU_add_test(
	    suite, "a copy is not the running store", a_copy_of_a_running_store_is_not_taken_for_it);
	CU_add_test(suite, "that the index is incomplete outlives the process",
	    that_the_index_is_incomplete_outlives_the_process);
	CU_add_test(suite, "a clean end is marked", a_clean_end_is_marked);
}
