/* The store between runs: the lock, the mark, dropping the index; and disks that are full or
 * read-only. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "clock.h"
#include "scratch.h"
#include "store_trial.h"
#include "suites.h"

/* --- the mark -------------------------------------------------------------------------------- */

static void
the_mark_tells_how_the_last_run_ended(void)
{
	struct store *s = begin();

	CU_ASSERT_EQUAL(store_read_state(s), STORE_NEW);
	CU_ASSERT_TRUE(store_write_state(s, false));
	CU_ASSERT_EQUAL(store_read_state(s), STORE_CRASHED);
	CU_ASSERT_TRUE(store_write_state(s, true));
	CU_ASSERT_EQUAL(store_read_state(s), STORE_CLEAN);
	CU_ASSERT_TRUE(store_write_state(s, false));
	CU_ASSERT_FALSE(scratch_exists(folder, "index/state.new"));
	store_close(&s);
	s = store_open(folder);
	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	CU_ASSERT_EQUAL(store_read_state(s), STORE_CRASHED);
	end(&s);
}

static void
only_a_mark_that_is_certain_saves_the_index(void)
{
	static const char *const other_boot =
	    "boot 00000000-0000-0000-0000-000000000000\nclean 0\n";
	static const char *const other_boot_clean =
	    "boot 00000000-0000-0000-0000-000000000000\nclean 1\n";
	static const char *const bad[] = {"", "\n", "clean 1\n", "boot x\nclean 2\n",
	    "boot x\nclean 1", "boot x\nclean 1\nmore\n", "boot unknown\nclean 0\n",
	    "boot \nclean 0\n", "bootx\nclean 1\n"};
	struct store *s = begin();
	char text[10000];

	scratch_write(folder, "index/state", other_boot);
	CU_ASSERT_EQUAL(store_read_state(s), STORE_MACHINE_DIED);
	scratch_write(folder, "index/state", other_boot_clean);
	CU_ASSERT_EQUAL(store_read_state(s), STORE_CLEAN);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		scratch_write(folder, "index/state", bad[i]);
		CU_ASSERT_EQUAL(store_read_state(s), STORE_MACHINE_DIED);
	}
	memset(text, '\n', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	scratch_write(folder, "index/state", text);
	CU_ASSERT_EQUAL(store_read_state(s), STORE_MACHINE_DIED);
	CU_ASSERT_TRUE(store_write_state(s, false));
	CU_ASSERT_EQUAL(store_read_state(s), STORE_CRASHED);
	end(&s);
}

static void
dropping_the_index_leaves_the_mark(void)
{
	struct store *s = begin();

	CU_ASSERT_TRUE(store_drop_index(s));
	CU_ASSERT_TRUE(store_write_state(s, false));
	scratch_write(folder, "index/data.mdb", "x");
	scratch_write(folder, "index/lock.mdb", "x");
	scratch_write(folder, "index/usage", "x");
	CU_ASSERT_TRUE(store_drop_index(s));
	CU_ASSERT_FALSE(scratch_exists(folder, "index/data.mdb"));
	CU_ASSERT_FALSE(scratch_exists(folder, "index/lock.mdb"));
	CU_ASSERT_FALSE(scratch_exists(folder, "index/usage"));
	CU_ASSERT_EQUAL(store_read_state(s), STORE_CRASHED);
	CU_ASSERT_EQUAL(strcmp(store_index_dir(s) + strlen(folder), "/index"), 0);
	end(&s);
}

/* --- the lock -------------------------------------------------------------------------------- */

struct locker {
	_Atomic int held;
	_Atomic bool let_go;
	_Atomic bool orphaned;
};

static struct locker *locker;

static int
hold_lock(void *arg)
{
	pid_t holder;
	int fd = store_lock(folder, 0, &holder);

	(void)arg;
	MUST(fd >= 0 && holder == 0);
	atomic_store(&locker->held, 1);
	while (!atomic_load(&locker->let_go))
		scratch_jitter(1000);
	return 0;
}

static void
wait_held(void)
{
	while (!atomic_load(&locker->held))
		sched_yield();
}

static void
a_second_cache_is_told_who_has_the_lock(void)
{
	uint64_t start = clock_ms();
	pid_t holder, child;
	int fd;

	locker = scratch_shared(sizeof(*locker));
	folder = scratch_folder();
	child = scratch_spawn(hold_lock, NULL);
	wait_held();
	CU_ASSERT_EQUAL(store_lock(folder, 60000, &holder), -1);
	CU_ASSERT_EQUAL(errno, EWOULDBLOCK);
	CU_ASSERT_TRUE(clock_ms() - start < 60000); /* a living holder is not waited for */
	CU_ASSERT_EQUAL(holder, child);
	atomic_store(&locker->let_go, true);
	CU_ASSERT_EQUAL(scratch_reap(child), 0);
	fd = store_lock(folder, 0, &holder);
	CU_ASSERT_TRUE_FATAL(fd >= 0);
	CU_ASSERT_TRUE(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CU_ASSERT_EQUAL(store_lock(folder, 0, &holder), -1);
	CU_ASSERT_EQUAL(holder, getpid());
	close(fd);
	scratch_remove(&folder);
	scratch_unshare(locker, sizeof(*locker));
}

/* The master dies; its child, which has the descriptor too, ends a little later. */
static int
die_and_leave_a_child(void *arg)
{
	pid_t holder, child;
	int fd = store_lock(folder, 0, &holder);

	MUST(fd >= 0);
	child = fork();
	MUST(child >= 0);
	if (child > 0)
		_exit(0);
	(void)arg;
	alarm(60); /* nobody waits for it */
	while (!atomic_load(&locker->orphaned))
		sched_yield();
	atomic_store(&locker->held, 1);
	while (!atomic_load(&locker->let_go))
		scratch_jitter(1000);
	_exit(0);
}

static int
let_go_later(void *arg)
{
	(void)arg;
	scratch_jitter(100000);
	atomic_store(&locker->let_go, true);
	return 0;
}

static void
the_lock_of_a_dead_holder_is_waited_for(void)
{
	pid_t holder, helper;
	int fd;

	locker = scratch_shared(sizeof(*locker));
	folder = scratch_folder();
	CU_ASSERT_EQUAL(scratch_run(die_and_leave_a_child, NULL), 0);
	atomic_store(&locker->orphaned, true);
	wait_held();
	CU_ASSERT_EQUAL(store_lock(folder, 50, &holder), -1);
	CU_ASSERT_EQUAL(errno, EWOULDBLOCK);
	CU_ASSERT_NOT_EQUAL(holder, 0);
	helper = scratch_spawn(let_go_later, NULL);
	fd = store_lock(folder, 10000, &holder);
	CU_ASSERT_TRUE(fd >= 0);
	CU_ASSERT_EQUAL(scratch_reap(helper), 0);
	close(fd);
	scratch_remove(&folder);
	scratch_unshare(locker, sizeof(*locker));
}

static void
the_lock_makes_the_folder(void)
{
	pid_t holder;
	char *path, *base = scratch_folder();
	struct stat st;
	int fd;

	path = scratch_path(base, "cache");
	fd = store_lock(path, 0, &holder);
	CU_ASSERT_TRUE(fd >= 0);
	CU_ASSERT_EQUAL(stat(path, &st), 0);
	CU_ASSERT_EQUAL(st.st_mode & 07777, 0700);
	close(fd);
	free(path);
	path = scratch_path(base, "no/such");
	CU_ASSERT_EQUAL(store_lock(path, 0, &holder), -1);
	CU_ASSERT_EQUAL(errno, ENOENT);
	free(path);
	scratch_remove(&base);
}

/* --- a full disk, a read-only disk ----------------------------------------------------------- */

static int
use_full_disk(void *arg)
{
	static const char block[65536];
	struct digest d = scratch_digest(1);
	struct store *s;
	int fd;

	(void)arg;
	if (!scratch_mount_tmpfs(folder, "1m"))
		return SCRATCH_SKIPPED;
	s = store_open(folder);
	MUST(s != NULL && store_write_state(s, true));
	fd = store_create_part(s, &d, 1);
	MUST(fd >= 0);
	MUST(!store_reserve(fd, 2 << 20) && errno == ENOSPC);
	MUST(store_reserve(fd, 512 << 10));
	while (write(fd, block, sizeof(block)) > 0)
		continue;
	MUST(errno == ENOSPC);
	MUST(!store_write_state(s, false));
	MUST(store_read_state(s) == STORE_CLEAN);
	close(fd);
	MUST(store_remove_part(s, &d, 1));
	MUST(store_write_state(s, false));
	MUST(store_read_state(s) == STORE_CRASHED);
	store_close(&s);
	return 0;
}

static void
a_full_disk_is_said_at_once_and_harms_nothing(void)
{
	int status;

	folder = scratch_folder();
	status = scratch_run(use_full_disk, NULL);
	if (!scratch_skipped(status, "a tmpfs cannot be mounted here"))
		CU_ASSERT_EQUAL(status, 0);
	scratch_remove(&folder);
}

static void
check_refusals(struct store *s, const struct digest *d)
{
	struct digest other = scratch_digest(2);

	MUST(store_create_part(s, &other, 2) == -1 && errno == EROFS);
	MUST(!store_publish_part(s, d, 7) && errno == EROFS);
	MUST(store_inherit_part(s, d, 7, 8) == -1);
	MUST(!store_remove_object(s, d));
	MUST(!store_write_state(s, false));
	MUST(store_read_state(s) == STORE_CLEAN);
	MUST(!store_drop_index(s));
}

static int
use_read_only_disk(void *arg)
{
	struct digest d = scratch_digest(1);
	struct store *s;
	uint64_t size;
	pid_t holder;

	(void)arg;
	if (!scratch_mount_read_only(folder))
		return SCRATCH_SKIPPED;
	s = store_open(folder);
	MUST(s != NULL);
	MUST(store_open_object(s, &d, &size) >= 0 && size == 5);
	check_refusals(s, &d);
	store_close(&s);
	MUST(store_lock(folder, 0, &holder) >= 0);
	MUST(store_lock(folder, 0, &holder) == -1 && errno == EWOULDBLOCK);
	return 0;
}

static void
a_read_only_store_serves_what_it_has(void)
{
	struct store *s = begin();
	struct digest d = scratch_digest(1);
	int fd = store_create_part(s, &d, 1), status;

	CU_ASSERT_EQUAL(write(fd, "hello", 5), 5);
	close(fd);
	CU_ASSERT_TRUE(store_publish_part(s, &d, 1));
	fd = store_create_part(s, &d, 7);
	close(fd);
	CU_ASSERT_TRUE(store_write_state(s, true));
	scratch_write(folder, "index/data.mdb", "x");
	status = scratch_run(use_read_only_disk, NULL);
	if (!scratch_skipped(status, "a read-only mount is not allowed here"))
		CU_ASSERT_EQUAL(status, 0);
	end(&s);
}

static void
see_nothing(const char *name, bool known, const struct digest *d, uint64_t id, void *arg)
{
	(void)name;
	(void)known;
	(void)d;
	(void)id;
	(void)arg;
	MUST(false);
}

static int
use_empty_read_only_disk(void *arg)
{
	struct digest d = scratch_digest(1);
	struct store *s;
	pid_t holder;

	(void)arg;
	if (!scratch_mount_read_only(folder))
		return SCRATCH_SKIPPED;
	s = store_open(folder);
	MUST(s != NULL);
	MUST(store_open_object(s, &d, NULL) == -1 && errno == ENOENT);
	MUST(store_open_part(s, &d, 1) == -1 && errno == ENOENT);
	MUST(store_create_part(s, &d, 1) == -1 && errno == EROFS);
	MUST(!store_publish_part(s, &d, 1) && errno == ENOENT);
	MUST(store_read_state(s) == STORE_NEW);
	MUST(!store_write_state(s, false));
	MUST(store_each_part(s, see_nothing, NULL) == 0);
	store_close(&s);
	MUST(store_lock(folder, 0, &holder) >= 0);
	MUST(store_lock(folder, 0, &holder) == -1 && errno == EWOULDBLOCK);
	return 0;
}

static void
an_empty_read_only_folder_is_an_empty_store(void)
{
	int status;

	folder = scratch_folder();
	status = scratch_run(use_empty_read_only_disk, NULL);
	if (!scratch_skipped(status, "a read-only mount is not allowed here"))
		CU_ASSERT_EQUAL(status, 0);
	scratch_remove(&folder);
}

void
suite_store_state(void)
{
	CU_pSuite suite = CU_add_suite("store_state", NULL, NULL);

	CU_add_test(
	    suite, "the mark tells how the last run ended", the_mark_tells_how_the_last_run_ended);
	CU_add_test(suite, "only a mark that is certain saves the index",
	    only_a_mark_that_is_certain_saves_the_index);
	CU_add_test(
	    suite, "dropping the index leaves the mark", dropping_the_index_leaves_the_mark);
	CU_add_test(suite, "a second cache is told who has the lock",
	    a_second_cache_is_told_who_has_the_lock);
	CU_add_test(suite, "the lock of a dead holder is waited for",
	    the_lock_of_a_dead_holder_is_waited_for);
	CU_add_test(suite, "the lock makes the folder", the_lock_makes_the_folder);
	CU_add_test(
	    suite, "a full disk harms nothing", a_full_disk_is_said_at_once_and_harms_nothing);
	CU_add_test(
	    suite, "a read-only store serves what it has", a_read_only_store_serves_what_it_has);
	CU_add_test(suite, "an empty read-only folder is an empty store",
	    an_empty_read_only_folder_is_an_empty_store);
}
