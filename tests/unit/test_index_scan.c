/* Walks over a part of the index: the objects whose digests begin alike. */
#include <CUnit/CUnit.h>

#include "index.h"
#include "scratch.h"
#include "suites.h"

enum { OBJECTS = 3000 };

struct tally {
	uint8_t algo, first;
	unsigned calls, seen[OBJECTS];
};

static bool
tally_object(const struct digest *d, const struct index_object *o, void *arg)
{
	struct tally *t = arg;

	CU_ASSERT_EQUAL(d->algo, t->algo);
	CU_ASSERT_EQUAL(d->bytes[0], t->first);
	t->calls++;
	t->seen[o->size]++;
	return true;
}

/* scratch_digest() makes sha256 digests; every third becomes a sha512 one. */
static struct digest
digest(unsigned n)
{
	struct digest d = scratch_digest(n);

	if (n % 3 == 0)
		d = (struct digest){.algo = DIGEST_SHA512, .len = 64, .bytes = {
		    (uint8_t)(n * 7), (uint8_t)n, (uint8_t)(n >> 8), 1}};
	return d;
}

static void
a_walk_over_a_first_byte_sees_just_its_objects(void)
{
	char *folder = scratch_folder();
	struct index *ix = index_open(folder);
	struct tally t = {0};

	CU_ASSERT_PTR_NOT_NULL_FATAL(ix);
	for (unsigned i = 0; i < OBJECTS; i++) {
		struct index_object o = {.kind = OBJECT_BLOB, .size = i};
		struct digest d = digest(i);

		CU_ASSERT_EQUAL(index_put_object(ix, &d, &o), INDEX_OK);
	}
	for (t.algo = DIGEST_SHA256; t.algo <= DIGEST_SHA512; t.algo++)
		for (unsigned first = 0; first < 256; first++) {
			t.first = (uint8_t)first;
			CU_ASSERT_EQUAL(index_each_object_in(ix, t.algo, t.first, tally_object, &t),
			    INDEX_OK);
		}
	CU_ASSERT_EQUAL(t.calls, OBJECTS);
	for (unsigned i = 0; i < OBJECTS; i++)
		CU_ASSERT_EQUAL(t.seen[i], 1);
	index_close(&ix);
	scratch_remove(&folder);
}

void
suite_index_scan(void)
{
	CU_pSuite suite = CU_add_suite("index_scan", NULL, NULL);

	CU_add_test(suite, "a walk over a first byte sees just its objects",
	    a_walk_over_a_first_byte_sees_just_its_objects);
}
