/* What registries ask for, remembered for a while: the realm and service of a repository's challenge.
 * Bounded: the oldest goes first. No credential is in it. */
#ifndef REALMS_H
#define REALMS_H

#include <stdbool.h>
#include <stdint.h>

enum { REALMS_MAX = 256, REALMS_TTL_MS = 5 * 60 * 1000, REALMS_OPEN_TTL_MS = 30 * 1000 };

enum realm_kind {
	REALM_OPEN,   /* nothing was asked for */
	REALM_BASIC,  /* user and password at the registry itself */
	REALM_BEARER, /* a token of `realm` */
};

struct realm_memory {
	enum realm_kind kind;
	const char *realm, *service; /* BEARER; service may be NULL */
};

struct realms; /* one a process */

/* Owned by the caller. */
struct realms *realms_new(void);
void realms_free(struct realms **rs);
/* Of this repository ("": the ping) of an upstream (scheme://host). False: nothing is known. *m points
 * into the memory: it is good until the next call. */
bool realms_find(struct realms *rs, const char *upstream, const char *repository, uint64_t now_ms,
    struct realm_memory *m) __attribute__((warn_unused_result));
/* Copies. */
void realms_keep(struct realms *rs, const char *upstream, const char *repository, uint64_t now_ms,
    const struct realm_memory *m);
void realms_forget(struct realms *rs, const char *upstream, const char *repository);

#endif
