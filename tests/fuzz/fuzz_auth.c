/* Fuzz target: what registries, realms and clients say of authentication. Each line of the input is a challenge,
 * a realm's URL, an Authorization value and a target; all of it is a realm's answer. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "challenge.h"
#include "http_basic.h"
#include "registry.h"
#include "registry_token.h"

#define MUST(what) do { if (!(what)) abort(); } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A credential for registry.example never leaves that domain, nor TLS. */
static void
check_realm(const char *url, struct arena *arena)
{
	static const char domain[] = ".registry.example";
	struct realm r;
	size_t n, tail = sizeof(domain) - 1;

	if (url == NULL || !realm_parse(url, arena, &r))
		return;
	MUST(strcmp(r.scheme, "http") == 0 || strcmp(r.scheme, "https") == 0);
	n = strcspn(r.host, ":");
	MUST(*r.host != '\0' &&
	    r.host[strspn(r.host, "abcdefghijklmnopqrstuvwxyz0123456789-.:[]")] == '\0');
	MUST(r.target[0] == '/');
	for (const char *p = r.target; *p != '\0'; p++)
		MUST((unsigned char)*p > ' ' && (unsigned char)*p < 0x7f && *p != '#');
	if (!realm_allowed(&r, "https", "registry.example:5000", NULL))
		return;
	MUST(strcmp(r.scheme, "https") == 0);
	MUST((n == tail - 1 && strncmp(r.host, domain + 1, n) == 0) ||
	    (n > tail && strncmp(r.host + n - tail, domain, tail) == 0));
}

static void
check_basic(const char *line)
{
	struct http_basic a, b;
	char *again;

	if (!http_basic_read(line, &a))
		return;
	MUST(strchr(a.name, ':') == NULL);
	again = http_basic_write(a.name, a.password);
	MUST(http_basic_read(again, &b));
	MUST(strcmp(a.name, b.name) == 0 && strcmp(a.password, b.password) == 0);
	free(again);
}

static void
check_target(const char *target)
{
	size_t n = 0, path = strcspn(target, "?");
	const char *found = registry_repository(target, &n);

	if (found == NULL)
		return;
	MUST(found == target + 4 && n > 0 && 4 + n < path);
	MUST(memchr(found, '%', n) == NULL);
}

static void
check_line(const char *line, struct challenge *c, struct arena *arena)
{
	challenge_read(c, line, arena);
	MUST(!c->bearer || c->realm != NULL);
	check_realm(line, arena);
	check_realm(c->realm, arena);
	check_basic(line);
	check_target(line);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size), *rest = text, *line;
	struct challenge c = {0};
	struct arena arena;
	const char *token;
	uint64_t life_ms;

	MUST(text != NULL);
	arena_init(&arena, 1 << 20);
	token = realm_token(data, size, &arena, &life_ms);
	MUST(token == NULL || (*token != '\0' && strpbrk(token, " \r\n\",;") == NULL));
	MUST(life_ms >= TOKEN_LEAST_MS);
	while ((line = strsep(&rest, "\n")) != NULL)
		check_line(line, &c, &arena);
	arena_reset(&arena);
	free(text);
	return 0;
}
