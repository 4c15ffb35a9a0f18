/* What registries ask for, and what a request is about. */
#include "registry_demand.h"

#include <stdlib.h>
#include <string.h>

#include "registry.h"
#include "xalloc.h"

static struct demand_entry *
find(const struct demands *ds, const char *upstream)
{
	for (size_t i = 0; i < DEMANDS_MAX; i++)
		if (ds->entry[i].upstream != NULL && strcmp(ds->entry[i].upstream, upstream) == 0)
			return (struct demand_entry *)(uintptr_t)&ds->entry[i];
	return NULL;
}

static const char *
copy(struct arena *a, const char *text)
{
	return text != NULL ? arena_strdup(a, text) : NULL;
}

bool
demands_get(const struct demands *ds, const char *upstream, struct arena *arena, struct demand *d)
{
	const struct demand_entry *e = find(ds, upstream);

	*d = (struct demand){0};
	if (e == NULL)
		return false;
	*d = (struct demand){
	    .kind = e->demand.kind,
	    .realm = {copy(arena, e->demand.realm.scheme), copy(arena, e->demand.realm.host),
		copy(arena, e->demand.realm.target)},
	    .service = copy(arena, e->demand.service),
	};
	return true;
}

static void
clear(struct demand_entry *e)
{
	free(e->upstream);
	free((char *)(uintptr_t)e->demand.realm.scheme);
	free((char *)(uintptr_t)e->demand.realm.host);
	free((char *)(uintptr_t)e->demand.realm.target);
	free((char *)(uintptr_t)e->demand.service);
	*e = (struct demand_entry){0};
}

static const char *
keep(const char *text)
{
	return text != NULL ? xstrdup(text) : NULL;
}

/* A free entry has the age 0. */
static struct demand_entry *
oldest(struct demands *ds)
{
	struct demand_entry *best = &ds->entry[0];

	for (size_t i = 1; i < DEMANDS_MAX; i++)
		if (ds->entry[i].age < best->age)
			best = &ds->entry[i];
	return best;
}

void
demands_note(struct demands *ds, const char *upstream, const struct demand *d)
{
	struct demand_entry *e;

	demands_forget(ds, upstream);
	if (d->kind == DEMAND_NONE)
		return;
	e = oldest(ds);
	clear(e);
	*e = (struct demand_entry){
	    .upstream = xstrdup(upstream),
	    .demand = {.kind = d->kind,
		.realm = {keep(d->realm.scheme), keep(d->realm.host), keep(d->realm.target)},
		.service = keep(d->service)},
	    .age = ++ds->ages,
	};
}

void
demands_forget(struct demands *ds, const char *upstream)
{
	struct demand_entry *e = find(ds, upstream);

	if (e != NULL)
		clear(e);
}

void
demands_free(struct demands *ds)
{
	for (size_t i = 0; i < DEMANDS_MAX; i++)
		clear(&ds->entry[i]);
}

/* "/v2/<repository>/manifests/…", "/blobs/…", "/referrers/…" and "/tags/list", from the right: a repository may
 * have such a component itself. */
const char *
registry_repository(const char *target, size_t *n)
{
	static const char *const words[] = {"/manifests", "/blobs", "/referrers", "/tags"};
	size_t len = strcspn(target, "?");
	const char *last, *first = target + 4;

	if (strncmp(target, "/v2/", 4) != 0)
		return NULL;
	last = memrchr(target, '/', len);
	for (size_t i = 0; last > first && i < sizeof(words) / sizeof(words[0]); i++) {
		size_t w = strlen(words[i]);

		if ((size_t)(last - first) <= w || strncmp(last - w, words[i], w) != 0)
			continue;
		*n = (size_t)(last - w - first);
		return memchr(first, '%', *n) == NULL ? first : NULL;
	}
	return NULL;
}
