/* The store: objects and parts, hostile things in their places, and folders that vanish. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "scratch.h"
#include "store.h"
#include "suites.h"
#include "xalloc.h"

static char *folder;
static struct digest digest;
static char *object_file, *object_folder; /* relative names for `digest` */

static struct store *
begin(void)
{
	char hex[DIGEST_STR_SIZE];
	struct store *s;

	folder = scratch_folder();
	digest = scratch_digest(1);
	digest_hex(&digest, hex);
	object_folder = xasprintf("objects/sha256/%.2s", hex);
	object_file = xasprintf("%s/%s", object_folder, hex);
	s = store_open(folder);
	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	return s;
}

static void
end(struct store **s)
{
	store_close(s);
	CU_ASSERT_PTR_NULL(*s);
	free(object_file);
	free(object_folder);
	scratch_remove(&folder);
}

/* In the scratch folder. */
static void
make_folder(const char *name)
{
	char *path = scratch_path(folder, name);

	CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
	free(path);
}

static void
remove_name(const char *name)
{
	char *path = scratch_path(folder, name);

	CU_ASSERT_EQUAL(remove(path), 0);
	free(path);
}

static void
make_link(const char *name, const char *target)
{
	char *path = scratch_path(folder, name);

	CU_ASSERT_EQUAL(symlink(target, path), 0);
	free(path);
}

static void
make_part(struct store *s, uint64_t id, const char *text)
{
	int fd = store_create_part(s, &digest, id);

	CU_ASSERT_TRUE_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void
expect_text(int fd, const char *text)
{
	char buf[64];
	ssize_t n = pread(fd, buf, sizeof(buf), 0);

	CU_ASSERT_TRUE_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(n, (ssize_t)strlen(text));
	CU_ASSERT_EQUAL(memcmp(buf, text, strlen(text)), 0);
	CU_ASSERT_TRUE(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
}

static void
expect_missing(int fd)
{
	CU_ASSERT_EQUAL(fd, -1);
	CU_ASSERT_EQUAL(errno, ENOENT);
}

/* --- objects and parts ----------------------------------------------------------------------- */

static void
a_part_becomes_an_object_under_its_digests_name(void)
{
	struct store *s = begin();
	uint64_t size = 99;
	struct stat st;
	char *path;

	expect_missing(store_open_object(s, &digest, &size));
	CU_ASSERT_EQUAL(size, 99);
	make_part(s, 7, "hello");
	CU_ASSERT_TRUE(store_publish_part(s, &digest, 7));
	expect_text(store_open_object(s, &digest, &size), "hello");
	CU_ASSERT_EQUAL(size, 5);
	path = scratch_path(folder, object_file);
	CU_ASSERT_EQUAL(stat(path, &st), 0);
	CU_ASSERT_EQUAL(st.st_mode & 07777, 0600);
	free(path);
	path = scratch_path(folder, object_folder);
	CU_ASSERT_EQUAL(stat(path, &st), 0);
	CU_ASSERT_EQUAL(st.st_mode & 07777, 0700);
	free(path);
	expect_missing(store_open_part(s, &digest, 7));
	CU_ASSERT_TRUE(store_remove_object(s, &digest));
	CU_ASSERT_TRUE(store_remove_object(s, &digest));
	expect_missing(store_open_object(s, &digest, NULL));
	end(&s);
}

static void
every_algorithm_has_its_folder(void)
{
	struct store *s = begin();

	digest.algo = DIGEST_SHA512;
	digest.len = 64;
	make_part(s, UINT64_MAX, "long");
	CU_ASSERT_TRUE(store_publish_part(s, &digest, UINT64_MAX));
	expect_text(store_open_object(s, &digest, NULL), "long");
	CU_ASSERT_TRUE(scratch_exists(folder, "objects/sha512"));
	CU_ASSERT_FALSE(scratch_exists(folder, object_file));
	end(&s);
}

static void
a_digest_of_no_algorithm_opens_nothing(void)
{
	struct store *s = begin();

	digest = (struct digest){0};
	expect_missing(store_open_object(s, &digest, NULL));
	end(&s);
}

static void
a_follower_reads_what_the_leader_has_written(void)
{
	struct store *s = begin();
	int fd;

	expect_missing(store_open_part(s, &digest, 7));
	make_part(s, 7, "so far");
	CU_ASSERT_EQUAL(store_create_part(s, &digest, 7), -1);
	CU_ASSERT_EQUAL(errno, EEXIST);
	fd = store_open_part(s, &digest, 7);
	CU_ASSERT_EQUAL(write(fd, "x", 1), -1);
	expect_text(fd, "so far");
	expect_missing(store_open_part(s, &digest, 8));
	CU_ASSERT_TRUE(store_remove_part(s, &digest, 7));
	CU_ASSERT_TRUE(store_remove_part(s, &digest, 7));
	expect_missing(store_open_part(s, &digest, 7));
	end(&s);
}

static void
an_inherited_part_changes_its_id_and_goes_on(void)
{
	struct store *s = begin();
	int fd;

	make_part(s, 7, "so far");
	expect_missing(store_inherit_part(s, &digest, 6, 8));
	fd = store_inherit_part(s, &digest, 7, 8);
	CU_ASSERT_TRUE_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(pwrite(fd, " good", 5, 6), 5);
	expect_text(fd, "so far good");
	expect_missing(store_open_part(s, &digest, 7));
	CU_ASSERT_TRUE(store_publish_part(s, &digest, 8));
	expect_text(store_open_object(s, &digest, NULL), "so far good");
	CU_ASSERT_FALSE(store_publish_part(s, &digest, 8));
	CU_ASSERT_EQUAL(errno, ENOENT);
	expect_text(store_open_object(s, &digest, NULL), "so far good");
	end(&s);
}

static void
publishing_replaces_an_object_that_is_being_read(void)
{
	struct store *s = begin();
	int old;

	make_part(s, 1, "old");
	CU_ASSERT_TRUE(store_publish_part(s, &digest, 1));
	old = store_open_object(s, &digest, NULL);
	make_part(s, 2, "new");
	CU_ASSERT_TRUE(store_publish_part(s, &digest, 2));
	expect_text(old, "old");
	expect_text(store_open_object(s, &digest, NULL), "new");
	end(&s);
}

static void
a_reservation_takes_blocks_and_no_length(void)
{
	struct store *s = begin();
	int fd = store_create_part(s, &digest, 1);
	struct stat st;

	CU_ASSERT_TRUE_FATAL(fd >= 0);
	CU_ASSERT_TRUE(store_reserve(fd, 0));
	CU_ASSERT_TRUE(store_reserve(fd, 1 << 20));
	CU_ASSERT_EQUAL(fstat(fd, &st), 0);
	CU_ASSERT_EQUAL(st.st_size, 0);
	CU_ASSERT_FALSE(store_reserve(fd, UINT64_MAX));
	CU_ASSERT_EQUAL(errno, EFBIG);
	CU_ASSERT_FALSE(store_reserve(fd, (uint64_t)1 << 50));
	CU_ASSERT_TRUE(errno == ENOSPC || errno == EFBIG);
	CU_ASSERT_EQUAL(fstat(fd, &st), 0);
	CU_ASSERT_EQUAL(st.st_size, 0);
	close(fd);
	end(&s);
}

/* --- foreign things -------------------------------------------------------------------------- */

static void
what_is_no_regular_file_is_no_object(void)
{
	struct store *s = begin();
	char *path = scratch_path(folder, object_file);

	make_folder(object_folder);
	make_link(object_file, "/etc/passwd");
	expect_missing(store_open_object(s, &digest, NULL));
	make_part(s, 1, "over a link");
	CU_ASSERT_TRUE(store_publish_part(s, &digest, 1));
	expect_text(store_open_object(s, &digest, NULL), "over a link");
	CU_ASSERT_TRUE(store_remove_object(s, &digest));
	CU_ASSERT_EQUAL(mkfifo(path, 0600), 0);
	expect_missing(store_open_object(s, &digest, NULL));
	make_part(s, 2, "over a pipe");
	CU_ASSERT_TRUE(store_publish_part(s, &digest, 2));
	expect_text(store_open_object(s, &digest, NULL), "over a pipe");
	CU_ASSERT_TRUE(store_remove_object(s, &digest));
	make_folder(object_file);
	expect_missing(store_open_object(s, &digest, NULL));
	make_part(s, 3, "not over a folder");
	CU_ASSERT_FALSE(store_publish_part(s, &digest, 3));
	expect_text(store_open_part(s, &digest, 3), "not over a folder");
	free(path);
	end(&s);
}

static void
what_is_no_regular_file_is_no_part(void)
{
	struct store *s = begin();
	char text[DIGEST_STR_SIZE], *name, *path;

	name = xasprintf("parts/%s.%016x", digest_str(&digest, text), 7);
	path = scratch_path(folder, name);
	scratch_write(folder, "precious", "precious");
	make_link(name, "../precious");
	expect_missing(store_open_part(s, &digest, 7));
	expect_missing(store_inherit_part(s, &digest, 7, 8));
	CU_ASSERT_EQUAL(store_create_part(s, &digest, 7), -1);
	CU_ASSERT_TRUE(store_remove_part(s, &digest, 7));
	CU_ASSERT_TRUE(scratch_exists(folder, "precious"));
	CU_ASSERT_EQUAL(mkfifo(path, 0600), 0);
	expect_missing(store_open_part(s, &digest, 7));
	expect_missing(store_inherit_part(s, &digest, 7, 8));
	free(path);
	free(name);
	end(&s);
}

static void
folders_that_are_links_are_refused(void)
{
	static const char *const names[] = {"parts", "index", "objects/sha512", "objects/sha256"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct store *s = begin();

		store_close(&s);
		remove_name(names[i]);
		make_link(names[i], "/tmp");
		s = store_open(folder);
		CU_ASSERT_PTR_NULL(s);
		end(&s);
	}
}

static void
what_is_no_folder_cannot_be_opened(void)
{
	char *path;
	struct store *s = begin();

	scratch_write(folder, "file", "");
	path = scratch_path(folder, "file");
	CU_ASSERT_PTR_NULL(store_open(path));
	free(path);
	path = scratch_path(folder, "no/such");
	CU_ASSERT_PTR_NULL(store_open(path));
	free(path);
	end(&s);
}

struct walk {
	int known, unknown;
	struct store *remove_from;
	uint64_t ids;
};

static void
see_part(const char *name, bool known, const struct digest *d, uint64_t id, void *arg)
{
	struct walk *w = arg;

	if (known) {
		w->known++;
		w->ids += id;
		CU_ASSERT_TRUE(digest_equal(d, &digest));
	} else {
		w->unknown++;
		CU_ASSERT_EQUAL(id, 0);
	}
	if (w->remove_from != NULL)
		CU_ASSERT_TRUE(store_remove_part_file(w->remove_from, name));
}

/* Names that nearly are a part's: `%s` is the digest's hex. */
static const char *const strangers[] = {"sha256:%s.000000000000000", "sha256:%s.00000000000000001",
    "sha256:%s.0000000000000000", "sha256:%s.000000000000000G", "sha256:%s.00000000000000AB",
    "sha256:%s.0x00000000000001", "sha256:%s.+000000000000001", "sha256:%s. 000000000000001",
    "sha256:%s.0000000000000001.", "sha256:%s", "sha256:%s.", "sha256:%s0.0000000000000001",
    "sha512:%s.0000000000000001", "SHA256:%s.0000000000000001", "sha1:%s.0000000000000001",
    "%s.0000000000000001", ".hidden", "x", "sha256:%s.ffffffffffffffff0", "lost+found", "-rf", "\n",
    "\xff\xfe", "sha256:.0000000000000001"};
enum { STRANGERS = sizeof(strangers) / sizeof(*strangers) };

static void
make_strangers(void)
{
	char hex[DIGEST_STR_SIZE], name[300];

	digest_hex(&digest, hex);
	for (size_t i = 0; i < STRANGERS; i++) {
		const char *at = strstr(strangers[i], "%s");
		int before = at != NULL ? (int)(at - strangers[i]) : (int)strlen(strangers[i]);

		snprintf(name, sizeof(name), "parts/%.*s%s%s", before, strangers[i],
		    at != NULL ? hex : "", at != NULL ? at + 2 : "");
		scratch_write(folder, name, "x");
	}
}

static void
foreign_names_in_parts_are_told_from_ours_and_removed(void)
{
	struct store *s = begin();
	struct walk w = {0};

	CU_ASSERT_EQUAL(store_each_part(s, see_part, &w), 0);
	make_strangers();
	make_link("parts/link", "../precious");
	scratch_write(folder, "precious", "precious");
	make_folder("parts/folder");
	make_part(s, 1, "one");
	make_part(s, UINT64_MAX - 1, "two");
	CU_ASSERT_EQUAL(store_each_part(s, see_part, &w), STRANGERS + 4);
	CU_ASSERT_EQUAL(w.known, 2);
	CU_ASSERT_EQUAL(w.unknown, STRANGERS + 2);
	CU_ASSERT_EQUAL(w.ids, UINT64_MAX);
	w = (struct walk){.remove_from = s};
	CU_ASSERT_EQUAL(store_each_part(s, see_part, &w), STRANGERS + 4);
	w = (struct walk){0};
	CU_ASSERT_EQUAL(store_each_part(s, see_part, &w), 0);
	CU_ASSERT_TRUE(scratch_exists(folder, "precious"));
	end(&s);
}

static void
nothing_outside_of_parts_is_removed_by_name(void)
{
	static const char *const names[] = {
	    "../precious", ".", "..", "folder/file", "/etc/passwd", ""};
	struct store *s = begin();

	scratch_write(folder, "precious", "precious");
	make_folder("parts/folder");
	scratch_write(folder, "parts/folder/file", "x");
	for (size_t i = 0; i < 5; i++) {
		CU_ASSERT_FALSE(store_remove_part_file(s, names[i]));
		CU_ASSERT_EQUAL(errno, EINVAL);
	}
	CU_ASSERT_FALSE(store_remove_part_file(s, "folder"));
	CU_ASSERT_TRUE(scratch_exists(folder, "precious"));
	CU_ASSERT_TRUE(scratch_exists(folder, "parts/folder/file"));
	end(&s);
}

/* --- folders that vanish --------------------------------------------------------------------- */

static void
folders_that_vanish_are_made_again(void)
{
	struct store *s = begin();
	struct walk w = {0};

	remove_name("parts");
	CU_ASSERT_EQUAL(store_each_part(s, see_part, &w), 0);
	expect_missing(store_open_part(s, &digest, 1));
	CU_ASSERT_TRUE(store_remove_part(s, &digest, 1));
	make_part(s, 1, "hello");
	remove_name("objects/sha256");
	remove_name("objects/sha512");
	remove_name("objects");
	expect_missing(store_open_object(s, &digest, NULL));
	CU_ASSERT_TRUE(store_publish_part(s, &digest, 1));
	expect_text(store_open_object(s, &digest, NULL), "hello");
	CU_ASSERT_TRUE(store_remove_object(s, &digest));
	remove_name(object_folder);
	make_part(s, 2, "again");
	CU_ASSERT_TRUE(store_publish_part(s, &digest, 2));
	expect_text(store_open_object(s, &digest, NULL), "again");
	end(&s);
}

static const CU_TestInfo tests[] = {
    {"a part becomes an object", a_part_becomes_an_object_under_its_digests_name},
    {"every algorithm has its folder", every_algorithm_has_its_folder},
    {"a digest of no algorithm opens nothing", a_digest_of_no_algorithm_opens_nothing},
    {"a follower reads what is written", a_follower_reads_what_the_leader_has_written},
    {"an inherited part goes on", an_inherited_part_changes_its_id_and_goes_on},
    {"publishing replaces an object being read", publishing_replaces_an_object_that_is_being_read},
    {"a reservation takes no length", a_reservation_takes_blocks_and_no_length},
    {"what is no regular file is no object", what_is_no_regular_file_is_no_object},
    {"what is no regular file is no part", what_is_no_regular_file_is_no_part},
    {"folders that are links are refused", folders_that_are_links_are_refused},
    {"what is no folder cannot be opened", what_is_no_folder_cannot_be_opened},
    {"foreign names in parts are told from ours",
	foreign_names_in_parts_are_told_from_ours_and_removed},
    {"nothing outside of parts is removed by name", nothing_outside_of_parts_is_removed_by_name},
    {"folders that vanish are made again", folders_that_vanish_are_made_again},
};

void
suite_store(void)
{
	CU_pSuite suite = CU_add_suite("store", NULL, NULL);

	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		CU_add_test(suite, tests[i].pName, tests[i].pTestFunc);
}
