/* WWW-Authenticate, and which realms are trusted. */
#include "challenge.h"

#include <string.h>
#include <strings.h>

#include <libpsl.h>

#include "route_grammar.h"

/* --- reading ---------------------------------------------------------------------------------- */

/* token of RFC 9110 section 5.6.2. */
static size_t
token_length(const char *p)
{
	return strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
			 "!#$%&'*+-.^_`|~");
}

static const char *
skip(const char *p, const char *what)
{
	return p + strspn(p, what);
}

/* A quoted string without its quotes and escapes; *p is behind it then. */
static const char *
read_quoted(const char **p, struct arena *arena)
{
	char *out = arena_strdup(arena, *p + 1), *to = out;
	const char *from = *p + 1;

	if (arena_failed(arena))
		return NULL;
	for (; *from != '\0' && *from != '"'; from++) {
		if (*from == '\\' && from[1] != '\0')
			from++;
		*to++ = *from;
	}
	*to = '\0';
	*p = *from == '"' ? from + 1 : from;
	return out;
}

/* Some registries leave the quotes out where they are needed. */
static const char *
read_value(const char **p, struct arena *arena)
{
	const char *at = *p;
	size_t n = strcspn(at, " \t,\"");

	if (*at == '"')
		return read_quoted(p, arena);
	*p = at + n;
	return arena_strndup(arena, at, n);
}

/* One "name = value" of an auth-param; false, and *p as it was: there is none. */
static bool
read_parameter(const char **p, struct arena *arena, struct challenge *c)
{
	const char *name = skip(*p, " \t,"), *after;
	const char **to = NULL, *value;
	size_t n = token_length(name);

	after = skip(name + n, " \t");
	if (n == 0 || *after != '=')
		return false;
	after = skip(after + 1, " \t");
	value = read_value(&after, arena);
	if (n == 5 && strncasecmp(name, "realm", n) == 0)
		to = &c->realm;
	else if (n == 7 && strncasecmp(name, "service", n) == 0)
		to = &c->service;
	else if (n == 5 && strncasecmp(name, "scope", n) == 0)
		to = &c->scope;
	else if (n == 5 && strncasecmp(name, "error", n) == 0)
		to = &c->error;
	if (to != NULL && *to == NULL)
		*to = value;
	*p = after;
	return true;
}

static void
add(struct challenge *c, const char *scheme, size_t n, struct challenge *one)
{
	if (n == 5 && strncasecmp(scheme, "basic", n) == 0)
		c->basic = true;
	if (n != 6 || strncasecmp(scheme, "bearer", n) != 0 || one->realm == NULL || c->bearer)
		return;
	one->basic = c->basic;
	one->bearer = true;
	*c = *one;
}

void
challenge_read(struct challenge *c, const char *value, struct arena *arena)
{
	const char *p = value;

	for (;;) {
		struct challenge one = {0};
		const char *scheme = skip(p, " \t,");
		size_t n = token_length(scheme);

		if (n == 0)
			return;
		p = scheme + n;
		while (read_parameter(&p, arena, &one))
			;
		if (!arena_failed(arena))
			add(c, scheme, n, &one);
	}
}

/* --- realms ----------------------------------------------------------------------------------- */

bool
realm_parse(const char *url, struct arena *arena, struct realm *out)
{
	char *host;
	size_t n;

	if (strncasecmp(url, "https://", 8) == 0)
		out->scheme = "https";
	else if (strncasecmp(url, "http://", 7) == 0)
		out->scheme = "http";
	else
		return false;
	url += strlen(out->scheme) + 3;
	if (!route_is_printable(url) || strchr(url, '#') != NULL)
		return false;
	n = strcspn(url, "/?");
	host = arena_strndup(arena, url, n);
	for (char *p = host; *p != '\0'; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p + ('a' - 'A'));
	out->host = host;
	out->target = arena_printf(arena, "%s%s", url[n] == '/' ? "" : "/", url + n);
	return route_is_host(host, strlen(host)) && !arena_failed(arena);
}

/* A name, not an address: its last label is no number, and it is in no brackets. */
static bool
is_name(const char *host)
{
	const char *label = strrchr(host, '.');

	label = label == NULL ? host : label + 1;
	return *host != '[' && (*label < '0' || *label > '9');
}

static void
without_port(const char *host, char out[ROUTE_HOST_MAX + 1])
{
	size_t n = route_port_at(host, strlen(host));

	if (n > ROUTE_HOST_MAX)
		n = 0;
	memcpy(out, host, n);
	out[n] = '\0';
}

static bool
same_domain(const char *a, const char *b)
{
	const psl_ctx_t *list = psl_builtin();
	const char *x, *y;

	if (list == NULL || !is_name(a) || !is_name(b))
		return false;
	x = psl_registrable_domain(list, a);
	y = psl_registrable_domain(list, b);
	return x != NULL && y != NULL && strcmp(x, y) == 0;
}

bool
realm_allowed(const struct realm *r, const char *scheme, const char *host, const char *also)
{
	char ours[ROUTE_HOST_MAX + 1], theirs[ROUTE_HOST_MAX + 1];

	if (strcmp(scheme, "https") == 0 && strcmp(r->scheme, "https") != 0)
		return false;
	without_port(host, ours);
	without_port(r->host, theirs);
	if (*theirs == '\0')
		return false;
	if (also != NULL && (strcmp(r->host, also) == 0 || strcmp(theirs, also) == 0))
		return true;
	return strcmp(ours, theirs) == 0 || same_domain(ours, theirs);
}
