/* Which upstream a Host leads to. The path is route.c's. */
#ifndef ROUTE_RULES_H
#define ROUTE_RULES_H

#include "route.h"

struct route_choice {
	const char *scheme; /* the rule's */
	const char *host;   /* in the arena */
	bool trusted;
	unsigned registry; /* the rule's */
	bool by_rule;      /* not the default */
};

struct carriers;

/* The registries that requests may name; NULL: none. */
const struct carriers *route_carriers_of(const struct route_table *t);
/* ROUTE_OK or ROUTE_NO_UPSTREAM: the default backend. */
enum route_result route_choose_default(const struct route_table *t, struct arena *arena,
    struct route_choice *out) __attribute__((warn_unused_result));

/* ROUTE_OK, ROUTE_NO_UPSTREAM or ROUTE_BAD_HOST. `host` as in route_request(). */
enum route_result route_choose(const struct route_table *t, const char *host, struct arena *arena,
    struct route_choice *out) __attribute__((warn_unused_result));

#endif
