/* Checks across options, on the tree: it knows what was given, and where. */
#include "conf_check.h"

#include "conf_host.h"
#include "conf_value.h"
#include "log.h"

/* One of `a` and `b` without the other. */
static void
check_pair(const struct conf_node *root, const char *a, const char *b, struct conf_errors *errors)
{
	const struct conf_node *key, *other;

	if (conf_node_find(root, a, &key) == CONF_FOUND &&
	    conf_node_find(root, b, &other) == CONF_ABSENT)
		conf_error(errors, key->at, "%s: given without %s, expected both or neither", a, b);
}

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

	if (conf_node_find(root, "server.defaultBackend.host", &at) != CONF_ABSENT)
		return;
	if (has_entries(root, "server.defaultBackend", CONF_MAP)) {
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

void
conf_check(const struct conf_node *root, struct conf_errors *errors)
{
	check_pair(root, "server.tls.certPath", "server.tls.keyPath", errors);
	check_pair(root, "server.tls.keyPath", "server.tls.certPath", errors);
	check_upstreams(root, errors);
}

void
conf_check_rule(const struct conf_rule *rule, const struct conf_node *item, const char *label,
    struct conf_errors *errors)
{
	const struct conf_node *host;
	char wrong[CONF_WRONG_SIZE];
	unsigned highest;
	int groups;

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
