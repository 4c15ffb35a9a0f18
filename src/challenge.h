/* WWW-Authenticate (RFC 9110 section 11.6.1): what a registry asks for, and where its tokens come
 * from. Text in, values out; no I/O. */
#ifndef CHALLENGE_H
#define CHALLENGE_H

#include <stdbool.h>
#include <stddef.h>

#include "arena.h"

/* What the lines of one answer offer. Strings live in the arena. */
struct challenge {
	bool basic;
	bool bearer; /* the parameters are those of the first such challenge that has a realm */
	const char *realm, *service, *scope, *error; /* NULL: not given */
};

/* Adds what one field's value says; *c is zeroed before the first. What cannot be read is left out. */
void challenge_read(struct challenge *c, const char *value, struct arena *arena);

/* A URL that tokens are asked of. Strings live in the arena. */
struct realm {
	const char *scheme, *host; /* lower case; host with its port, when it has one */
	const char *target;        /* path[?query] */
};

/* False: it is no absolute http or https URL, or has a user or a fragment in it. */
bool realm_parse(const char *url, struct arena *arena, struct realm *out)
    __attribute__((warn_unused_result));
/* May credentials for a registry go to this realm? It has to be at the registry's own host (any port),
 * in the same registrable domain by the public suffix list, or at `also` (host[:port]; NULL: none),
 * which the configuration names; and never less safe than the registry is spoken to. As
 * distribution's proxyauth.go, realmAllowed (WIRE.md 6.7). */
bool realm_allowed(const struct realm *r, const char *scheme, const char *host, const char *also);

#endif
