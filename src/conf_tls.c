/* TLS to clients as server.tls says. */
#include "conf_tls.h"

#include <stdlib.h>

#include "conf_auth.h"
#include "log.h"
#include "tls.h"
#include "xalloc.h"

/* One of `a` and `b` without the other. */
static void
check_pair(const struct conf_node *root, const char *a, const char *b, struct conf_errors *errors)
{
	const struct conf_node *key, *other;

	if (conf_node_find(root, a, &key) == CONF_FOUND &&
	    conf_node_find(root, b, &other) == CONF_ABSENT)
		conf_error(errors, key->at, "%s: given without %s, expected both or neither", a, b);
}

void
conf_tls_check(const struct conf_node *root, struct conf_errors *errors)
{
	check_pair(root, "server.tls.certPath", "server.tls.keyPath", errors);
	check_pair(root, "server.tls.keyPath", "server.tls.certPath", errors);
}

bool
conf_has_tls(const struct conf *c)
{
	return c->server.tls.cert_path != NULL || c->server.tls.ncertificates > 0;
}

static bool
add_certificates(const struct conf *c, struct tls_server *server, char **error)
{
	if (c->server.tls.cert_path != NULL &&
	    !tls_server_add(server, c->server.tls.cert_path, c->server.tls.key_path, error))
		return false;
	for (size_t i = 0; i < c->server.tls.ncertificates; i++) {
		const struct conf_certificate *pair = &c->server.tls.certificates[i];

		if (!tls_server_add(server, pair->cert_path, pair->key_path, error))
			return false;
	}
	return true;
}

/* A key of tickets is the newest for one period, and is read for two more: a session made at its
 * end can be resumed for two periods. */
struct tls_server *
conf_tls_server(const struct conf *c, char **error)
{
	const struct tls_settings settings = {
	    .min_version = c->server.tls.min_version,
	    .ciphers = c->server.tls.ciphers,
	    .ciphersuites = c->server.tls.ciphersuites,
	    .groups = c->server.tls.groups,
	    .session_ms = 2 * c->server.tls.ticket_rotation,
	    .kernel = c->server.tls.kernel,
	};
	struct tls_server *server;
	char *why = NULL;

	if (!conf_has_tls(c))
		return NULL;
	server = tls_server_new(&settings, &why);
	if (server != NULL && add_certificates(c, server, &why) && conf_auth_tls(c, server, &why))
		return server;
	*error = xasprintf("server.tls: %s", why);
	free(why);
	tls_server_free(&server);
	return NULL;
}

void
conf_tls_say(const struct conf *c)
{
	const char *who = !c->server.tls.kernel ? "by this program (server.tls.kernel is false)"
	    : tls_kernel_can() ? "by the kernel, where it knows the cipher (kTLS)"
			       : "by this program (the kernel has no kTLS)";

	if (conf_has_tls(c))
		log_info("what is sent to clients is encrypted %s", who);
}
