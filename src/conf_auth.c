/* Who may use the cache, and with whose credentials it asks registries. */
#include "conf_auth.h"

#include <stdlib.h>
#include <string.h>

#include "credential.h"
#include "conf_tls.h"
#include "log.h"
#include "tls.h"
#include "users.h"
#include "xalloc.h"

/* --- what belongs together -------------------------------------------------------------------- */

/* The word at `path`; "" when it is not given, or not a word. */
static const char *
word_at(const struct conf_node *root, const char *path, const struct conf_node **key)
{
	if (conf_node_find(root, path, key) != CONF_FOUND || (*key)->value->bad ||
	    (*key)->value->null || (*key)->value->kind != CONF_SCALAR)
		return "";
	return (*key)->value->text;
}

/* With this word at `path`, `other` must be given. */
static void
check_needs(const struct conf_node *root, const char *path, const char *word, const char *other,
    struct conf_errors *errors)
{
	const struct conf_node *key, *missing;

	if (strcmp(word_at(root, path, &key), word) == 0 &&
	    conf_node_find(root, other, &missing) == CONF_ABSENT)
		conf_error(errors, key->at, "%s: %s without %s, expected both", path, word, other);
}

/* Held credentials are for whoever may use the cache: that this is everybody is to be said. */
static void
check_credentials(const struct conf_node *root, struct conf_errors *errors)
{
	const struct conf_node *registries, *clients, *key;

	if (conf_node_find(root, "server.auth.clients", &clients) != CONF_ABSENT ||
	    conf_node_find(root, "server.registries", &registries) != CONF_FOUND ||
	    registries->value->kind != CONF_MAP)
		return;
	for (const struct conf_node *r = registries->value->first; r != NULL; r = r->next) {
		if (r->bad || r->value->bad || r->value->kind != CONF_MAP ||
		    conf_node_find(r->value, "credentials", &key) != CONF_FOUND)
			continue;
		conf_error(errors, key->at,
		    "server.registries.%.*s.credentials: whoever reaches the cache would read with them, "
		    "expected server.auth.clients: password or certificate, or anonymous if that is meant",
		    conf_shown(r->text), r->text);
	}
}

void
conf_auth_check(const struct conf_node *root, struct conf_errors *errors)
{
	static const char clients[] = "server.auth.clients", asked[] = "server.tls.clientAuth";
	const struct conf_node *key, *other;
	const char *word = word_at(root, asked, &other);

	check_needs(root, clients, "password", "server.auth.htpasswd", errors);
	check_needs(root, asked, "request", "server.tls.clientCaPath", errors);
	check_needs(root, asked, "require", "server.tls.clientCaPath", errors);
	if (conf_node_find(root, "server.tls.certificates", &other) == CONF_ABSENT) {
		check_needs(root, asked, "request", "server.tls.certPath", errors);
		check_needs(root, asked, "require", "server.tls.certPath", errors);
	}
	if (strcmp(word_at(root, clients, &key), "certificate") == 0 &&
	    strcmp(word, "request") != 0 && strcmp(word, "require") != 0)
		conf_error(errors, key->at,
		    "%s: certificate, but clients are not asked for one, expected %s: request or require",
		    clients, asked);
	check_credentials(root, errors);
}

/* --- files ------------------------------------------------------------------------------------ */

bool
conf_auth_tls(const struct conf *c, struct tls_server *tls, char **error)
{
	const char *asked = c->server.tls.client_auth;

	if (strcmp(asked, "none") == 0)
		return true;
	return tls_server_ask_clients(
	    tls, c->server.tls.client_ca_path, strcmp(asked, "require") == 0, error);
}

struct users *
conf_auth_users(const struct conf *c, char **error)
{
	const char *clients = c->server.auth.clients;
	struct users *users;
	char *why = NULL;

	if (clients == NULL || strcmp(clients, "password") != 0)
		return NULL;
	users = users_load(c->server.auth.htpasswd, &why);
	if (users == NULL)
		*error = xasprintf("server.auth.htpasswd: %s", why);
	free(why);
	return users;
}

void
conf_auth_forget(const struct conf *c, struct credential ***cs)
{
	for (size_t i = 0; *cs != NULL && i < c->server.nregistries; i++)
		credential_free(&(*cs)[i]);
	free(*cs);
	*cs = NULL;
}

struct credential **
conf_auth_credentials(const struct conf *c, char **error)
{
	struct credential **cs = xcalloc(c->server.nregistries + 1, sizeof(*cs));
	char *why = NULL;

	for (size_t i = 0; i < c->server.nregistries && why == NULL; i++) {
		const struct conf_registry *r = &c->server.registries[i];

		if (r->credentials == NULL)
			continue;
		cs[i] = credential_load(r->credentials, &why);
		if (why != NULL)
			*error = xasprintf("server.registries.%s.credentials: %s", r->name, why);
	}
	if (why != NULL)
		conf_auth_forget(c, &cs);
	free(why);
	return cs;
}

/* NULL, or what is wrong. */
static char *
find_bad_file(const struct conf *c)
{
	char *error = NULL;
	struct users *users = conf_auth_users(c, &error);
	struct credential **credentials = NULL;

	users_free(&users);
	if (error == NULL)
		credentials = conf_auth_credentials(c, &error);
	conf_auth_forget(c, &credentials);
	return error;
}

bool
conf_auth_is_valid(const struct conf *c, const char *file, FILE *errors)
{
	char *error = find_bad_file(c);
	bool valid = error == NULL;

	if (!valid)
		fprintf(errors, "%s: %s\n", file, error);
	free(error);
	return valid;
}

void
conf_auth_warn(const struct conf *c)
{
	const char *clients = c->server.auth.clients;

	if (clients != NULL && strcmp(clients, "password") == 0 && !conf_has_tls(c))
		log_warn("server.auth.clients: password without server.tls: passwords cross the network as they are");
}
