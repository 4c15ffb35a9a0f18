/* What a request says about its registry besides Host: ns, the path, X-Dragonfly-Registry (WIRE.md 1.1,
 * 1.2). For route*.c only. */
#ifndef ROUTE_CARRIER_H
#define ROUTE_CARRIER_H

#include "route.h"
#include "route_rules.h"

struct carriers;

/* `registries` is copied, what it points to is borrowed. Owned by the caller. */
struct carriers *carriers_new(const struct route_registry *registries, size_t n);
void carriers_free(struct carriers **cs);
/* From 1. */
const struct route_registry *carriers_get(const struct carriers *cs, unsigned number);
size_t carriers_count(const struct carriers *cs);
/* The number of the registry whose name or alias this is, as a component of a path; 0: none. */
unsigned carriers_component(const struct carriers *cs, const char *name, size_t n);
/* Can a path name any of them? */
bool carriers_in_path(const struct carriers *cs);

/* What was found. */
struct carried {
	enum route_carrier carrier;
	unsigned number; /* of the registry that was named; 0: Host's choice stands */
	const char *target; /* without what named the registry in the path; ns is in it still */
};

/* Reads them all and compares them with each other and with `choice`, which is what Host led to (NULL:
 * to nothing). Sets mount, prefix, ns, ns_name and trouble of *route. */
enum route_result carriers_read(const struct carriers *cs, const struct route_question *q,
    const struct route_choice *choice, struct arena *arena, struct route *route,
    struct carried *out) __attribute__((warn_unused_result));

#endif
