/* The memory of realms: a small array, searched from end to end. It is asked when a client wants a
 * token, which is once a pull. */
#include "realms.h"

#include <stdlib.h>
#include <string.h>

#include "xalloc.h"

enum { TEXT_MAX = 2048 }; /* bytes of a name or URL that is kept */

struct entry {
	char *key; /* NULL: free */
	uint64_t until_ms;
	enum realm_kind kind;
	char *realm, *service;
};

struct realms {
	struct entry entries[REALMS_MAX];
};

struct realms *
realms_new(void)
{
	return xcalloc(1, sizeof(struct realms));
}

static void
drop(struct entry *e)
{
	free(e->key);
	free(e->realm);
	free(e->service);
	*e = (struct entry){0};
}

void
realms_free(struct realms **rs)
{
	if (*rs == NULL)
		return;
	for (size_t i = 0; i < REALMS_MAX; i++)
		drop(&(*rs)->entries[i]);
	free(*rs);
	*rs = NULL;
}

/* Neither part has a space in it. */
static bool
is_of(const struct entry *e, const char *upstream, const char *repository)
{
	size_t n = strlen(upstream);

	return e->key != NULL && strncmp(e->key, upstream, n) == 0 && e->key[n] == ' ' &&
	    strcmp(e->key + n + 1, repository) == 0;
}

static struct entry *
find(struct realms *rs, const char *upstream, const char *repository)
{
	for (size_t i = 0; i < REALMS_MAX; i++)
		if (is_of(&rs->entries[i], upstream, repository))
			return &rs->entries[i];
	return NULL;
}

bool
realms_find(struct realms *rs, const char *upstream, const char *repository, uint64_t now_ms,
    struct realm_memory *m)
{
	struct entry *e = find(rs, upstream, repository);

	if (e == NULL || e->until_ms <= now_ms)
		return false;
	*m = (struct realm_memory){e->kind, e->realm, e->service};
	return true;
}

/* A free one, or the one that ends first. */
static struct entry *
place(struct realms *rs)
{
	struct entry *oldest = &rs->entries[0];

	for (size_t i = 0; i < REALMS_MAX; i++) {
		struct entry *e = &rs->entries[i];

		if (e->key == NULL)
			return e;
		if (e->until_ms < oldest->until_ms)
			oldest = e;
	}
	return oldest;
}

static bool
is_long(const char *text)
{
	return text != NULL && strlen(text) > TEXT_MAX;
}

void
realms_keep(struct realms *rs, const char *upstream, const char *repository, uint64_t now_ms,
    const struct realm_memory *m)
{
	struct entry *e = find(rs, upstream, repository), made;

	if (is_long(upstream) || is_long(repository) || is_long(m->realm) || is_long(m->service))
		return;
	made = (struct entry){
	    .key = xasprintf("%s %s", upstream, repository),
	    .until_ms = now_ms + (m->kind == REALM_OPEN ? REALMS_OPEN_TTL_MS : REALMS_TTL_MS),
	    .kind = m->kind,
	    .realm = m->realm != NULL ? xstrdup(m->realm) : NULL,
	    .service = m->service != NULL ? xstrdup(m->service) : NULL,
	};
	if (e == NULL)
		e = place(rs);
	drop(e);
	*e = made;
}

void
realms_forget(struct realms *rs, const char *upstream, const char *repository)
{
	struct entry *e = find(rs, upstream, repository);

	if (e != NULL)
		drop(e);
}
