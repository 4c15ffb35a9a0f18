/* Tokens for clients that name registries by a prefix (WIRE.md 6.3): scopes in the client's words and in
 * the registry's, and tokens of the cache's own. Text in, text out; no I/O.
 *
 * A token of the cache's own is what a client is given where the registry has none: it says which
 * registry it is for and holds the client's Basic credential, or none, as it was sent. It is no secret of
 * the cache's, needs no memory, and is good at every node and after every restart. It is never sent to
 * a registry: that gets the credential in it.
 */
#ifndef TOKEN_H
#define TOKEN_H

#include <stdbool.h>
#include <stddef.h>

#include "arena.h"

struct route_table;

/* `basic` is a "Basic …" of Authorization, NULL for none. In the arena; NULL: it is no such value. */
const char *token_write(struct arena *arena, const char *registry, const char *basic);
/* False: this value of Authorization (NULL: none) is no token of ours. *registry is whom it is for,
 * *basic the credential in it or NULL, both in the arena. */
bool token_read(const char *authorization, struct arena *arena, const char **registry,
    const char **basic) __attribute__((warn_unused_result));
/* The answer to who asked for a token (distribution's "Token Authentication Specification"). */
const char *token_document(struct arena *arena, const char *token);

/* Whom a token is asked for, from a query or a form (application/x-www-form-urlencoded). */
struct token_question {
	bool names;     /* a repository is named … */
	unsigned number; /* … of this registry; 0: of the default backend */
	const char *repository; /* the first of them, by the registry's own name; NULL: none */
	const char *parameters; /* all but `service`, with scopes in the registry's words */
	const char *grant_type, *username, *password; /* of a form; NULL: not given */
	const char *trouble;    /* why it cannot be answered; NULL: it can */
};

void token_question_read(const struct route_table *t, const char *text, struct arena *arena,
    struct token_question *q);
/* `parameters` with a service, when there is one (may be NULL). */
const char *token_parameters(
    struct arena *arena, const struct token_question *q, const char *service);

/* Scopes of a registry's, joined by spaces, in the words of who puts `prefix` before its repositories;
 * NULL: they cannot be put into a quoted string. */
const char *token_client_scopes(struct arena *arena, const char *prefix, const char *scopes);

#endif
