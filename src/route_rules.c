/* Upstream rules: compiling them, matching a Host (PCRE2, within limits), making the upstream's
 * host from captures, and whether captures could choose whose host that is.
 */
#include "route_rules.h"

#include <stdlib.h>
#include <string.h>

#include <libpsl.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "log.h"
#include "route_carrier.h"
#include "route_grammar.h"
#include "xalloc.h"

/* A Host is short: whoever needs more than this to match it has written a rule that explodes. */
enum {
	MATCH_LIMIT = 20000,
	DEPTH_LIMIT = 5000,
	HEAP_LIMIT_KIB = 4096,
};

static const char capture_word[] = "$group";
enum { CAPTURE_LEN = sizeof(capture_word) - 1 + 1 }; /* with its digit */

struct compiled {
	const char *host, *scheme; /* the rule's */
	bool trusted;
	unsigned registry;
	pcre2_code *code;
	pcre2_match_data *match; /* written by each match: one table serves one thread */
};

struct route_table {
	struct compiled *rules; /* in order, without the default */
	size_t n;
	struct compiled fallback; /* the default; host NULL: none */
	pcre2_match_context *limits;
	struct carriers *carriers; /* NULL: none */
};

/* --- templates -------------------------------------------------------------------------------- */

/* The number of the capture at `p`, 1 to 9; 0: there is none. "$group10" is none: it would be
 * read in two ways. */
static unsigned
capture_at(const char *p)
{
	const char *digit = p + CAPTURE_LEN - 1;

	if (strncmp(p, capture_word, CAPTURE_LEN - 1) != 0 || *digit < '1' || *digit > '9' ||
	    (digit[1] >= '0' && digit[1] <= '9'))
		return 0;
	return (unsigned)(*digit - '0');
}

static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* What capture `number` caught of the last match's subject; nothing when it took no part in the
 * match. */
static size_t
captured(const struct compiled *r, unsigned number, const char *subject, const char **at)
{
	const PCRE2_SIZE *place = pcre2_get_ovector_pointer(r->match) + 2 * (size_t)number;

	if (place[0] == PCRE2_UNSET || place[1] < place[0])
		return 0;
	*at = subject + place[0];
	return place[1] - place[0];
}

/* Writes the rule's host, lower-cased, with captures of `subject` in their places. False: too
 * long. */
static bool
expand(const struct compiled *r, const char *subject, char out[ROUTE_HOST_MAX + 1])
{
	size_t used = 0, len;

	for (const char *p = r->host; *p != '\0';) {
		unsigned number = capture_at(p);
		const char *piece = p;

		len = number > 0 ? captured(r, number, subject, &piece) : 1;
		p += number > 0 ? CAPTURE_LEN : 1;
		if (len > ROUTE_HOST_MAX - used)
			return false;
		for (size_t i = 0; i < len; i++)
			out[used++] = lower(piece[i]);
	}
	out[used] = '\0';
	return true;
}

/* --- trust ------------------------------------------------------------------------------------ */

static const char *
after_last_capture(const char *host)
{
	const char *after = NULL;

	for (const char *p = host; *p != '\0'; p++)
		if (capture_at(p) > 0)
			after = p + CAPTURE_LEN;
	return after;
}

/* Is the last label a number? Then the whole may be an IPv4 address, which has no registrable
 * domain. */
static bool
ends_in_number(const char *domain)
{
	const char *label = strrchr(domain, '.');

	label = label == NULL ? domain : label + 1;
	return *label >= '0' && *label <= '9';
}

static bool
pins_domain(const char *suffix, size_t n)
{
	char domain[ROUTE_HOST_MAX + 1];
	const psl_ctx_t *list = psl_builtin();

	if (list == NULL || n < 2 || n > ROUTE_HOST_MAX || *suffix != '.')
		return false;
	for (size_t i = 1; i < n; i++)
		domain[i - 1] = lower(suffix[i]);
	domain[n - 1] = '\0';
	return route_is_host(domain, n - 1) && !ends_in_number(domain) &&
	    psl_registrable_domain(list, domain) != NULL;
}

bool
route_captures_choose_domain(const char *host)
{
	const char *suffix = after_last_capture(host);

	if (suffix == NULL)
		return false;
	if (memchr(host, ':', (size_t)(suffix - host)) != NULL)
		return true; /* the port, or something stranger, is captured */
	return !pins_domain(suffix, route_port_at(suffix, strlen(suffix)));
}

/* --- compiling -------------------------------------------------------------------------------- */

static char *
compile_regex(const char *regex, pcre2_code **code)
{
	PCRE2_UCHAR message[128];
	PCRE2_SIZE at;
	int e;

	*code = pcre2_compile(
	    (PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, PCRE2_DOLLAR_ENDONLY, &e, &at, NULL);
	if (*code == NULL) {
		pcre2_get_error_message(e, message, sizeof(message));
		return xasprintf("regex: %s, at offset %zu", (const char *)message, (size_t)at);
	}
	(void)pcre2_jit_compile(*code, PCRE2_JIT_COMPLETE); /* without it the interpreter matches */
	return NULL;
}

static bool
is_host_byte(char c)
{
	c = lower(c);
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= ':') || c == '-' || c == '.' ||
	    c == '[' || c == ']';
}

/* Finds what could never become a host, so that it is said at the start and not to each client. */
static char *
check_template(const char *host, unsigned captures)
{
	char text[ROUTE_HOST_MAX + 1];
	struct compiled r = {.host = host};
	bool literal = true;

	for (const char *p = host; *p != '\0'; p++) {
		unsigned number = capture_at(p);

		if (number > captures)
			return xasprintf("host \"%s\": $group%u, but the regex has %u groups", host,
			    number, captures);
		if (number == 0 && *p == '$')
			return xasprintf(
			    "host \"%s\": \"%s\" is not one of $group1 to $group9", host, p);
		if (number == 0 && !is_host_byte(*p))
			return xasprintf("host \"%s\" is not host or host:port", host);
		literal = literal && number == 0;
		p += number > 0 ? CAPTURE_LEN - 1 : 0;
	}
	if (literal && (!expand(&r, "", text) || !route_is_host(text, strlen(text))))
		return xasprintf("host \"%s\" is not host or host:port", host);
	return NULL;
}

static char *
compile_rule(const struct route_rule *rule, struct compiled *out)
{
	uint32_t captures = 0;
	char *error = NULL;

	if (rule->host == NULL || rule->scheme == NULL)
		return xstrdup("host and scheme are needed");
	if (strcmp(rule->scheme, "http") != 0 && strcmp(rule->scheme, "https") != 0)
		return xasprintf("scheme \"%s\" is neither http nor https", rule->scheme);
	if (rule->regex != NULL)
		error = compile_regex(rule->regex, &out->code);
	if (error != NULL)
		return error;
	if (out->code != NULL) {
		pcre2_pattern_info(out->code, PCRE2_INFO_CAPTURECOUNT, &captures);
		out->match = pcre2_match_data_create_from_pattern(out->code, NULL);
		if (out->match == NULL)
			panic("out of memory for a rule");
	}
	out->host = rule->host;
	out->scheme = rule->scheme;
	out->registry = rule->registry;
	out->trusted =
	    rule->trusted >= 0 ? rule->trusted > 0 : !route_captures_choose_domain(rule->host);
	return check_template(rule->host, captures);
}

static void
drop_rule(struct compiled *r)
{
	pcre2_match_data_free(r->match);
	pcre2_code_free(r->code);
}

static char *
add_rule(struct route_table *t, const struct route_rule *rule)
{
	if (rule->regex != NULL)
		return compile_rule(rule, &t->rules[t->n++]);
	if (t->fallback.host != NULL)
		return xstrdup("a second default");
	return compile_rule(rule, &t->fallback);
}

struct route_table *
route_table_new(const struct route_rule *rules, size_t n, size_t *bad, char **error)
{
	struct route_table *t = xcalloc(1, sizeof(*t));

	t->rules = xcalloc(n, sizeof(*t->rules));
	t->limits = pcre2_match_context_create(NULL);
	if (t->limits == NULL)
		panic("out of memory for rules");
	pcre2_set_match_limit(t->limits, MATCH_LIMIT);
	pcre2_set_depth_limit(t->limits, DEPTH_LIMIT);
	pcre2_set_heap_limit(t->limits, HEAP_LIMIT_KIB);
	*error = NULL;
	for (size_t i = 0; i < n && *error == NULL; i++) {
		*bad = i;
		*error = add_rule(t, &rules[i]);
	}
	if (*error != NULL)
		route_table_free(&t);
	return t;
}

void
route_table_free(struct route_table **t)
{
	if (*t == NULL)
		return;
	for (size_t i = 0; i < (*t)->n; i++)
		drop_rule(&(*t)->rules[i]);
	pcre2_match_context_free((*t)->limits);
	carriers_free(&(*t)->carriers);
	free((*t)->rules);
	free(*t);
	*t = NULL;
}

void
route_table_set_registries(
    struct route_table *t, const struct route_registry *registries, size_t n)
{
	carriers_free(&t->carriers);
	if (n > 0)
		t->carriers = carriers_new(registries, n);
}

const struct carriers *
route_carriers_of(const struct route_table *t)
{
	return t->carriers;
}

/* --- choosing --------------------------------------------------------------------------------- */

/* A match that hits a limit is none. */
static const struct compiled *
first_match(const struct route_table *t, const char *host, size_t len)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct compiled *r = &t->rules[i];

		if (pcre2_match(r->code, (PCRE2_SPTR)host, len, 0, 0, r->match, t->limits) >= 0)
			return r;
	}
	return t->fallback.host != NULL ? &t->fallback : NULL;
}

/* `r` NULL: there is none. */
static enum route_result
choose(const struct compiled *r, const char *host, struct arena *arena, struct route_choice *out)
{
	char text[ROUTE_HOST_MAX + 1];

	if (r == NULL)
		return ROUTE_NO_UPSTREAM;
	if (!expand(r, host, text) || !route_is_host(text, strlen(text)))
		return ROUTE_BAD_HOST;
	out->scheme = r->scheme;
	out->host = arena_strdup(arena, text);
	out->trusted = r->trusted;
	out->registry = r->registry;
	out->by_rule = r->code != NULL;
	return ROUTE_OK;
}

enum route_result
route_choose(
    const struct route_table *t, const char *host, struct arena *arena, struct route_choice *out)
{
	size_t len = strlen(host);

	if (len > ROUTE_HOST_MAX)
		return ROUTE_BAD_HOST;
	return choose(first_match(t, host, len), host, arena, out);
}

enum route_result
route_choose_default(
    const struct route_table *t, struct arena *arena, struct route_choice *out)
{
	return choose(t->fallback.host != NULL ? &t->fallback : NULL, "", arena, out);
}
