/* Fuzz target: routing. The first line is the Host, the second the target, the third, if there is one,
 * X-Dragonfly-Registry; what is routed is safe to ask upstream. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "route.h"

#define MUST(what) do { if (!(what)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct route_table *
table(void)
{
	static const struct route_rule rules[] = {
		{"^(.+).dragonfly-local.c3.zone:7000$", "$group1.myregistry.com", "https", -1, 0},
		{"^(a+)+$", "a.example:5000", "http", -1, 0},
		{"^(?:x-)?(y)?raw-(.*)$", "$group1$group2", "https", -1, 0},
		{NULL, "myregistry.com", "https", -1, 0},
	};
	static const char *const hub[] = {"registry-1.docker.io"}, *const quay[] = {"quay.io"},
			  *const corp[] = {"a.corp.example:5000", "b.corp.example"},
			  *const aliases[] = {"corp", "c"};
	static const struct route_registry registries[] = {
		{"docker.io", NULL, 0, "https", hub, 1, true, NULL, true},
		{"quay.io", NULL, 0, "https", quay, 1, true, NULL, false},
		{"corp.example:5000", aliases, 2, "http", corp, 2, false, NULL, false},
	};
	static struct route_table *t;
	size_t bad;
	char *error;

	if (t != NULL)
		return t;
	t = route_table_new(rules, sizeof(rules) / sizeof(rules[0]), &bad, &error);
	MUST(t != NULL);
	route_table_set_registries(t, registries, sizeof(registries) / sizeof(registries[0]));
	return t;
}

/* Is this parameter's name, decoded, "ns"? Written apart from the code under test. */
static bool
is_ns(const char *p)
{
	for (const char *wanted = "ns"; *wanted != '\0'; wanted++) {
		char escape[4];

		snprintf(escape, sizeof(escape), "%%%02x", *wanted);
		if (*p == *wanted)
			p++;
		else if (strncasecmp(p, escape, 3) == 0)
			p += 3;
		else
			return false;
	}
	return *p == '\0' || *p == '=' || *p == '&';
}

static void
check_target(const char *target)
{
	const char *p;

	MUST(target[0] == '/');
	for (p = target; *p != '\0'; p++)
		MUST((unsigned char)*p > ' ' && (unsigned char)*p < 0x7f);
	for (p = strchr(target, '?'); p != NULL; p = strchr(p + 1, '&'))
		MUST(!is_ns(p + 1));
	p = strstr(target, "/../");
	MUST(p == NULL || (strchr(target, '?') != NULL && strchr(target, '?') < p));
}

static void
check_host(const struct route *r)
{
	size_t scheme = strlen(r->scheme);

	MUST(strcmp(r->scheme, "http") == 0 || strcmp(r->scheme, "https") == 0);
	MUST(r->host[0] != '\0' &&
	    r->host[strspn(r->host, "abcdefghijklmnopqrstuvwxyz0123456789-.:[]")] == '\0');
	MUST(strncmp(r->upstream, r->scheme, scheme) == 0 &&
	    strncmp(r->upstream + scheme, "://", 3) == 0);
	MUST(strcmp(r->upstream + scheme + 3, r->host) == 0);
}

static void
check_object(const struct route *r)
{
	bool object = r->kind == ROUTE_MANIFEST || r->kind == ROUTE_BLOB;
	char wanted[1024], text[DIGEST_STR_SIZE];
	size_t path = strcspn(r->target, "?");
	bool named = object || r->kind == ROUTE_REFERRERS; /* what has a repository and a reference */

	MUST(named == (r->repository[0] != '\0') && named == (r->reference[0] != '\0'));
	MUST(object || !r->has_digest);
	MUST(r->kind != ROUTE_BLOB || r->has_digest);
	MUST(!object || r->has_digest == (strchr(r->reference, ':') != NULL));
	if (r->has_digest)
		MUST(strcmp(digest_str(&r->digest, text), r->reference) == 0);
	if (!named)
		return;
	snprintf(wanted, sizeof(wanted), "/v2/%s/%s/%s", r->repository,
	    r->kind == ROUTE_BLOB          ? "blobs"
		: r->kind == ROUTE_MANIFEST ? "manifests"
					    : "referrers",
	    r->reference);
	MUST(strlen(wanted) == path && memcmp(wanted, r->target, path) == 0);
}

/* The client's way to say what was routed, made of the route's parts. */
static void
client_target(const struct route *r, char *out, size_t size)
{
	bool api = strncmp(r->target, "/v2/", 4) == 0;

	MUST(api || (*r->mount == '\0' && *r->prefix == '\0'));
	snprintf(out, size, "%s%s%s%s%s%s", r->mount, api ? "/v2/" : "", r->prefix,
	    r->target + (api ? 4 : 0),
	    *r->ns == '\0' ? "" : strchr(r->target, '?') != NULL ? "&" : "?", r->ns);
}

/* What was routed is routed again to the same. */
static void
check_again(const struct route_question *q, const struct route *r)
{
	struct arena arena;
	struct route again;
	struct route_question second = *q;
	char target[20000];

	if (strstr(r->target, "from=") != NULL)
		return; /* it loses a prefix each time */
	client_target(r, target, sizeof(target));
	second.target = target;
	arena_init(&arena, 64 * 1024);
	MUST(route_request(table(), &second, &arena, &again) == ROUTE_OK);
	MUST(strcmp(again.target, r->target) == 0 && again.kind == r->kind &&
	    strcmp(again.upstream, r->upstream) == 0);
	arena_reset(&arena);
}

/* The upstream is one that is configured: nothing that was sent is connected to, but where a rule's
 * capture says so. */
static void
check_configured(const struct route *r)
{
	const struct route_registry *registry = route_registry(table(), r->registry);

	if (r->carrier == ROUTE_BY_RULE)
		return;
	MUST(registry != NULL ? strcmp(r->host, registry->hosts[0]) == 0
			      : strcmp(r->host, "myregistry.com") == 0);
}

static void
route_one(const char *host, const char *target, const char *header, bool reading)
{
	struct route_question q = {host, target, header, reading};
	struct arena arena;
	struct route r;

	arena_init(&arena, 64 * 1024);
	if (route_request(table(), &q, &arena, &r) == ROUTE_OK &&
	    r.kind != ROUTE_OWN_PING && r.kind != ROUTE_TOKEN) {
		check_target(r.target);
		check_host(&r);
		check_configured(&r);
		check_object(&r);
		check_again(&q, &r);
		MUST(reading || r.kind == ROUTE_PASS);
	}
	arena_reset(&arena);
}

static void
take_apart(char *text)
{
	char *target = strchr(text, '\n'), *header = NULL;

	if (target != NULL)
		*target++ = '\0';
	if (target != NULL && (header = strchr(target, '\n')) != NULL)
		*header++ = '\0';
	for (int reading = 0; reading < 2; reading++)
		route_one(text, target != NULL ? target : "/v2/", header, reading);
	route_captures_choose_domain(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size);

	MUST(text != NULL);
	take_apart(text);
	free(text);
	return 0;
}
