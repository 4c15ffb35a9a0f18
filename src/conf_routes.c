/* The route table that a configuration describes. */
#include "conf_routes.h"

#include <stdlib.h>
#include <string.h>

#include "xalloc.h"

unsigned
conf_registry_number(const struct conf *c, const struct conf_backend *to)
{
	for (size_t i = 0; to->registry != NULL && i < c->server.nregistries; i++)
		if (strcmp(c->server.registries[i].name, to->registry) == 0)
			return (unsigned)i + 1;
	return 0;
}

/* A registry goes by its first host. */
static struct route_rule
rule_to(const struct conf *c, const char *regex, const struct conf_backend *to)
{
	unsigned number = conf_registry_number(c, to);
	const struct conf_registry *r = number > 0 ? &c->server.registries[number - 1] : NULL;

	return (struct route_rule){
	    .regex = regex,
	    .host = r != NULL ? r->hosts[0] : to->host,
	    .scheme = r != NULL ? r->scheme : to->scheme,
	    .trusted = r != NULL ? r->trusted : to->trusted,
	    .registry = number,
	};
}

const struct conf_registry *
conf_registry_called(const struct conf *c, const char *name)
{
	const char *plain = route_plain_name(name);

	for (size_t i = 0; i < c->server.nregistries; i++) {
		const struct conf_registry *r = &c->server.registries[i];

		if (strcmp(route_plain_name(r->name), plain) == 0)
			return r;
		for (size_t k = 0; k < r->naliases; k++)
			if (strcmp(route_plain_name(r->aliases[k]), plain) == 0)
				return r;
	}
	return NULL;
}

static void
set_registries(const struct conf *c, struct route_table *table)
{
	size_t n = c->server.nregistries;
	struct route_registry *registries = xcalloc(n, sizeof(*registries));

	for (size_t i = 0; i < n; i++) {
		const struct conf_registry *r = &c->server.registries[i];

		registries[i] = (struct route_registry){.name = r->name,
		    .aliases = (const char *const *)r->aliases,
		    .naliases = r->naliases,
		    .scheme = r->scheme,
		    .hosts = (const char *const *)r->hosts,
		    .nhosts = r->nhosts,
		    .trusted = r->trusted != 0,
		    .realm = r->realm,
		    .library = r->library};
	}
	route_table_set_registries(table, registries, n);
	free(registries);
}

struct route_table *
conf_routes(const struct conf *c, size_t *bad, char **error)
{
	size_t n = c->server.nrules;
	struct route_rule *rules = xcalloc(n + 1, sizeof(*rules));
	const struct conf_backend *rest = &c->server.default_backend;
	struct route_table *table;

	for (size_t i = 0; i < n; i++)
		rules[i] = rule_to(c, c->server.rules[i].regex, &c->server.rules[i].to);
	if (rest->host != NULL || rest->registry != NULL)
		rules[n++] = rule_to(c, NULL, rest);
	table = route_table_new(rules, n, bad, error);
	free(rules);
	if (table != NULL)
		set_registries(c, table);
	return table;
}
