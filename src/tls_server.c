/* What is true of all TLS connections: the contexts and their settings. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "digest.h"
#include "log.h"
#include "tls_private.h"
#include "xalloc.h"

const char *
tls_reason(void)
{
	unsigned long code = ERR_get_error();
	const char *reason =
	    ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);

	ERR_clear_error();
	return reason == NULL ? "unknown error" : reason;
}

/* --- settings -------------------------------------------------------------------------------- */

static int
choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen,
    const unsigned char *offered, unsigned int length, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";
	unsigned char *chosen;

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto(&chosen, outlen, ours, sizeof(ours) - 1, offered, length) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* Clients often close without close_notify; lengths tell what is complete, so that is an end like
 * any. */
static void
set_options(SSL_CTX *ctx, const struct tls_settings *set)
{
	SSL_CTX_set_options(ctx,
	    SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
		SSL_OP_PRIORITIZE_CHACHA | SSL_OP_IGNORE_UNEXPECTED_EOF |
		(set->kernel ? SSL_OP_ENABLE_KTLS : 0));
	SSL_CTX_set_mode(ctx,
	    SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* Tickets only: what one process remembers is of no use to the next. */
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	if (set->session_ms > 0)
		SSL_CTX_set_timeout(ctx, (long)((set->session_ms + 999) / 1000));
	SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, NULL);
}

/* NULL, or what is wrong: the setting and its text. Owned by the caller. */
static char *
set_algorithms(SSL_CTX *ctx, const struct tls_settings *set)
{
	bool only_new = set->min_version != NULL && strcmp(set->min_version, "1.3") == 0;

	if (SSL_CTX_set_min_proto_version(ctx, only_new ? TLS1_3_VERSION : TLS1_2_VERSION) != 1)
		panic("cannot set the version of TLS: %s", tls_reason());
	if (set->ciphers != NULL && SSL_CTX_set_cipher_list(ctx, set->ciphers) != 1)
		return xasprintf("ciphers %s: %s", set->ciphers, tls_reason());
	if (set->ciphersuites != NULL && SSL_CTX_set_ciphersuites(ctx, set->ciphersuites) != 1)
		return xasprintf("ciphersuites %s: %s", set->ciphersuites, tls_reason());
	if (set->groups != NULL && SSL_CTX_set1_groups_list(ctx, set->groups) != 1)
		return xasprintf("groups %s: %s", set->groups, tls_reason());
	return NULL;
}

/* A session is resumed only where what it began with is asked for again: OpenSSL resumes none of
 * another context than this. */
static void
set_session_context(SSL_CTX *ctx, const void *id, size_t n)
{
	if (SSL_CTX_set_session_id_context(ctx, id, (unsigned)n) != 1)
		panic("cannot set the context of sessions: %s", tls_reason());
}

/* NULL: *error says why. */
static SSL_CTX *
new_context(struct tls_server *s, char **error)
{
	static const char name[] = "registry-cache";
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (ctx == NULL)
		panic("cannot make a TLS context: %s", tls_reason());
	ERR_clear_error();
	*error = set_algorithms(ctx, &s->settings);
	if (*error != NULL) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	set_options(ctx, &s->settings);
	set_session_context(ctx, name, strlen(name));
	SSL_CTX_set_app_data(ctx, s);
	return ctx;
}

/* --- the server ------------------------------------------------------------------------------ */

static char *
copy(const char *text)
{
	return text != NULL ? xstrdup(text) : NULL;
}

struct tls_server *
tls_server_new(const struct tls_settings *settings, char **error)
{
	struct tls_server *s = xcalloc(1, sizeof(*s));
	SSL_CTX *trial;

	s->settings = (struct tls_settings){
	    .min_version = copy(settings->min_version),
	    .ciphers = copy(settings->ciphers),
	    .ciphersuites = copy(settings->ciphersuites),
	    .groups = copy(settings->groups),
	    .session_ms = settings->session_ms,
	    .kernel = settings->kernel,
	};
	trial = new_context(s, error);
	SSL_CTX_free(trial);
	if (trial == NULL)
		tls_server_free(&s);
	return s;
}

bool
tls_server_add(struct tls_server *s, const char *cert_path, const char *key_path, char **error)
{
	struct tls_identity id = {.ctx = new_context(s, error)};

	if (id.ctx == NULL)
		panic("settings of TLS that were right are wrong: %s", *error);
	*error = tls_identity_load(&id, cert_path, key_path);
	if (*error != NULL) {
		tls_identity_free(&id);
		return false;
	}
	s->identities = xrealloc(s->identities, (s->n + 1) * sizeof(*s->identities));
	s->identities[s->n++] = id;
	tls_choose_by_name(s);
	return true;
}

void
tls_server_share_tickets(struct tls_server *s, const struct shm *shm)
{
	s->shm = shm;
	for (size_t i = 0; i < s->n; i++)
		SSL_CTX_set_tlsext_ticket_key_evp_cb(s->identities[i].ctx, tls_ticket_key);
}

void
tls_server_free(struct tls_server **sp)
{
	struct tls_server *s = *sp;

	if (s == NULL)
		return;
	for (size_t i = 0; i < s->n; i++)
		tls_identity_free(&s->identities[i]);
	free(s->identities);
	free((char *)s->settings.min_version);
	free((char *)s->settings.ciphers);
	free((char *)s->settings.ciphersuites);
	free((char *)s->settings.groups);
	free(s);
	*sp = NULL;
}

/* --- clients' certificates ------------------------------------------------------------------- */

/* Of the authorities, byte by byte, and how they are asked for. False with errno. */
static bool
hash_asked(const char *ca_path, bool require, struct digest *d)
{
	FILE *f = fopen(ca_path, "re");
	struct hasher *h;
	char block[4096];
	size_t n;
	bool whole;

	if (f == NULL)
		return false;
	h = hasher_new(DIGEST_SHA256);
	hasher_update(h, require ? "require" : "request", strlen("require"));
	while ((n = fread(block, 1, sizeof(block), f)) > 0)
		hasher_update(h, block, n);
	whole = ferror(f) == 0;
	fclose(f);
	hasher_final(h, d);
	hasher_free(&h);
	return whole;
}

/* False: what is wrong is in OpenSSL's queue. */
static bool
ask_in(SSL_CTX *ctx, const char *ca_path, bool require)
{
	int mode = SSL_VERIFY_PEER | (require ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
	STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(ca_path);

	if (names == NULL || SSL_CTX_load_verify_file(ctx, ca_path) != 1) {
		sk_X509_NAME_pop_free(names, X509_NAME_free);
		return false;
	}
	SSL_CTX_set_client_CA_list(ctx, names);
	SSL_CTX_set_verify(ctx, mode, NULL);
	return true;
}

bool
tls_server_ask_clients(struct tls_server *s, const char *ca_path, bool require, char **error)
{
	struct digest asked;

	ERR_clear_error();
	*error = tls_unreadable("client CA", ca_path);
	if (*error == NULL && !hash_asked(ca_path, require, &asked))
		*error = xasprintf("client CA %s: %s", ca_path, strerror(errno));
	for (size_t i = 0; *error == NULL && i < s->n; i++) {
		if (ask_in(s->identities[i].ctx, ca_path, require))
			set_session_context(
			    s->identities[i].ctx, asked.bytes, asked.len);
		else
			*error = xasprintf("client CA %s: %s", ca_path, tls_reason());
	}
	return *error == NULL;
}

/* --- the kernel ------------------------------------------------------------------------------ */

/* An upper layer protocol is found, and its module loaded for root, before the kernel sees that this
 * socket is not connected. */
bool
tls_kernel_can(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	bool can = fd >= 0 && (SSL_OP_ENABLE_KTLS != 0) &&
	    setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) != 0 && errno == ENOTCONN;

	if (fd >= 0)
		close(fd);
	return can;
}

void
tls_server_watch(
    struct tls_server *s, void (*each)(void *arg, const struct tls_handshake *h), void *arg)
{
	s->watch = each;
	s->watch_arg = arg;
}
