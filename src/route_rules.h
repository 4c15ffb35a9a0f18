/* Which upstream a Host leads to. The path is route.c's. */
#ifndef ROUTE_RULES_H
#define ROUTE_RULES_H

#include "route.h"

struct route_choice {
	const char *scheme; /* the rule's */
	const char *host;   /* in the arena */
	bool trusted;
};

/* ROUTE_OK, ROUTE_NO_UPSTREAM or ROUTE_BAD_HOST. `host` as in route_request(). */
enum route_result route_choose(const struct route_table *t, const char *host, struct arena *arena,
    struct route_choice *out) __attribute__((warn_unused_result));

#endif
