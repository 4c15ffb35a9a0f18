/* Walking over the objects, strangers among them; and hashing them again without a trace in the page
 * cache. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "scratch.h"
#include "store_rehash.h"
#include "store_trial.h"
#include "store_walk.h"
#include "suites.h"
#include "xalloc.h"

static struct digest
digest_of(enum digest_algo algo, const void *bytes, size_t n)
{
	struct hasher *h = hasher_new(algo);
	struct digest d;

	hasher_update(h, bytes, n);
	hasher_final(h, &d);
	hasher_free(&h);
	return d;
}

static void
put_object(struct store *s, const struct digest *d, const void *bytes, size_t n)
{
	int fd = store_create_part(s, d, 1);

	CU_ASSERT_TRUE_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(write(fd, bytes, n), (ssize_t)n);
	CU_ASSERT_EQUAL(fsync(fd), 0);
	close(fd);
	CU_ASSERT_TRUE(store_publish_part(s, d, 1));
}

static void
make_folder(const char *name)
{
	char *path = scratch_path(folder, name);

	CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
	free(path);
}

/* --- the walk -------------------------------------------------------------------------------- */

struct seen {
	unsigned objects, strangers;
	bool all_right; /* each object's file is what the digest says */
	char strange[1024]; /* the strangers' paths, sorted by nothing */
};

static void
walk(struct store *s, struct seen *seen)
{
	struct store_walk *w = store_walk_begin(s);
	struct store_found found;

	*seen = (struct seen){.all_right = true};
	while (store_walk_next(w, &found)) {
		char *path = scratch_path(folder, found.path);
		struct stat st;

		CU_ASSERT_EQUAL(lstat(path, &st), 0);
		CU_ASSERT_EQUAL(st.st_ino, found.st.st_ino);
		free(path);
		if (found.is_object) {
			uint64_t size = 0;
			int fd = store_open_object(s, &found.digest, &size);

			seen->objects++;
			seen->all_right = seen->all_right && fd >= 0 && size == (uint64_t)found.st.st_size;
			close(fd);
		} else {
			seen->strangers++;
			strcat(strcat(seen->strange, found.path), "\n");
		}
	}
	CU_ASSERT_FALSE(store_walk_next(w, &found));
	store_walk_end(&w);
	CU_ASSERT_PTR_NULL(w);
}

static void
the_walk_sees_every_object_of_every_algorithm_once(void)
{
	struct store *s = begin();
	struct seen seen;

	walk(s, &seen);
	CU_ASSERT_EQUAL(seen.objects + seen.strangers, 0);
	for (unsigned i = 0; i < 600; i++) {
		struct digest d = digest_of(i % 3 == 0 ? DIGEST_SHA512 : DIGEST_SHA256, &i, sizeof(i));

		put_object(s, &d, &i, i % 4);
	}
	walk(s, &seen);
	CU_ASSERT_EQUAL(seen.objects, 600);
	CU_ASSERT_EQUAL(seen.strangers, 0);
	CU_ASSERT_TRUE(seen.all_right);
	end(&s);
}

static void
what_does_not_belong_is_told_from_objects(void)
{
	static const char name[] = "aa11111111111111111111111111111111111111111111111111111111111111";
	struct store *s = begin();
	char long_name[256], path[400];
	struct seen seen;

	make_folder("objects/md5");
	make_folder("objects/sha256/zz");
	make_folder("objects/sha256/aa");
	make_folder("objects/sha256/ab");
	make_folder("objects/sha256/ab/deep");
	scratch_write(folder, "objects/README", "stranger");
	scratch_write(folder, "objects/sha512/aa", "a file where a folder should be");
	scratch_write(folder, "objects/sha256/ab/.hidden", "");
	snprintf(path, sizeof(path), "objects/sha256/ab/%s", name);
	scratch_write(folder, path, "in another's folder");
	snprintf(path, sizeof(path), "%s/objects/sha256/aa/%s", folder, name);
	CU_ASSERT_EQUAL(symlink("/etc/passwd", path), 0);
	memset(long_name, 'a', 255);
	long_name[255] = '\0';
	snprintf(path, sizeof(path), "objects/sha256/aa/%s", long_name);
	scratch_write(folder, path, "");
	walk(s, &seen);
	CU_ASSERT_EQUAL(seen.objects, 0);
	CU_ASSERT_EQUAL(seen.strangers, 9);
	CU_ASSERT_PTR_NOT_NULL(strstr(seen.strange, "objects/README\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(seen.strange, "objects/sha256/ab/deep\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(seen.strange, "objects/sha512/aa\n"));
	end(&s);
}

static void
a_walk_goes_on_while_objects_are_removed(void)
{
	struct store *s = begin();
	struct store_walk *w;
	struct store_found found;
	unsigned n = 0;

	for (unsigned i = 0; i < 200; i++) {
		struct digest d = digest_of(DIGEST_SHA256, &i, sizeof(i));

		put_object(s, &d, "x", 1);
	}
	w = store_walk_begin(s);
	while (store_walk_next(w, &found)) {
		CU_ASSERT_TRUE(found.is_object && store_remove_object(s, &found.digest));
		n++;
	}
	store_walk_end(&w);
	CU_ASSERT_EQUAL(n, 200);
	end(&s);
}

static void
without_a_folder_of_objects_there_are_none(void)
{
	struct store *s = begin();
	struct seen seen;
	char *path = xasprintf("%s/objects/sha256", folder);

	CU_ASSERT_EQUAL(rmdir(path), 0);
	walk(s, &seen);
	strcpy(strrchr(path, '/'), "/sha512");
	CU_ASSERT_EQUAL(rmdir(path), 0);
	*strrchr(path, '/') = '\0';
	CU_ASSERT_EQUAL(rmdir(path), 0);
	free(path);
	walk(s, &seen);
	CU_ASSERT_EQUAL(seen.objects + seen.strangers, 0);
	end(&s);
}

/* --- hashing again --------------------------------------------------------------------------- */

enum { SIZE = 3 * 1024 * 1024 + 77 };

static enum store_rehash_result
rehash(struct store *s, const struct digest *d, size_t step)
{
	int fd = store_open_object(s, d, NULL);
	struct store_rehash *r;
	enum store_rehash_result result;

	CU_ASSERT_TRUE_FATAL(fd >= 0);
	r = store_rehash_begin(fd, d);
	do {
		uint64_t before = store_rehash_bytes(r);

		result = store_rehash_step(r, step);
		CU_ASSERT_TRUE(store_rehash_bytes(r) - before <= (step < 65536 ? 65536 : step));
	} while (result == STORE_REHASH_MORE);
	if (result == STORE_REHASH_RIGHT)
		CU_ASSERT_EQUAL(store_rehash_bytes(r), SIZE);
	store_rehash_end(&r);
	CU_ASSERT_PTR_NULL(r);
	return result;
}

static void
one_bit_makes_it_wrong(void)
{
	struct store *s = begin();
	unsigned char *bytes = xcalloc(1, SIZE);
	struct digest d = digest_of(DIGEST_SHA256, bytes, SIZE), e = digest_of(DIGEST_SHA512, bytes, SIZE);

	put_object(s, &d, bytes, SIZE);
	put_object(s, &e, bytes, SIZE);
	CU_ASSERT_EQUAL(rehash(s, &d, 1), STORE_REHASH_RIGHT);
	CU_ASSERT_EQUAL(rehash(s, &d, 1000003), STORE_REHASH_RIGHT);
	CU_ASSERT_EQUAL(rehash(s, &e, 64 << 20), STORE_REHASH_RIGHT);
	bytes[SIZE - 1] ^= 1;
	put_object(s, &d, bytes, SIZE);
	CU_ASSERT_EQUAL(rehash(s, &d, 300000), STORE_REHASH_WRONG);
	bytes[SIZE - 1] ^= 1;
	put_object(s, &d, bytes, SIZE - 1);
	CU_ASSERT_EQUAL(rehash(s, &d, 300000), STORE_REHASH_WRONG);
	put_object(s, &d, bytes, 0);
	CU_ASSERT_EQUAL(rehash(s, &d, 300000), STORE_REHASH_WRONG);
	free(bytes);
	end(&s);
}

/* How many pages of these bytes are in the page cache. */
static unsigned
resident(int fd, size_t at, size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (n + page - 1) / page;
	unsigned char *vec = xcalloc(1, pages);
	void *p = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, (off_t)at);
	unsigned count = 0;

	CU_ASSERT_TRUE_FATAL(p != MAP_FAILED);
	CU_ASSERT_EQUAL(mincore(p, n, vec), 0);
	for (size_t i = 0; i < pages; i++)
		count += vec[i] & 1;
	munmap(p, n);
	free(vec);
	return count;
}

static void
what_was_not_in_the_page_cache_is_not_there_afterwards(void)
{
	static unsigned char bytes[SIZE];
	const size_t half = 1 << 20;
	struct store *s = begin();
	struct digest d = digest_of(DIGEST_SHA256, bytes, SIZE);
	unsigned in_first;
	int fd;

	put_object(s, &d, bytes, SIZE);
	fd = store_open_object(s, &d, NULL);
	CU_ASSERT_EQUAL(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	if (resident(fd, 0, SIZE) > 0) {
		puts("(skipped: this file system keeps its pages)");
	} else {
		CU_ASSERT_EQUAL(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
		CU_ASSERT_EQUAL(pread(fd, bytes, half, 0), (ssize_t)half);
		in_first = resident(fd, 0, half);
		CU_ASSERT_TRUE(in_first >= half / (size_t)sysconf(_SC_PAGESIZE));
		CU_ASSERT_EQUAL(rehash(s, &d, 300000), STORE_REHASH_RIGHT);
		CU_ASSERT_EQUAL(resident(fd, 0, half), in_first);
		CU_ASSERT_EQUAL(resident(fd, 2 * half, SIZE - 2 * half), 0);
	}
	close(fd);
	end(&s);
}

static void
what_cannot_be_read_is_told(void)
{
	struct digest d = digest_of(DIGEST_SHA256, "", 0);
	struct store_rehash *r = store_rehash_begin(open("/", O_RDONLY | O_CLOEXEC), &d);

	CU_ASSERT_EQUAL(store_rehash_step(r, 100), STORE_REHASH_FAILED);
	CU_ASSERT_EQUAL(errno, EISDIR);
	store_rehash_end(&r);
}

static const CU_TestInfo tests[] = {
    {"every object once", the_walk_sees_every_object_of_every_algorithm_once},
    {"strangers are told from objects", what_does_not_belong_is_told_from_objects},
    {"a walk goes on while objects are removed", a_walk_goes_on_while_objects_are_removed},
    {"without a folder there are no objects", without_a_folder_of_objects_there_are_none},
    {"one bit makes it wrong", one_bit_makes_it_wrong},
    {"the page cache is as before", what_was_not_in_the_page_cache_is_not_there_afterwards},
    {"what cannot be read is told", what_cannot_be_read_is_told},
};

void
suite_store_walk(void)
{
	CU_pSuite suite = CU_add_suite("store_walk", NULL, NULL);

	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		CU_add_test(suite, tests[i].pName, tests[i].pTestFunc);
}
