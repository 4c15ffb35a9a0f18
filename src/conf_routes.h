/* The route table that a configuration describes. */
#ifndef CONF_ROUTES_H
#define CONF_ROUTES_H

#include <stddef.h>

#include "conf.h"
#include "route.h"

/* The number of the registry that this backend names, from 1; 0: it names none. */
unsigned conf_registry_number(const struct conf *c, const struct conf_backend *to);
/* The first registry that has this name or alias; NULL: none. */
const struct conf_registry *conf_registry_called(const struct conf *c, const char *name);
/* As route_table_new(): *bad counts the rules, and is their number for the default backend. `c` must
 * outlive the table. */
struct route_table *conf_routes(const struct conf *c, size_t *bad, char **error);

#endif
