/* Warnings and quotas of a registry, kept to be relayed with an object. */
#include "notes.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http.h"
#include "upstream.h"
#include "xalloc.h"

enum { MAX_NOTES = 8 };

struct notes {
	size_t n;
	struct {
		char *name, *value;
	} field[MAX_NOTES];
};

/* Registries spell quotas in several ways: Docker Hub without "X-", others with it. */
bool
notes_wants(const char *name)
{
	static const char *const prefixes[] = {"ratelimit-", "x-ratelimit-", "docker-ratelimit-"};

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strncasecmp(name, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return http_name_is(name, "Warning") || http_name_is(name, "RateLimit");
}

static void
add(struct notes **np, const struct upstream_header *h)
{
	struct notes *n = *np;

	if (n == NULL)
		n = *np = xcalloc(1, sizeof(*n));
	if (n->n == MAX_NOTES)
		return;
	n->field[n->n].name = xstrdup(h->name);
	n->field[n->n].value = xstrdup(h->value);
	n->n++;
}

void
notes_take(struct notes **n, const struct upstream_answer *answer)
{
	notes_free(n);
	for (size_t i = 0; i < answer->nheaders; i++)
		if (notes_wants(answer->headers[i].name))
			add(n, &answer->headers[i]);
}

void
notes_write(const struct notes *n, struct buf *out)
{
	for (size_t i = 0; n != NULL && i < n->n; i++)
		http_field(out, n->field[i].name, n->field[i].value);
}

void
notes_free(struct notes **np)
{
	struct notes *n = *np;

	for (size_t i = 0; n != NULL && i < n->n; i++) {
		free(n->field[i].name);
		free(n->field[i].value);
	}
	free(n);
	*np = NULL;
}
