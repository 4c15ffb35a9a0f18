/* The memory of registries that answer HEAD badly. */
#include "check_quirk.h"

#include <stdlib.h>
#include <string.h>

#include "xalloc.h"

static int
find(const struct quirks *q, const char *upstream, bool blob)
{
	for (int i = 0; i < QUIRK_MAX; i++)
		if (q->entry[i].upstream != NULL && q->entry[i].blob == blob &&
		    strcmp(q->entry[i].upstream, upstream) == 0)
			return i;
	return -1;
}

/* A free entry has until = 0, so it is the oldest. */
static int
oldest(const struct quirks *q)
{
	int best = 0;

	for (int i = 1; i < QUIRK_MAX; i++)
		if (q->entry[i].until < q->entry[best].until)
			best = i;
	return best;
}

void
quirks_note(struct quirks *q, const char *upstream, bool blob, uint64_t now)
{
	int i = find(q, upstream, blob);

	if (i < 0) {
		i = oldest(q);
		free(q->entry[i].upstream);
		q->entry[i].upstream = xstrdup(upstream);
		q->entry[i].blob = blob;
	}
	q->entry[i].until = now + QUIRK_MS;
}

bool
quirks_has(const struct quirks *q, const char *upstream, bool blob, uint64_t now)
{
	int i = find(q, upstream, blob);

	return i >= 0 && now < q->entry[i].until;
}

void
quirks_free(struct quirks *q)
{
	for (int i = 0; i < QUIRK_MAX; i++)
		free(q->entry[i].upstream);
	memset(q, 0, sizeof(*q));
}
