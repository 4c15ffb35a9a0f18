/* Who may use the cache, and with whose credentials it asks registries: what belongs together in a
 * configuration, and what is read of the files that it names. */
#ifndef CONF_AUTH_H
#define CONF_AUTH_H

#include <stdbool.h>
#include <stdio.h>

#include "conf.h"
#include "conf_error.h"
#include "conf_yaml.h"

struct credential;
struct tls_server;
struct users;

/* For conf_check(). */
void conf_auth_check(const struct conf_node *root, struct conf_errors *errors);

/* Makes the server ask for certificates as server.tls says. False: *error, owned by the caller. */
bool conf_auth_tls(const struct conf *c, struct tls_server *tls, char **error)
    __attribute__((warn_unused_result));
/* The users of server.auth, owned by the caller; NULL where clients give no password, and, with *error
 * set (owned by the caller), when their file is wrong. *error is NULL before. */
struct users *conf_auth_users(const struct conf *c, char **error);
/* What the cache holds, one for each of server.registries (NULL: nothing). New, owned by the caller; NULL
 * with *error set (owned by the caller) when a file is wrong. */
struct credential **conf_auth_credentials(const struct conf *c, char **error);
/* *cs becomes NULL. */
void conf_auth_forget(const struct conf *c, struct credential ***cs);
/* Reads the files that hold secrets and says what is wrong with them. */
bool conf_auth_is_valid(const struct conf *c, const char *file, FILE *errors)
    __attribute__((warn_unused_result));

/* Says in the log what is allowed but unwise. */
void conf_auth_warn(const struct conf *c);

#endif
