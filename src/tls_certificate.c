/* Certificates and keys: reading them, whom they are for, and which one a client is shown. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tls_private.h"
#include "xalloc.h"

/* --- files ------------------------------------------------------------------------------------ */

char *
tls_unreadable(const char *what, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return xasprintf("%s %s: %s", what, path, strerror(errno));
	close(fd);
	return NULL;
}

/* A daemon has nobody to ask: an encrypted key is an error, not a prompt. */
static int
no_passphrase(char *to, int size, int writing, void *arg)
{
	bool *asked = arg;

	(void)to;
	(void)size;
	(void)writing;
	*asked = true;
	return -1;
}

static char *
load_certificate(SSL_CTX *ctx, const char *path)
{
	char *error = tls_unreadable("certificate", path);

	if (error == NULL && SSL_CTX_use_certificate_chain_file(ctx, path) != 1)
		error = xasprintf("certificate %s: %s", path, tls_reason());
	return error;
}

/* Why the key was not taken, where OpenSSL's own words would not help. Static text. */
static const char *
key_reason(bool asked)
{
	if (asked)
		return "it is encrypted, and nobody is there to give the passphrase";
	/* No decoder knew what this is. */
	if (ERR_GET_REASON(ERR_peek_error()) == ERR_R_UNSUPPORTED)
		return "it holds no private key in PEM";
	return tls_reason();
}

/* Who can read the key can be the cache. NULL, or what is wrong. */
static char *
open_to_others(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0 || (st.st_mode & (S_IROTH | S_IWOTH)) == 0)
		return NULL;
	return xasprintf("key %s: mode %04o opens it to everybody, expected 0640 or less", path,
	    (unsigned)(st.st_mode & 07777));
}

static char *
load_key(SSL_CTX *ctx, const char *path, const char *cert_path)
{
	char *error = tls_unreadable("key", path);
	bool asked = false;

	if (error == NULL)
		error = open_to_others(path);
	if (error != NULL)
		return error;
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	SSL_CTX_set_default_passwd_cb_userdata(ctx, &asked);
	if (SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM) != 1)
		error = xasprintf(
		    "key %s (for certificate %s): %s", path, cert_path, key_reason(asked));
	SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
	return error;
}

/* --- names ------------------------------------------------------------------------------------ */

/* A name with a NUL in it is somebody's trick. */
static void
add_name(struct tls_identity *id, const ASN1_STRING *text)
{
	size_t n = (size_t)ASN1_STRING_length(text);
	char *name = xstrndup((const char *)ASN1_STRING_get0_data(text), n);

	if (strlen(name) != n || n == 0) {
		free(name);
		return;
	}
	id->names = xrealloc(id->names, (id->nnames + 1) * sizeof(*id->names));
	id->names[id->nnames++] = name;
}

/* As clients do (RFC 6125 section 6.4): the DNS names in subjectAltName and nothing else. */
static void
read_names(struct tls_identity *id, X509 *cert)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == GEN_DNS)
			add_name(id, name->d.dNSName);
	}
	GENERAL_NAMES_free(names);
}

char *
tls_identity_load(struct tls_identity *id, const char *cert_path, const char *key_path)
{
	char *error;

	ERR_clear_error();
	error = load_certificate(id->ctx, cert_path);
	if (error == NULL)
		error = load_key(id->ctx, key_path, cert_path);
	if (error == NULL)
		read_names(id, SSL_CTX_get0_certificate(id->ctx));
	ERR_clear_error();
	return error;
}

void
tls_identity_free(struct tls_identity *id)
{
	SSL_CTX_free(id->ctx);
	for (size_t i = 0; i < id->nnames; i++)
		free(id->names[i]);
	free(id->names);
}

/* --- choosing --------------------------------------------------------------------------------- */

static const struct tls_identity *
identity_called(const struct tls_server *s, const char *name)
{
	for (size_t i = 0; i < s->n; i++)
		for (size_t k = 0; k < s->identities[i].nnames; k++)
			if (strcasecmp(s->identities[i].names[k], name) == 0)
				return &s->identities[i];
	return NULL;
}

/* A wildcard stands for one label, and is the whole of it. NULL: none is for this name. */
static const struct tls_identity *
identity_for(const struct tls_server *s, const char *name)
{
	const struct tls_identity *found = *name == '*' ? NULL : identity_called(s, name);
	const char *dot = strchr(name, '.');
	char wildcard[256];

	if (found != NULL || dot == NULL || dot == name || strlen(dot) >= sizeof(wildcard) - 1)
		return found;
	wildcard[0] = '*';
	strcpy(wildcard + 1, dot);
	return identity_called(s, wildcard);
}

/* A name that is unknown is no error: the client may be content with the default. */
static int
choose(SSL *ssl, int *alert, void *arg)
{
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	const struct tls_identity *id = name != NULL ? identity_for(arg, name) : NULL;

	(void)alert;
	if (id != NULL && SSL_set_SSL_CTX(ssl, id->ctx) == NULL)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	return SSL_TLSEXT_ERR_OK;
}

void
tls_choose_by_name(struct tls_server *s)
{
	SSL_CTX_set_tlsext_servername_callback(s->identities[0].ctx, choose);
	SSL_CTX_set_tlsext_servername_arg(s->identities[0].ctx, s);
}
