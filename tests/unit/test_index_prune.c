/* Names and proofs that are of no use are removed, and no others; and all names are seen. */
#include <stdio.h>
#include <string.h>

#include <CUnit/CUnit.h>

#include "index.h"
#include "scratch.h"
#include "suites.h"

enum { NOW = 1000000000, HOUR = 3600, DAY = 86400, MANY = 3000 };

static char *folder;
static struct index *ix;

static void
begin(void)
{
	folder = scratch_folder();
	ix = index_open(folder);
	CU_ASSERT_PTR_NOT_NULL_FATAL(ix);
}

static void
end(void)
{
	index_close(&ix);
	scratch_remove(&folder);
}

static unsigned
prune(int64_t now)
{
	struct index_prune *p = index_prune_new();
	enum index_result result;
	unsigned removed, all = 0;

	do {
		result = index_prune(ix, p, now, &removed);
		CU_ASSERT(removed <= INDEX_PRUNE_MAX);
		all += removed;
	} while (result == INDEX_OK);
	CU_ASSERT_EQUAL(result, INDEX_MISS);
	index_prune_free(&p);
	CU_ASSERT_PTR_NULL(p);
	return all;
}

static void
put_object(const struct digest *d)
{
	const struct index_object o = {.kind = OBJECT_MANIFEST, .size = 1, .fetched_at = NOW};

	CU_ASSERT_EQUAL(index_put_object(ix, d, &o), INDEX_OK);
}

static bool
has_name(const char *tag)
{
	struct digest d;
	int64_t at;

	return index_get_name(ix, "https://a", "lib/x", tag, &d, &at) == INDEX_OK;
}

static void
put_name(const char *tag, const struct digest *d, int64_t at)
{
	CU_ASSERT_EQUAL(index_put_name(ix, "https://a", "lib/x", tag, d, at), INDEX_OK);
}

static void
names_go_with_their_objects_or_when_nobody_asks(void)
{
	struct digest here = scratch_digest(1), gone = scratch_digest(2);

	begin();
	put_object(&here);
	put_name("fresh", &here, NOW - HOUR);
	put_name("old", &here, NOW - 30 * DAY + 1);
	put_name("unseen", &here, NOW - 30 * DAY);
	put_name("coming", &gone, NOW - HOUR + 1);
	put_name("gone", &gone, NOW - HOUR);
	put_name("future", &gone, NOW + DAY);
	CU_ASSERT_EQUAL(prune(NOW), 2);
	CU_ASSERT(has_name("fresh") && has_name("old") && has_name("coming") && has_name("future"));
	CU_ASSERT_FALSE(has_name("unseen"));
	CU_ASSERT_FALSE(has_name("gone"));
	CU_ASSERT_EQUAL(index_delete_object(ix, &here), INDEX_OK);
	CU_ASSERT_EQUAL(prune(NOW + 1), 3);
	CU_ASSERT(has_name("future"));
	CU_ASSERT_EQUAL(prune(NOW + DAY + HOUR), 1);
	end();
}

/* Also those whose words are too long for a key. */
static void
many_are_walked_over_in_bites(void)
{
	struct digest here = scratch_digest(1), gone = scratch_digest(2);
	struct index_stats s;
	char tag[600];

	begin();
	put_object(&here);
	for (int i = 0; i < MANY; i++) {
		snprintf(tag, sizeof(tag), "%0*d", i % 7 == 0 ? 520 : 8, i);
		put_name(tag, i % 3 == 0 ? &here : &gone, NOW);
	}
	CU_ASSERT_EQUAL(prune(NOW + HOUR), MANY - MANY / 3);
	CU_ASSERT_EQUAL(prune(NOW + HOUR), 0);
	CU_ASSERT_EQUAL(index_get_stats(ix, &s), INDEX_OK);
	CU_ASSERT_EQUAL(s.records[2], MANY / 3);
	for (int i = 0; i < MANY; i++) {
		snprintf(tag, sizeof(tag), "%0*d", i % 7 == 0 ? 520 : 8, i);
		CU_ASSERT_EQUAL(has_name(tag), i % 3 == 0);
	}
	end();
}

struct seen {
	unsigned plain, unnamed;
	char last[600];
};

static bool
see(const struct index_name *n, void *arg)
{
	struct seen *s = arg;

	CU_ASSERT_EQUAL(n->seen_at, NOW);
	if (n->upstream == NULL) {
		s->unnamed++;
		return true;
	}
	CU_ASSERT_STRING_EQUAL(n->upstream, "https://a");
	CU_ASSERT_STRING_EQUAL(n->repository, "lib/x");
	CU_ASSERT(strcmp(s->last, n->tag) < 0);
	snprintf(s->last, sizeof(s->last), "%s", n->tag);
	return ++s->plain < MANY;
}

static void
all_are_seen_once_and_in_order(void)
{
	struct digest d = scratch_digest(1);
	struct seen s = {0};
	char tag[600];

	begin();
	for (int i = 0; i < 1000; i++) {
		snprintf(tag, sizeof(tag), "%0*d", i % 10 == 0 ? 520 : 8, i);
		put_name(tag, &d, NOW);
	}
	CU_ASSERT_EQUAL(index_each_name(ix, see, &s), INDEX_OK);
	CU_ASSERT_EQUAL(s.plain, 900);
	CU_ASSERT_EQUAL(s.unnamed, 100);
	s = (struct seen){.plain = MANY - 1};
	CU_ASSERT_EQUAL(index_each_name(ix, see, &s), INDEX_OK);
	CU_ASSERT_EQUAL(s.plain, MANY); /* it was enough */
	end();
}

static void
decide_lease(struct index_entry *e, void *arg)
{
	(void)arg;
	e->has_lease = true;
	e->lease = (struct index_lease){.id = 7};
}

static void
proofs_stay_with_objects_and_leases(void)
{
	struct digest here = scratch_digest(1), leased = scratch_digest(2), gone = scratch_digest(3);
	struct digest large = {.algo = DIGEST_SHA512, .len = 64, .bytes = {1, 2, 3}};

	begin();
	put_object(&here);
	CU_ASSERT_EQUAL(index_update(ix, &leased, decide_lease, NULL), INDEX_OK);
	CU_ASSERT_EQUAL(index_put_proof(ix, "https://a", &here), INDEX_OK);
	CU_ASSERT_EQUAL(index_put_proof(ix, "https://a", &leased), INDEX_OK);
	CU_ASSERT_EQUAL(index_put_proof(ix, "https://a", &gone), INDEX_OK);
	CU_ASSERT_EQUAL(index_put_proof(ix, "https://b", &gone), INDEX_OK);
	CU_ASSERT_EQUAL(index_put_proof(ix, "https://a", &large), INDEX_OK);
	CU_ASSERT_EQUAL(prune(NOW), 3);
	CU_ASSERT_EQUAL(index_get_proof(ix, "https://a", &here), INDEX_OK);
	CU_ASSERT_EQUAL(index_get_proof(ix, "https://a", &leased), INDEX_OK);
	CU_ASSERT_EQUAL(index_get_proof(ix, "https://a", &gone), INDEX_MISS);
	CU_ASSERT_EQUAL(index_get_proof(ix, "https://b", &gone), INDEX_MISS);
	CU_ASSERT_EQUAL(index_get_proof(ix, "https://a", &large), INDEX_MISS);
	end();
}

static void
an_empty_index_has_nothing_to_remove(void)
{
	begin();
	CU_ASSERT_EQUAL(prune(NOW), 0);
	end();
}

void
suite_index_prune(void)
{
	CU_pSuite suite = CU_add_suite("index_prune", NULL, NULL);

	CU_add_test(suite, "names go with their objects, or when nobody asks",
	    names_go_with_their_objects_or_when_nobody_asks);
	CU_add_test(suite, "many are walked over in bites", many_are_walked_over_in_bites);
	CU_add_test(suite, "all are seen once and in order", all_are_seen_once_and_in_order);
	CU_add_test(suite, "proofs stay with objects and leases", proofs_stay_with_objects_and_leases);
	CU_add_test(suite, "an empty index has nothing to remove", an_empty_index_has_nothing_to_remove);
}
