/* The list of tags. */
#include "list.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "digest.h"
#include "index.h"
#include "owner.h"
#include "xalloc.h"

enum { TIME_SIZE = sizeof("2026-01-31T23:59:59Z") };

struct list {
	struct index *ix;
	unsigned long unnamed; /* tags whose names were too long to be kept */
};

static const char *
time_text(int64_t seconds, char out[TIME_SIZE])
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL || strftime(out, TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		return "-";
	return out;
}

static bool
say(const struct index_name *n, void *arg)
{
	struct list *l = arg;
	struct index_object o;
	char digest[DIGEST_STR_SIZE], at[TIME_SIZE];

	if (index_get_object(l->ix, &n->digest, &o) != INDEX_OK)
		return true;
	if (n->upstream == NULL)
		l->unnamed++;
	else
		printf("%s/%s:%s\t%s\t%s\t%s\n", n->upstream, n->repository, n->tag,
		    digest_str(&n->digest, digest), o.media_type[0] != '\0' ? o.media_type : "-",
		    time_text(n->seen_at, at));
	return !ferror(stdout);
}

/* Nothing is made: what is missing is said. And LMDB would die of a damaged file. */
static struct index *
open_index(const char *data_path)
{
	char *folder = xasprintf("%s/index", data_path), *file = xasprintf("%s/data.mdb", folder);
	struct index *ix = NULL;

	if (access(file, R_OK) != 0)
		fprintf(stderr, "%s: %s\n", file, strerror(errno));
	else if (!index_probe(folder))
		fprintf(stderr, "%s: the index cannot be read\n", folder);
	else
		ix = index_open(folder);
	free(folder);
	free(file);
	return ix;
}

enum list_result
list_run(const char *data_path)
{
	struct list l = {0};
	bool done;

	if (!owner_become(data_path) || (l.ix = open_index(data_path)) == NULL)
		return LIST_IMPOSSIBLE;
	done = index_each_name(l.ix, say, &l) == INDEX_OK;
	index_close(&l.ix);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "standard output: %s\n", strerror(errno));
		return LIST_IMPOSSIBLE;
	}
	if (l.unnamed > 0)
		fprintf(stderr, "and %lu whose names are too long to be kept\n", l.unnamed);
	return done ? LIST_DONE : LIST_IMPOSSIBLE;
}
