/* Walks the tree of a file and the table of options side by side. What options have to do with each
 * other is conf_check.c's. */
#include "conf_read.h"

#include <stdlib.h>
#include <string.h>

#include "conf_check.h"
#include "conf_host.h"
#include "conf_routes.h"
#include "conf_table.h"
#include "conf_value.h"
#include "registry.h"
#include "route.h"
#include "xalloc.h"

/* One walk: a table and the struct that it fills. */
struct walk {
	struct conf_errors *errors;
	struct arena *arena;
	const struct conf_table *table;
	void *base;
	const char *label; /* where the struct is in the file: "" or "server.upstreamRules[0]." */
};

static void read_section(const struct walk *w, const struct conf_node *map, const char *path);

/* --- unknown keys ---------------------------------------------------------------------------- */

enum { DISTANCE_MAX_LENGTH = 40 };

static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static unsigned
least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* How many letters must be put in, left out, changed or swapped with their neighbour to make `a` of
 * `b`; capitals count as small letters. */
static unsigned
edit_distance(const char *a, size_t alen, const char *b, size_t blen)
{
	unsigned rows[3][DISTANCE_MAX_LENGTH + 1];
	unsigned *before = rows[0], *last = rows[1], *row = rows[2];

	if (alen > DISTANCE_MAX_LENGTH || blen > DISTANCE_MAX_LENGTH)
		return DISTANCE_MAX_LENGTH;
	for (size_t j = 0; j <= blen; j++)
		before[j] = last[j] = (unsigned)j;
	for (size_t i = 1; i <= alen; i++) {
		unsigned *oldest = before;

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= blen; j++) {
			bool same = lower(a[i - 1]) == lower(b[j - 1]);

			row[j] = least(least(last[j], row[j - 1]) + 1, last[j - 1] + !same);
			if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
			    lower(a[i - 2]) == lower(b[j - 1]))
				row[j] = least(row[j], before[j - 2] + 1);
		}
		before = last;
		last = row;
		row = oldest;
	}
	return last[blen];
}

/* The name of this section that is most like `key`; NULL: none is near. */
static const char *
nearest(const struct walk *w, const char *section, const char *key)
{
	const char *best = NULL, *name;
	size_t i = 0, len;
	unsigned distance = strlen(key) < 5 ? 2 : 3; /* nearer than this */

	while ((name = conf_table_next_name(w->table, section, &i, &len)) != NULL) {
		unsigned d = edit_distance(key, strlen(key), name, len);

		if (d < distance) {
			distance = d;
			best = arena_strndup(w->arena, name, len);
		}
	}
	return best;
}

static void
note_unknown(const struct walk *w, const char *section, const struct conf_node *key)
{
	const char *near, *name, *names = "";
	size_t i = 0, len;

	if (conf_errors_count(w->errors) >= CONF_ERRORS_MAX) {
		conf_error(w->errors, key->at, "unknown key");
		return;
	}
	near = nearest(w, section, key->text);
	while ((name = conf_table_next_name(w->table, section, &i, &len)) != NULL)
		names = arena_printf(
		    w->arena, "%s%s%.*s", names, *names == '\0' ? "" : ", ", (int)len, name);
	conf_error(w->errors, key->at, "unknown key `%.*s`, expected one of %s%s%s%s",
	    conf_shown(key->text), key->text, names, near == NULL ? "" : " (did you mean `",
	    near == NULL ? "" : near, near == NULL ? "" : "`?)");
}

/* --- values ---------------------------------------------------------------------------------- */

static void *
field_of(const struct walk *w, const struct conf_option *o)
{
	return (char *)w->base + o->offset;
}

/* Notes that `n` is of the wrong kind, or nothing. */
static void
note_kind(const struct walk *w, const struct conf_option *o, const struct conf_node *n)
{
	char *expected = conf_value_expected(o);

	if (n->null)
		conf_error(w->errors, n->at, "%s%s: nothing is given, expected %s", w->label,
		    o->path, expected);
	else if (n->kind == CONF_SCALAR)
		conf_error(w->errors, n->at, "%s%s: a single value, expected %s", w->label, o->path,
		    expected);
	else
		conf_error(w->errors, n->at, "%s%s: a %s, expected %s", w->label, o->path,
		    conf_node_kind_name(n), expected);
	free(expected);
}

/* Of a list or map that may be left empty. False: there is nothing to read, and what is wrong was said. */
static bool
is_given(const struct walk *w, const struct conf_option *o, const struct conf_node *n,
    enum conf_node_kind kind)
{
	if (n->bad || n->null)
		return false;
	if (n->kind != kind)
		note_kind(w, o, n);
	return n->kind == kind;
}

static void
read_scalar(
    const struct walk *w, const struct conf_option *o, const struct conf_node *n, void *field)
{
	char wrong[CONF_WRONG_SIZE];
	char *expected;

	if (n->bad)
		return;
	if (n->kind != CONF_SCALAR || n->null) {
		note_kind(w, o, n);
		return;
	}
	if (conf_value_read(o, n->text, field, wrong))
		return;
	expected = conf_value_expected(o);
	conf_error(w->errors, n->at, "%s%s: `%.*s` %s, expected %s", w->label, o->path,
	    conf_shown(n->text), n->text, wrong, expected);
	free(expected);
}

/* Defaults, the map's values, and what is required but missing. */
static void
read_struct(const struct walk *w, const struct conf_node *map)
{
	for (size_t i = 0; i < w->table->n; i++) {
		const struct conf_option *o = &w->table->rows[i];

		if (conf_is_scalar(o))
			conf_value_default(o, field_of(w, o));
	}
	read_section(w, map, "");
	for (size_t i = 0; i < w->table->n; i++) {
		const struct conf_option *o = &w->table->rows[i];
		const struct conf_node *at;
		char *expected;

		if (!o->required || conf_node_find(map, o->path, &at) != CONF_ABSENT)
			continue;
		expected = conf_value_expected(o);
		conf_error(
		    w->errors, at->at, "%s%s: missing, expected %s", w->label, o->path, expected);
		free(expected);
	}
}

static size_t
count_children(const struct conf_node *n)
{
	size_t count = 0;

	for (const struct conf_node *c = n->first; c != NULL; c = c->next)
		count++;
	return count;
}

/* --- lists ----------------------------------------------------------------------------------- */

/* What the items of a list are; its path is the list's. */
static struct conf_option
row_of_items(const struct conf_option *o, enum conf_type type)
{
	return (struct conf_option){.path = o->path, .type = type};
}

/* With `one_alone` there must be something in it, and an item may stand by itself. */
static void
read_list(const struct walk *w, const struct conf_option *o, enum conf_type type, bool one_alone,
    const struct conf_node *n)
{
	struct conf_list *list = field_of(w, o);
	const struct conf_option row = row_of_items(o, type);

	if (n->bad)
		return;
	if (n->kind == CONF_SCALAR && one_alone) {
		list->items = xcalloc(1, sizeof(*list->items));
		read_scalar(w, &row, n, &list->items[list->n++]);
		return;
	}
	if (n->kind != CONF_LIST || n->null) {
		note_kind(w, o, n);
		return;
	}
	if (n->first == NULL && one_alone)
		conf_error(w->errors, n->at, "%s%s: an empty list, expected at least one",
		    w->label, o->path);
	list->items = xcalloc(count_children(n) + 1, sizeof(*list->items));
	for (const struct conf_node *item = n->first; item != NULL; item = item->next)
		read_scalar(w, &row, item, &list->items[list->n++]);
}

/* --- server.upstreamRules -------------------------------------------------------------------- */

static void
read_rule(const struct walk *w, const struct conf_node *item, struct conf_rule *rule, size_t number)
{
	const char *label = arena_printf(w->arena, "server.upstreamRules[%zu].", number);
	const struct walk inner = {w->errors, w->arena, &conf_rule_table, rule, label};
	const struct conf_node *regex;

	rule->line = item->at.line;
	rule->column = item->at.column;
	read_struct(&inner, item);
	if (conf_node_find(item, "regex", &regex) == CONF_FOUND) {
		rule->line = regex->value->at.line;
		rule->column = regex->value->at.column;
	}
	conf_check_rule(rule, item, label, w->errors);
}

static void
read_rules(const struct walk *w, const struct conf_option *o, const struct conf_node *n)
{
	struct conf *c = w->base;

	if (!is_given(w, o, n, CONF_LIST))
		return;
	c->server.rules = xcalloc(count_children(n), sizeof(*c->server.rules));
	for (const struct conf_node *item = n->first; item != NULL; item = item->next) {
		read_rule(w, item, &c->server.rules[c->server.nrules], c->server.nrules);
		c->server.nrules++;
	}
}

/* --- server.registries ----------------------------------------------------------------------- */

static void
read_hosts(const struct walk *w, const struct conf_option *o, const struct conf_node *n)
{
	static const struct conf_option row = {.path = "hosts", .type = CONF_HOST};
	struct conf_registry *r = w->base;

	if (n->bad)
		return;
	if (n->kind != CONF_LIST) {
		note_kind(w, o, n);
		return;
	}
	if (n->first == NULL)
		conf_error(w->errors, n->at, "%shosts: an empty list, expected at least one host",
		    w->label);
	if (count_children(n) > REGISTRY_MAX_HOSTS)
		conf_error(w->errors, n->at, "%shosts: %zu hosts, expected at most %d", w->label,
		    count_children(n), REGISTRY_MAX_HOSTS);
	r->hosts = xcalloc(count_children(n), sizeof(*r->hosts));
	for (const struct conf_node *item = n->first; item != NULL; item = item->next)
		read_scalar(w, &row, item, &r->hosts[r->nhosts++]);
}

/* A name is what `ns` and path prefixes say, and stands for the host when no other is given. */
static bool
check_registry_name(const struct walk *w, const struct conf_node *key)
{
	const char *wrong = conf_check_host(key->text);

	if (wrong == NULL && strpbrk(key->text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != NULL)
		wrong = "has capitals";
	if (wrong != NULL)
		conf_error(w->errors, key->at,
		    "server.registries: the name `%.*s` %s, expected a "
		    "name such as docker.io or registry.example:5000",
		    conf_shown(key->text), key->text, wrong);
	return wrong == NULL;
}

static void
read_names(const struct walk *w, const struct conf_option *o, const struct conf_node *n)
{
	struct conf_registry *r = w->base;

	if (!is_given(w, o, n, CONF_LIST))
		return;
	r->aliases = xcalloc(count_children(n), sizeof(*r->aliases));
	for (const struct conf_node *item = n->first; item != NULL; item = item->next)
		if (item->bad)
			continue;
		else if (item->kind != CONF_SCALAR || item->null)
			note_kind(w, o, item);
		else if (check_registry_name(w, item))
			r->aliases[r->naliases++] = xstrdup(item->text);
}

static void
read_registry(const struct walk *w, const struct conf_node *key, struct conf_registry *r)
{
	const char *label =
	    arena_printf(w->arena, "server.registries.%.*s.", conf_shown(key->text), key->text);
	const struct walk inner = {w->errors, w->arena, &conf_registry_table, r, label};

	r->name = xstrdup(key->text);
	(void)check_registry_name(w, key);
	read_struct(&inner, key->value);
	if (r->hosts == NULL) {
		bool hub = strcmp(route_plain_name(r->name), "docker.io") == 0;

		r->hosts = xcalloc(1, sizeof(*r->hosts));
		r->hosts[r->nhosts++] = xstrdup(hub ? "registry-1.docker.io" : r->name);
	}
}

/* Nothing may be the name of two: of those before it, and of itself. */
static void
check_names_taken(const struct walk *w, const struct conf_node *key, const struct conf *c)
{
	const struct conf_registry *r = &c->server.registries[c->server.nregistries - 1];

	for (size_t i = 0; i <= r->naliases; i++) {
		const char *name = i == 0 ? r->name : r->aliases[i - 1];
		const struct conf_registry *other = conf_registry_called(c, name);

		if (other != NULL && other != r)
			conf_error(w->errors, key->at,
			    "server.registries: `%.*s` is a name of `%.*s` too, expected names that "
			    "differ",
			    conf_shown(name), name, conf_shown(other->name), other->name);
	}
}

static void
read_registries(const struct walk *w, const struct conf_option *o, const struct conf_node *n)
{
	struct conf *c = w->base;

	if (!is_given(w, o, n, CONF_MAP))
		return;
	c->server.registries = xcalloc(count_children(n), sizeof(*c->server.registries));
	for (const struct conf_node *key = n->first; key != NULL; key = key->next)
		if (!key->bad) {
			read_registry(w, key, &c->server.registries[c->server.nregistries++]);
			check_names_taken(w, key, c);
		}
}

/* --- server.tls.certificates ------------------------------------------------------------------ */

static void
read_certificates(const struct walk *w, const struct conf_option *o, const struct conf_node *n)
{
	struct conf *c = w->base;

	if (!is_given(w, o, n, CONF_LIST))
		return;
	c->server.tls.certificates =
	    xcalloc(count_children(n), sizeof(*c->server.tls.certificates));
	for (const struct conf_node *item = n->first; item != NULL; item = item->next) {
		size_t number = c->server.tls.ncertificates++;
		const struct walk inner = {w->errors, w->arena, &conf_certificate_table,
		    &c->server.tls.certificates[number],
		    arena_printf(w->arena, "server.tls.certificates[%zu].", number)};

		read_struct(&inner, item);
	}
}

/* --- sections -------------------------------------------------------------------------------- */

static void
read_option(const struct walk *w, const struct conf_option *o, const struct conf_node *value)
{
	switch (o->type) {
	case CONF_RULES:
		read_rules(w, o, value);
		break;
	case CONF_REGISTRIES:
		read_registries(w, o, value);
		break;
	case CONF_SOCKETS:
		read_list(w, o, CONF_SOCKET, true, value);
		break;
	case CONF_NETWORKS:
		read_list(w, o, CONF_NETWORK, false, value);
		break;
	case CONF_CERTIFICATES:
		read_certificates(w, o, value);
		break;
	case CONF_HOSTS:
		read_hosts(w, o, value);
		break;
	case CONF_NAMES:
		read_names(w, o, value);
		break;
	default:
		read_scalar(w, o, value, field_of(w, o));
		break;
	}
}

/* `section` is the path of `map` in the table: "" or "gc.layers". */
static void
read_key(const struct walk *w, const struct conf_node *key, const char *section)
{
	const char *path =
	    *section == '\0' ? key->text : arena_printf(w->arena, "%s.%s", section, key->text);
	const struct conf_option *o = conf_table_find(w->table, path);

	/* "gc.disk" is no key: it is disk in gc */
	if (strchr(key->text, '.') != NULL || *key->text == '\0')
		note_unknown(w, section, key);
	else if (o != NULL)
		read_option(w, o, key->value);
	else if (conf_table_has_section(w->table, path))
		read_section(w, key->value, path);
	else
		note_unknown(w, section, key);
}

/* A section with nothing in it (all its lines are comments) is an empty one. */
static void
read_section(const struct walk *w, const struct conf_node *map, const char *section)
{
	size_t n = strlen(w->label);

	if (map->bad || map->null)
		return;
	if (map->kind == CONF_MAP) {
		for (const struct conf_node *key = map->first; key != NULL; key = key->next)
			if (!key->bad)
				read_key(w, key, section);
	} else if (*section == '\0' && n == 0) {
		conf_error(w->errors, map->at, "a %s, expected a map with dataPath and server",
		    conf_node_kind_name(map));
	} else {
		/* the label of a struct ends with a dot, which its own name does not have */
		conf_error(w->errors, map->at, "%.*s%s: a %s, expected a map",
		    (int)(*section == '\0' ? n - 1 : n), w->label, section,
		    conf_node_kind_name(map));
	}
}

void
conf_read(
    struct conf *c, const struct conf_node *root, struct arena *arena, struct conf_errors *errors)
{
	const struct walk w = {errors, arena, &conf_table, c, ""};

	if (root->null) {
		conf_error(errors, root->at, "the file is empty, expected dataPath and server");
		return;
	}
	read_struct(&w, root);
	conf_check(root, errors);
}
