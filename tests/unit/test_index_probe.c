/* index_probe() on files that a disk or an administrator has damaged: what it lets pass can be used. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "clock.h"
#include "index.h"
#include "scratch.h"
#include "suites.h"

enum {
	OBJECTS = 2000,
	/* MDB_page of LMDB 0.9 (mdb.c), on a machine of 64 bits */
	FLAGS = 10,
	LOWER = 12,
	UPPER = 14,
	POINTERS = 16,
	BRANCH = 0x01,
	LEAF = 0x02,
	META_PAGES = 2,
};

static char *folder;
static uint8_t *whole;
static size_t size, page_size;

/* --- an index, and its pages ----------------------------------------------------------------- */

static char *
file(void)
{
	return scratch_path(folder, "data.mdb");
}

static void
put(struct index *ix, unsigned n)
{
	struct digest d = scratch_digest(n);
	struct index_object o = {.kind = OBJECT_BLOB, .size = n, .fetched_at = 1000};

	MUST(index_put_object(ix, &d, &o) == INDEX_OK);
}

static void
read_whole(void)
{
	char *path = file();
	FILE *f = fopen(path, "rb");
	struct stat st;

	MUST(f != NULL && fstat(fileno(f), &st) == 0);
	size = (size_t)st.st_size;
	whole = malloc(size);
	MUST(whole != NULL && fread(whole, 1, size, f) == size);
	fclose(f);
	free(path);
}

static void
set_up(void)
{
	struct index *ix;

	folder = scratch_folder();
	page_size = (size_t)sysconf(_SC_PAGESIZE);
	ix = index_open_sized(folder, 1 << 20);
	MUST(ix != NULL);
	for (unsigned i = 0; i < OBJECTS; i++)
		put(ix, i);
	for (unsigned i = 0; i < OBJECTS; i += 7) {
		struct digest d = scratch_digest(i);

		MUST(index_delete_object(ix, &d) == INDEX_OK);
	}
	index_close(&ix);
	read_whole();
}

static void
tear_down(void)
{
	free(whole);
	scratch_remove(&folder);
}

/* The index on disk becomes `bytes`, with nobody's locks. */
static void
put_on_disk(const uint8_t *bytes)
{
	char *path = file(), *lock = scratch_path(folder, "lock.mdb");
	FILE *f = fopen(path, "wb");

	MUST(f != NULL && fwrite(bytes, 1, size, f) == size && fclose(f) == 0);
	MUST(unlink(lock) == 0);
	free(path);
	free(lock);
}

static uint16_t
get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static void
put16(uint8_t *p, size_t n)
{
	p[0] = n & 0xff;
	p[1] = n >> 8 & 0xff;
}

typedef void damage_fn(uint8_t *page);

/* Damages each page of a kind, one at a time. Those that are no longer in use do no harm. */
static void
expect_refusals(unsigned kind, damage_fn *damage)
{
	uint8_t *copy = malloc(size);
	unsigned refused = 0;

	MUST(copy != NULL);
	for (size_t at = META_PAGES * page_size; at < size; at += page_size) {
		if (get16(whole + at + FLAGS) != kind)
			continue;
		memcpy(copy, whole, size);
		damage(copy + at);
		put_on_disk(copy);
		refused += !index_probe(folder);
	}
	CU_ASSERT(refused > 0);
	put_on_disk(whole);
	CU_ASSERT_TRUE(index_probe(folder));
	free(copy);
}

/* --- one thing that is wrong ----------------------------------------------------------------- */

static void
no_free_space(uint8_t *page)
{
	put16(page + UPPER, get16(page + LOWER) - 2);
}

static void
records_beyond_the_page(uint8_t *page)
{
	put16(page + UPPER, page_size + 2);
}

static void
records_in_the_free_space(uint8_t *page)
{
	put16(page + UPPER, get16(page + UPPER) + 8);
}

static void
one_pointer_less(uint8_t *page)
{
	put16(page + LOWER, get16(page + LOWER) - 2);
}

static void
another_kind(uint8_t *page)
{
	put16(page + FLAGS, LEAF | 0x20);
}

/* A record of a leaf: the size of its value, flags and the size of its key, the key. */
static void
a_long_value(uint8_t *page)
{
	put16(page + get16(page + POINTERS), page_size);
}

static void
a_page_s_damage_is_seen(void)
{
	set_up();
	expect_refusals(LEAF, no_free_space);
	expect_refusals(LEAF, records_beyond_the_page);
	expect_refusals(BRANCH, no_free_space);
	expect_refusals(BRANCH, records_beyond_the_page);
	expect_refusals(LEAF, records_in_the_free_space);
	expect_refusals(LEAF, one_pointer_less);
	expect_refusals(LEAF, another_kind);
	expect_refusals(LEAF, a_long_value);
	tear_down();
}

/* The second child is the first one again, so that the walk comes back to where it was. */
static void
a_circle(uint8_t *page)
{
	uint8_t *a = page + get16(page + POINTERS), *b = page + get16(page + POINTERS + 2);

	memcpy(b, a, 6);
}

static void
a_circle_is_not_followed_for_ever(void)
{
	uint64_t begun = clock_ms();

	set_up();
	expect_refusals(BRANCH, a_circle);
	CU_ASSERT(clock_ms() - begun < 20000);
	tear_down();
}

/* Two pointers exchanged: every page is sound, and a look-up misses what is there. */
static void
exchange(uint8_t *page)
{
	uint16_t first = get16(page + POINTERS);

	put16(page + POINTERS, get16(page + POINTERS + 2));
	put16(page + POINTERS + 2, first);
}

static void
disorder_is_seen(void)
{
	set_up();
	expect_refusals(LEAF, exchange);
	tear_down();
}

static uint64_t
get64(const uint8_t *p)
{
	uint64_t n;

	memcpy(&n, p, sizeof(n));
	return n;
}

/* The root of the free pages' database, from the newer meta page (MDB_meta in mdb.c). */
static uint8_t *
free_pages(uint8_t *bytes)
{
	enum { ROOT = 80, TXN = 144 };
	const uint8_t *a = bytes, *b = bytes + page_size;

	return bytes + get64((get64(a + TXN) > get64(b + TXN) ? a : b) + ROOT) * page_size;
}

/* A page is said to be free that is not even in the file. */
static void
free_pages_are_looked_at(void)
{
	const uint64_t beyond = 1 << 30;
	uint8_t *page, *record;

	set_up();
	page = free_pages(whole);
	MUST(get16(page + FLAGS) == LEAF);
	record = page + get16(page + POINTERS);
	MUST(get64(record + 16) > 0); /* head and key come before how many they are */
	CU_ASSERT_TRUE(index_probe(folder));
	memcpy(record + 24, &beyond, sizeof(beyond));
	put_on_disk(whole);
	CU_ASSERT_FALSE(index_probe(folder));
	tear_down();
}

/* --- anything -------------------------------------------------------------------------------- */

static bool
see(const struct digest *d, const struct index_object *o, void *arg)
{
	(void)d;
	(void)o;
	(void)arg;
	return true;
}

/* Says nothing of what it is answered: only that there is an answer. */
static int
use_index(void *arg)
{
	struct index *ix;

	(void)arg;
	alarm(20);
	ix = index_open_sized(folder, 1 << 20);
	for (unsigned i = 0; ix != NULL && i < 2 * OBJECTS; i++) {
		struct digest d = scratch_digest(i);
		struct index_object o = {.kind = OBJECT_BLOB, .size = i, .fetched_at = 1000};

		(void)(index_put_object(ix, &d, &o) == INDEX_OK);
		if (i % 5 == 0)
			(void)(index_delete_object(ix, &d) == INDEX_OK);
		(void)(index_get_object(ix, &d, &o) == INDEX_OK);
	}
	if (ix != NULL)
		(void)(index_each_object(ix, see, NULL) == INDEX_OK);
	return 0;
}

static void
spoil(uint8_t *page, unsigned how)
{
	if (how % 3 == 0)
		page[LOWER + random() % 4] = (uint8_t)random();
	else if (how % 3 == 1)
		memset(page, 0, page_size);
	else
		for (size_t i = 8; i < page_size; i++)
			page[i] = (uint8_t)random();
}

static void
what_passes_can_be_used(void)
{
	uint8_t *copy;
	unsigned passed = 0, refused = 0;

	set_up();
	copy = malloc(size);
	MUST(copy != NULL);
	srandom(1);
	for (unsigned n = 0; n < 150; n++) {
		size_t pages = size / page_size - META_PAGES;

		memcpy(copy, whole, size);
		spoil(copy + (META_PAGES + (size_t)random() % pages) * page_size, n);
		put_on_disk(copy);
		if (!index_probe(folder)) {
			refused++;
			continue;
		}
		passed++;
		CU_ASSERT_EQUAL(scratch_run(use_index, NULL), 0);
	}
	CU_ASSERT(passed > 0 && refused > 0);
	free(copy);
	tear_down();
}

static const CU_TestInfo tests[] = {
    {"a page's damage is seen", a_page_s_damage_is_seen},
    {"a circle is not followed for ever", a_circle_is_not_followed_for_ever},
    {"disorder is seen", disorder_is_seen},
    {"free pages are looked at", free_pages_are_looked_at},
    {"what passes can be used", what_passes_can_be_used},
};

void
suite_index_probe(void)
{
	CU_pSuite suite = CU_add_suite("index_probe", NULL, NULL);

	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		CU_add_test(suite, tests[i].pName, tests[i].pTestFunc);
}
