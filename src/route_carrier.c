/* ns, path and X-Dragonfly-Registry: which registry they name, whether they agree, and the path without
 * them. Text in, verdict out.
 */
#include "route_carrier.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "piece.h"
#include "route_grammar.h"
#include "xalloc.h"

struct carriers {
	struct route_registry *registries;
	size_t n;
};

enum { IS_DEFAULT = INT_MAX }; /* in place of a number: the default backend, by its host */

/* One thing that names a registry. */
struct found {
	const char *what, *text; /* text NULL: it is not there */
	unsigned number;         /* 0: unknown */
};

struct reading {
	const struct carriers *cs;
	const struct route_question *q;
	const struct route_choice *choice;
	struct arena *arena;
	struct route *route;
	struct found ns, header, path;
};

/* --- names ------------------------------------------------------------------------------------ */

const char *
route_plain_name(const char *name)
{
	bool hub = strcmp(name, "index.docker.io") == 0 || strcmp(name, "registry-1.docker.io") == 0;

	return hub ? "docker.io" : name;
}

static bool
same_name(const char *a, const char *b)
{
	return strcmp(route_plain_name(a), route_plain_name(b)) == 0;
}

static bool
is_called(const struct route_registry *r, const char *name)
{
	for (size_t i = 0; i < r->naliases; i++)
		if (same_name(r->aliases[i], name))
			return true;
	return same_name(r->name, name);
}

static bool
is_at(const struct route_registry *r, const char *host)
{
	for (size_t i = 0; i < r->nhosts; i++)
		if (same_name(r->hosts[i], host))
			return true;
	return false;
}

struct carriers *
carriers_new(const struct route_registry *registries, size_t n)
{
	struct carriers *cs = xcalloc(1, sizeof(*cs));

	cs->registries = xcalloc(n, sizeof(*cs->registries));
	memcpy(cs->registries, registries, n * sizeof(*registries));
	cs->n = n;
	return cs;
}

void
carriers_free(struct carriers **cs)
{
	if (*cs == NULL)
		return;
	free((*cs)->registries);
	free(*cs);
	*cs = NULL;
}

const struct route_registry *
carriers_get(const struct carriers *cs, unsigned number)
{
	return &cs->registries[number - 1];
}

size_t
carriers_count(const struct carriers *cs)
{
	return cs->n;
}

/* Names come before hosts: two registries may have a host in common. */
static unsigned
find(const struct carriers *cs, const char *name, bool by_host)
{
	for (size_t i = 0; i < cs->n; i++)
		if (is_called(&cs->registries[i], name))
			return (unsigned)i + 1;
	for (size_t i = 0; by_host && i < cs->n; i++)
		if (is_at(&cs->registries[i], name))
			return (unsigned)i + 1;
	return 0;
}

unsigned
carriers_component(const struct carriers *cs, const char *name, size_t n)
{
	char text[ROUTE_HOST_MAX + 1];

	if (n == 0 || n > ROUTE_HOST_MAX || memchr(name, '/', n) != NULL || !route_is_name(name, n))
		return 0;
	memcpy(text, name, n);
	text[n] = '\0';
	return find(cs, text, false);
}

bool
carriers_in_path(const struct carriers *cs)
{
	for (size_t i = 0; i < cs->n; i++) {
		const struct route_registry *r = &cs->registries[i];

		if (carriers_component(cs, r->name, strlen(r->name)) > 0)
			return true;
		for (size_t k = 0; k < r->naliases; k++)
			if (carriers_component(cs, r->aliases[k], strlen(r->aliases[k])) > 0)
				return true;
	}
	return false;
}

/* --- ns and header ---------------------------------------------------------------------------- */

/* Lower-cased; "" when it is no host. */
static const char *
host_of(struct arena *arena, const char *text, size_t n)
{
	char *host = arena_strndup(arena, text, n < ROUTE_HOST_MAX + 1 ? n : ROUTE_HOST_MAX + 1);

	for (char *p = host; *p != '\0'; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p + ('a' - 'A'));
	return route_is_host(host, strlen(host)) ? host : "";
}

static unsigned
number_of(const struct reading *r, const char *name)
{
	unsigned number = *name == '\0' ? 0 : find(r->cs, name, true);
	bool has_default = r->choice != NULL && !r->choice->by_rule;

	if (number == 0 && has_default && *name != '\0' && same_name(r->choice->host, name))
		return IS_DEFAULT;
	return number;
}

/* False: there are two. */
static bool
read_ns(struct reading *r)
{
	const char *query = r->q->target + strcspn(r->q->target, "?");
	const char *rest = *query == '?' ? query + 1 : NULL;
	struct piece name, value;
	char text[ROUTE_HOST_MAX + 2];

	while (piece_parameter(&rest, &name, &value)) {
		if (!piece_decodes_to(name, "ns"))
			continue;
		if (r->ns.text != NULL)
			return false;
		if (!piece_decode(value, false, text, sizeof(text)))
			*text = '\0';
		r->ns = (struct found){"ns", host_of(r->arena, text, strlen(text)), 0};
		r->ns.number = number_of(r, r->ns.text);
		if (*r->ns.text != '\0')
			r->route->ns = arena_printf(r->arena, "ns=%.*s", (int)value.len, value.at);
	}
	return true;
}

static void
read_header(struct reading *r)
{
	const char *text = r->q->registry, *host = text;

	if (text == NULL)
		return;
	if (strncasecmp(text, "https://", 8) == 0)
		host += 8;
	else if (strncasecmp(text, "http://", 7) == 0)
		host += 7;
	host = host_of(r->arena, host, strcspn(host, "/?#"));
	r->header = (struct found){"X-Dragonfly-Registry", host, number_of(r, host)};
}

/* --- the path --------------------------------------------------------------------------------- */

/* The part before the last "/" of p, which is cut to that; false: there is no "/". */
static bool
cut(struct piece *p, struct piece *last)
{
	const char *slash = memrchr(p->at, '/', p->len);

	*last = slash != NULL
	    ? (struct piece){slash + 1, (size_t)(p->at + p->len - slash - 1)}
	    : *p;
	p->len = slash != NULL ? (size_t)(slash - p->at) : 0;
	return slash != NULL;
}

/* How much of "<repository>/manifests/<reference>" and its like is the repository; it may be nothing.
 * False: it is not of that form. `path` is what follows "/v2/". */
static bool
repository_in(struct piece path, size_t *n)
{
	struct piece last, word;

	if (!cut(&path, &last))
		return false;
	(void)cut(&path, &word);
	*n = path.len;
	if (piece_is(word, "manifests") || piece_is(word, "referrers") || piece_is(word, "blobs"))
		return true;
	if (piece_is(word, "tags"))
		return piece_is(last, "list");
	if (!piece_is(word, "uploads"))
		return false;
	(void)cut(&path, &word);
	*n = path.len;
	return piece_is(word, "blobs");
}

static struct piece
first_component(const char *p)
{
	return (struct piece){p, strcspn(p, "/?")};
}

/* What follows the mount: "/v2…", or NULL when there is none. */
static const char *
read_mount(struct reading *r)
{
	struct piece first = first_component(r->q->target + 1);
	const char *rest = first.at + first.len;
	unsigned number;

	if (strncmp(rest, "/v2", 3) != 0 || strchr("/?", rest[3]) == NULL)
		return NULL;
	number = carriers_component(r->cs, first.at, first.len);
	if (number == 0)
		return NULL;
	r->path = (struct found){"the path", arena_strndup(r->arena, first.at, first.len), number};
	r->route->mount = arena_printf(r->arena, "/%s", r->path.text);
	return rest;
}

/* What follows the prefix, "" when there is nothing but that; NULL: there is none. A repository of one
 * component is the default backend's, whatever its name. */
static const char *
read_prefix(struct reading *r)
{
	struct piece first, path;
	unsigned number;
	size_t n;

	if (strncmp(r->q->target, "/v2/", 4) != 0)
		return NULL;
	path = (struct piece){r->q->target + 4, strcspn(r->q->target + 4, "?")};
	first = first_component(path.at);
	number = carriers_component(r->cs, first.at, first.len);
	if (number == 0 || (repository_in(path, &n) && n == first.len))
		return NULL;
	r->path = (struct found){"the path", arena_strndup(r->arena, first.at, first.len), number};
	r->route->prefix = arena_printf(r->arena, "%s/", r->path.text);
	path.at += first.len;
	return *path.at == '/' ? path.at + 1 : path.at;
}

/* "library/" where the registry wants it and the path has a repository of one component. `rest` is
 * what follows "/v2/". */
static const char *
library_for(const struct route_registry *registry, const char *rest)
{
	struct piece path = {rest, strcspn(rest, "?")};
	size_t n;

	if (!registry->library || !repository_in(path, &n) || n == 0 || memchr(rest, '/', n) != NULL)
		return "";
	return "library/";
}

/* The parameter `from` of an upload (distribution-spec "Mounting a blob from another repository") has a
 * repository as its value, which loses the prefix too. */
static const char *
query_without(const struct reading *r, const char *query)
{
	const char *rest = query + 1, *prefix = r->route->prefix, *at;
	struct piece name, value;
	char text[ROUTE_NAME_MAX + ROUTE_HOST_MAX + 2];
	size_t n = strlen(prefix);

	if (*query == '\0' || n == 0)
		return query;
	while (piece_parameter(&rest, &name, &value)) {
		if (!piece_is(name, "from") || !piece_decode(value, false, text, sizeof(text)) ||
		    strncmp(text, prefix, n) != 0 || !route_is_name(text + n, strlen(text + n)))
			continue;
		at = value.at + value.len;
		return arena_printf(
		    r->arena, "%.*s%s%s", (int)(value.at - query), query, text + n, at);
	}
	return query;
}

/* `rest` is what follows "/v2/". */
static const char *
target_below(const struct reading *r, const struct route_registry *registry, const char *rest)
{
	const char *query = rest + strcspn(rest, "?");
	const char *library = registry != NULL ? library_for(registry, rest) : "";

	return arena_printf(r->arena, "/v2/%s%.*s%s", library, (int)(query - rest), rest,
	    query_without(r, query));
}

/* --- all together ----------------------------------------------------------------------------- */

static const char *
spoken(const struct reading *r, const struct found *f)
{
	if (f->number == IS_DEFAULT)
		return r->choice->host;
	return f->number > 0 ? carriers_get(r->cs, f->number)->name : "nothing that is configured";
}

static enum route_result
conflict(struct reading *r, const struct found *a, const struct found *b)
{
	r->route->trouble = arena_printf(r->arena, "%s names the registry %s, and %s names %s",
	    a->what, spoken(r, a), b->what, spoken(r, b));
	return ROUTE_CONFLICT;
}

/* A rule matched: what is named besides must not be another registry. */
static enum route_result
beside_rule(struct reading *r)
{
	const struct found *both[] = {&r->ns, &r->header};

	for (size_t i = 0; i < 2; i++) {
		const struct found *f = both[i];

		if (f->number == 0 || f->number == r->choice->registry ||
		    is_at(carriers_get(r->cs, f->number), r->choice->host))
			continue;
		r->route->trouble = arena_printf(r->arena,
		    "the host leads to %s by a rule, and %s names the registry %s",
		    r->choice->host, f->what, spoken(r, f));
		return ROUTE_CONFLICT;
	}
	if (r->ns.number > 0)
		r->route->ns_name = r->ns.text;
	return ROUTE_OK;
}

static enum route_result
compare(struct reading *r, const struct found **named)
{
	const struct found *all[] = {&r->ns, &r->header, &r->path};

	*named = NULL;
	for (size_t i = 0; i < 3; i++) {
		if (all[i]->text == NULL)
			continue;
		if (all[i]->number == 0) {
			r->route->trouble = arena_printf(r->arena,
			    "%s names no registry that is configured", all[i]->what);
			return ROUTE_UNKNOWN;
		}
		if (*named != NULL && (*named)->number != all[i]->number)
			return conflict(r, *named, all[i]);
		if (*named == NULL)
			*named = all[i];
	}
	return ROUTE_OK;
}

static enum route_carrier
carrier_of(const struct reading *r)
{
	if (r->ns.text != NULL)
		return ROUTE_BY_NS;
	if (r->header.text != NULL)
		return ROUTE_BY_HEADER;
	return *r->route->mount != '\0' ? ROUTE_BY_MOUNT : ROUTE_BY_PREFIX;
}

static enum route_result
by_name(struct reading *r, struct carried *out)
{
	const struct route_registry *registry = NULL;
	const char *rest = read_mount(r), *below = NULL;
	const struct found *named;
	enum route_result result;

	if (rest != NULL)
		below = rest[3] == '/' ? rest + 4 : rest + 3;
	else
		below = read_prefix(r);
	result = compare(r, &named);
	if (result != ROUTE_OK || named == NULL)
		return result;
	out->carrier = carrier_of(r);
	if (named->number != IS_DEFAULT) {
		out->number = named->number;
		registry = carriers_get(r->cs, named->number);
	}
	if (r->ns.text != NULL)
		r->route->ns_name = r->ns.text;
	if (below == NULL && strncmp(r->q->target, "/v2/", 4) == 0)
		below = r->q->target + 4;
	if (below != NULL)
		out->target = target_below(r, registry, below);
	return ROUTE_OK;
}

enum route_result
carriers_read(const struct carriers *cs, const struct route_question *q,
    const struct route_choice *choice, struct arena *arena, struct route *route,
    struct carried *out)
{
	struct reading r = {.cs = cs, .q = q, .choice = choice, .arena = arena, .route = route};
	bool by_rule = choice != NULL && choice->by_rule;

	*out = (struct carried){by_rule ? ROUTE_BY_RULE : ROUTE_BY_DEFAULT, 0, q->target};
	if (!read_ns(&r)) {
		route->trouble = "the parameter ns is there more than once";
		return ROUTE_CONFLICT;
	}
	read_header(&r);
	return by_rule ? beside_rule(&r) : by_name(&r, out);
}
