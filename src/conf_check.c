/* Checks across options, on the tree: it knows what was given, and where. */
#include "conf_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf_auth.h"
#include "conf_host.h"
#include "conf_tls.h"
#include "conf_value.h"
#include "log.h"

/* Is there anything in this list or map? What is there but wrong counts: that was noted. */
static bool
has_entries(const struct conf_node *root, const char *path, enum conf_node_kind kind)
{
	const struct conf_node *key;
	enum conf_found found = conf_node_find(root, path, &key);

	if (found != CONF_FOUND)
		return found == CONF_BROKEN;
	if (key->value->null)
		return false;
	return key->value->bad || key->value->kind != kind || key->value->first != NULL;
}

static void
check_upstreams(const struct conf_node *root, struct conf_errors *errors)
{
	const struct conf_node *at;

	if (conf_node_find(root, "server.defaultBackend.host", &at) != CONF_ABSENT ||
	    conf_node_find(root, "server.defaultBackend.registry", &at) != CONF_ABSENT)
		return;
	if (has_entries(root, "server.defaultBackend", CONF_MAP)) {
		(void)conf_node_find(root, "server.defaultBackend", &at);
		conf_error(errors, at->at,
		    "server.defaultBackend.host: missing, expected the upstream's host");
		return;
	}
	if (has_entries(root, "server.upstreamRules", CONF_LIST) ||
	    has_entries(root, "server.registries", CONF_MAP))
		return;
	(void)conf_node_find(root, "server", &at);
	conf_error(errors, at->at,
	    "server: no upstream, expected defaultBackend.host, upstreamRules or registries");
}

/* --- backends that name a registry ------------------------------------------------------------ */

static bool
is_registry(const struct conf_node *root, const char *name)
{
	const struct conf_node *registries;

	if (conf_node_find(root, "server.registries", &registries) != CONF_FOUND)
		return false;
	for (const struct conf_node *k = registries->value->first; k != NULL; k = k->next)
		if (k->text != NULL && strcmp(k->text, name) == 0)
			return true;
	return false;
}

/* `label` is of what has the options of a backend, `backend`. */
static void
check_registry_of(const struct conf_node *root, const struct conf_node *backend, const char *label,
    struct conf_errors *errors)
{
	static const char *const others[] = {"host", "scheme", "trusted"};
	const struct conf_node *key, *other;

	if (conf_node_find(backend, "registry", &key) != CONF_FOUND || key->value->bad ||
	    key->value->kind != CONF_SCALAR || key->value->null)
		return;
	if (!is_registry(root, key->value->text))
		conf_error(errors, key->value->at,
		    "%sregistry: `%.*s` is not in server.registries, expected one that is", label,
		    conf_shown(key->value->text), key->value->text);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (conf_node_find(backend, others[i], &other) == CONF_FOUND)
			conf_error(errors, other->at,
			    "%s%s: given beside registry, expected in server.registries", label,
			    others[i]);
}

static void
check_registries_named(const struct conf_node *root, struct conf_errors *errors)
{
	const struct conf_node *at;
	char label[64];
	unsigned i = 0;

	if (conf_node_find(root, "server.defaultBackend", &at) == CONF_FOUND)
		check_registry_of(root, at->value, "server.defaultBackend.", errors);
	if (conf_node_find(root, "server.upstreamRules", &at) != CONF_FOUND ||
	    at->value->kind != CONF_LIST)
		return;
	for (const struct conf_node *item = at->value->first; item != NULL; item = item->next) {
		snprintf(label, sizeof(label), "server.upstreamRules[%u].", i++);
		check_registry_of(root, item, label, errors);
	}
}

void
conf_check(const struct conf_node *root, struct conf_errors *errors)
{
	conf_tls_check(root, errors);
	check_upstreams(root, errors);
	check_registries_named(root, errors);
	conf_auth_check(root, errors);
}

/* --- rules ------------------------------------------------------------------------------------ */

static void
check_rule_has_host(
    const struct conf_node *item, const char *label, struct conf_errors *errors)
{
	const struct conf_node *at;
	char *expected;

	if (conf_node_find(item, "registry", &at) != CONF_ABSENT ||
	    conf_node_find(item, "host", &at) != CONF_ABSENT)
		return;
	expected = conf_value_expected(conf_table_find(&conf_rule_table, "host"));
	conf_error(errors, at->at, "%shost: missing, expected %s", label, expected);
	free(expected);
}

void
conf_check_rule(const struct conf_rule *rule, const struct conf_node *item, const char *label,
    struct conf_errors *errors)
{
	const struct conf_node *host;
	char wrong[CONF_WRONG_SIZE];
	unsigned highest;
	int groups;

	check_rule_has_host(item, label, errors);
	if (rule->regex == NULL || rule->to.host == NULL ||
	    conf_node_find(item, "host", &host) != CONF_FOUND)
		return;
	groups = conf_regex_groups(rule->regex, wrong, sizeof(wrong));
	if (groups < 0)
		panic("a regex that was right %s", wrong);
	highest = conf_highest_group(rule->to.host);
	if (highest > (unsigned)groups)
		conf_error(errors, host->value->at,
		    "%shost: `$group%u`, but the regex captures %d group%s, expected "
		    "no higher number than that",
		    label, highest, groups, groups == 1 ? "" : "s");
}
