/* Fuzz target: routing. The first line is the Host, the rest the target; what is routed is safe
 * to ask upstream. */
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
		{"^(.+).dragonfly-local.c3.zone:7000$", "$group1.myregistry.com", "https", -1},
		{"^(a+)+$", "a.example:5000", "http", -1},
		{"^(?:x-)?(y)?raw-(.*)$", "$group1$group2", "https", -1},
		{NULL, "myregistry.com", "https", -1},
	};
	static struct route_table *t;
	size_t bad;
	char *error;

	if (t == NULL)
		t = route_table_new(rules, sizeof(rules) / sizeof(rules[0]), &bad, &error);
	MUST(t != NULL);
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

/* What was routed is routed again to the same. */
static void
check_again(const char *host, const struct route *r, bool reading)
{
	struct arena arena;
	struct route again;

	arena_init(&arena, 64 * 1024);
	MUST(route_request(table(), host, r->target, reading, &arena, &again) == ROUTE_OK);
	MUST(strcmp(again.target, r->target) == 0 && again.kind == r->kind &&
	    strcmp(again.upstream, r->upstream) == 0);
	arena_reset(&arena);
}

static void
route_both(const char *host, const char *target, bool reading)
{
	struct arena arena;
	struct route r;

	arena_init(&arena, 64 * 1024);
	if (route_request(table(), host, target, reading, &arena, &r) == ROUTE_OK) {
		check_target(r.target);
		check_host(&r);
		check_object(&r);
		check_again(host, &r, reading);
		MUST(reading || r.kind == ROUTE_PASS);
	}
	arena_reset(&arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *line = size > 0 ? memchr(data, '\n', size) : NULL;
	size_t n = line != NULL ? (size_t)(line - data) : size;
	char *host = strndup((const char *)data, n);
	char *target =
	    line != NULL ? strndup((const char *)line + 1, size - n - 1) : strdup("/v2/");

	MUST(host != NULL && target != NULL);
	route_both(host, target, true);
	route_both(host, target, false);
	route_captures_choose_domain(host);
	free(host);
	free(target);
	return 0;
}
