/* Makes a store of very many small objects for bench/million: object n is n zero bytes, in a file without
 * blocks, or, if so wanted, with one. Files and index are as the cache makes them, and the mark says that all
 * ended cleanly. Of those with a block the first ones were used last, each hundred a second before the one before.
 *
 *   many-objects FOLDER COUNT [block] */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "clock.h"
#include "index.h"
#include "log.h"
#include "store.h"

enum { BATCH = 100, MANIFEST_EVERY = 20 };

struct batch {
	struct digest digests[BATCH];
	uint64_t first; /* size of the first one */
	int64_t fetched_at; /* … and since when it is there; 0: now */
	unsigned n;
};

static void
decide(struct index_entry *e, unsigned nth, void *arg)
{
	const struct batch *b = arg;
	int64_t at = b->fetched_at != 0 ? b->fetched_at : clock_wall();

	e->has_object = true;
	e->object = (struct index_object){
	    .kind = (b->first + nth) % MANIFEST_EVERY == 0 ? OBJECT_MANIFEST : OBJECT_BLOB,
	    .size = b->first + nth,
	    .fetched_at = at,
	    .verified_at = at,
	};
}

static void
write_batch(struct index *ix, struct batch *b)
{
	const struct digest *digests[BATCH];

	for (unsigned i = 0; i < b->n; i++)
		digests[i] = &b->digests[i];
	if (index_update_many(ix, digests, b->n, decide, b) != INDEX_OK)
		fatal("cannot write the index");
	b->first += b->n;
	b->fetched_at -= b->fetched_at != 0;
	b->n = 0;
}

static void
make_file(struct store *s, const struct digest *d, uint64_t size, bool block)
{
	int fd = store_create_part(s, d, 1);

	if (fd < 0 || ftruncate(fd, (off_t)size) != 0 ||
	    (block && pwrite(fd, "", 1, (off_t)size - 1) != 1) || close(fd) != 0 || !store_publish_part(s, d, 1))
		fatal("cannot make an object: %m");
}

/* The digest of one zero more than the time before. */
static void
next_digest(EVP_MD_CTX *zeros, EVP_MD_CTX *copy, struct digest *d)
{
	*d = (struct digest){.algo = DIGEST_SHA256, .len = 32};
	if (EVP_DigestUpdate(zeros, "", 1) != 1 || EVP_MD_CTX_copy_ex(copy, zeros) != 1 ||
	    EVP_DigestFinal_ex(copy, d->bytes, NULL) != 1)
		fatal("cannot hash");
}

int
main(int argc, char **argv)
{
	unsigned long count = argc == 3 || argc == 4 ? strtoul(argv[2], NULL, 10) : 0;
	bool block = argc == 4 && strcmp(argv[3], "block") == 0;
	EVP_MD_CTX *zeros = EVP_MD_CTX_new(), *copy = EVP_MD_CTX_new();
	struct batch b = {.first = 1};
	struct store *s;
	struct index *ix;

	if (block)
		b.fetched_at = clock_wall();
	if (count == 0 || (argc == 4 && !block))
		fatal("usage: many-objects folder count [block]");
	s = store_open(argv[1]);
	ix = s != NULL ? index_open(store_index_dir(s)) : NULL;
	if (ix == NULL || EVP_DigestInit_ex(zeros, EVP_sha256(), NULL) != 1)
		return 1;
	for (unsigned long n = 1; n <= count; n++) {
		next_digest(zeros, copy, &b.digests[b.n]);
		make_file(s, &b.digests[b.n++], n, block);
		if (b.n == BATCH || n == count)
			write_batch(ix, &b);
	}
	if (index_sync(ix) != INDEX_OK || !store_write_state(s, true))
		fatal("cannot mark the store");
	EVP_MD_CTX_free(zeros);
	EVP_MD_CTX_free(copy);
	index_close(&ix);
	store_close(&s);
	return 0;
}
