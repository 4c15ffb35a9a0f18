/* TLS to clients as server.tls says: what belongs together, and the server made of the files that it
 * names. */
#ifndef CONF_TLS_H
#define CONF_TLS_H

#include <stdbool.h>

#include "conf.h"
#include "conf_error.h"
#include "conf_yaml.h"

struct tls_server;

/* For conf_check(). */
void conf_tls_check(const struct conf_node *root, struct conf_errors *errors);

/* Do clients speak TLS? */
bool conf_has_tls(const struct conf *c);
/* Owned by the caller. NULL where clients speak plain HTTP, and, with *error set (owned by the caller),
 * when something is wrong. *error is NULL before. */
struct tls_server *conf_tls_server(const struct conf *c, char **error);
/* Says in the log who encrypts. */
void conf_tls_say(const struct conf *c);

#endif
