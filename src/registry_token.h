/* Tokens (distribution's docs/spec/auth/token.md; RFC 6749 section 6 for refresh tokens): asked of a realm
 * by GET with Basic, or by POST where there is a refresh token or the realm knows nothing else. One
 * listener asks for all; the others, and all calls of a listener, wait for what it finds. For
 * registry*.c only.
 *
 * A credential goes to the realm itself and never along a redirect of its. */
#ifndef REGISTRY_TOKEN_H
#define REGISTRY_TOKEN_H

#include "challenge.h"
#include "secret.h"
#include "upstream.h"

struct event_base;
struct shm;
struct token_wait;
struct tokens; /* one a process */

enum {
	TOKEN_LEAST_MS = 60000,   /* no token is thought to live for less: as distribution's client has it */
	TOKEN_REFUSED_MS = 10000, /* a realm that has said no is not asked again; one that has said for how long (429),
	                           * for that long */
};

/* Everything is borrowed. */
struct tokens *tokens_new(
    struct event_base *base, struct shm *shm, unsigned listener, struct secret *secret);
/* Every wait must have ended. */
void tokens_free(struct tokens **ts);

/* What is asked for, and by whom. Borrowed. */
struct token_want {
	struct upstream *upstream; /* that talks to the realm */
	const char *registry;      /* scheme://host, or a name of its own */
	struct realm realm;        /* allowed: realm_allowed() */
	const char *service, *scope; /* NULL: none */
	const char *user;            /* NULL: nobody */
	const char *basic;           /* Authorization for the realm; NULL: none */
	const char *refresh;         /* a refresh token instead; NULL: none */
};

enum token_outcome {
	TOKEN_GOT,
	TOKEN_REFUSED, /* by the realm */
	TOKEN_FAILED,  /* no answer, or none that makes sense */
};

/* Valid during the callback. */
struct token_answer {
	enum token_outcome outcome;
	const char *token;           /* GOT */
	enum upstream_result result; /* FAILED … */
	const char *detail;          /* … and why */
};
typedef void token_fn(void *arg, const struct token_answer *a);

/* True: it is known, and *token is its copy in `arena`. False: `told` is called from the loop, at `deadline_ms`
 * (clock_ms; 0: none) at the latest, unless *wait is cancelled before. */
bool tokens_ask(struct tokens *ts, const struct token_want *w, uint64_t deadline_ms, struct arena *arena,
    const char **token, token_fn *told, void *arg, struct token_wait **wait)
    __attribute__((warn_unused_result));
/* *w becomes NULL; nothing happens when it is NULL. */
void tokens_cancel(struct token_wait **w);
/* The registry did not take this token. */
void tokens_drop(struct tokens *ts, const struct token_want *w, const char *token);

/* Of an answer's body, in `arena`: "token", else "access_token". *life_ms is "expires_in", or what holds
 * where it is not said. NULL: there is none. For tests, too. */
const char *realm_token(
    const void *body, size_t n, struct arena *arena, uint64_t *life_ms);

#endif
