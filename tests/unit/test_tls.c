/* Server side TLS, over a socketpair with an OpenSSL client in the same process. Both ends are
 * non-blocking and take turns, so nothing here waits for anybody. Certificates are made on the
 * spot. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "log.h"
#include "suites.h"
#include "tls.h"
#include "xalloc.h"

enum { TURNS = 100000 }; /* a conversation that takes longer has gone wrong */

/* --- certificates ---------------------------------------------------------------------------- */

static char *folder;

static char *
in_folder(const char *name)
{
	return xasprintf("%s/%s", folder, name);
}

/* CUnit has no assertions outside of a test. */
static void
need(bool held)
{
	if (!held)
		panic("cannot make the certificates of the tests");
}

static void
write_key(const char *name, EVP_PKEY *key, const char *passphrase)
{
	char *path = in_folder(name);
	FILE *f = fopen(path, "w");

	need(f != NULL);
	need(PEM_write_PKCS8PrivateKey(f, key, passphrase != NULL ? EVP_aes_128_cbc() : NULL, NULL,
		 0, NULL, (void *)(uintptr_t)passphrase) == 1);
	need(fchmod(fileno(f), 0600) == 0 && fclose(f) == 0);
	free(path);
}

static void
write_certificate(const char *name, EVP_PKEY *key)
{
	char *path = in_folder(name);
	FILE *f = fopen(path, "w");
	X509 *x = X509_new();
	X509_NAME *subject = X509_get_subject_name(x);

	need(f != NULL);
	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_set_pubkey(x, key);
	X509_NAME_add_entry_by_txt(
	    subject, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0);
	X509_set_issuer_name(x, subject);
	need(X509_sign(x, key, EVP_sha256()) > 0);
	need(PEM_write_X509(f, x) == 1);
	need(fclose(f) == 0);
	X509_free(x);
	free(path);
}

static void
write_text(const char *name, const char *text)
{
	char *path = in_folder(name);
	FILE *f = fopen(path, "w");

	need(f != NULL);
	fputs(text, f);
	need(fchmod(fileno(f), 0600) == 0 && fclose(f) == 0);
	free(path);
}

static const char *const files[] = {
    "cert.pem", "key.pem", "other-key.pem", "locked-key.pem", "text.pem"};

static int
make_folder(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256"), *other = EVP_EC_gen("P-256");

	signal(SIGPIPE, SIG_IGN); /* as the daemon does */
	folder = xstrdup("/tmp/tls-test-XXXXXX");
	if (mkdtemp(folder) == NULL)
		return 1;
	write_certificate("cert.pem", key);
	write_key("key.pem", key, NULL);
	write_key("other-key.pem", other, NULL);
	write_key("locked-key.pem", key, "secret");
	write_text("text.pem", "this is no PEM\n");
	EVP_PKEY_free(key);
	EVP_PKEY_free(other);
	return 0;
}

static int
remove_folder(void)
{
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		char *path = in_folder(files[i]);

		unlink(path);
		free(path);
	}
	rmdir(folder);
	free(folder);
	return 0;
}

static struct tls_server *
server_of(const char *cert, const char *key, char **error)
{
	char *cert_path = in_folder(cert), *key_path = in_folder(key);
	const struct tls_settings settings = {.kernel = true};
	struct tls_server *s = tls_server_new(&settings, error);

	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	if (!tls_server_add(s, cert_path, key_path, error))
		tls_server_free(&s);
	free(cert_path);
	free(key_path);
	return s;
}

/* --- a pair: our server and a client --------------------------------------------------------- */

struct pair {
	struct tls_server *server;
	struct tls *tls;
	SSL_CTX *ctx;
	SSL *client;
	int fds[2]; /* ours, the client's */
};

static void
pair_open(struct pair *p, int version)
{
	char *error = NULL;

	memset(p, 0, sizeof(*p));
	p->server = server_of("cert.pem", "key.pem", &error);
	CU_ASSERT_PTR_NOT_NULL_FATAL(p->server);
	CU_ASSERT_PTR_NULL(error);
	CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p->fds), 0);
	p->tls = tls_accept(p->server, p->fds[0]);
	p->ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_min_proto_version(p->ctx, version);
	SSL_CTX_set_max_proto_version(p->ctx, version);
	p->client = SSL_new(p->ctx);
	SSL_set_fd(p->client, p->fds[1]);
	SSL_set_connect_state(p->client);
}

static void
pair_close(struct pair *p)
{
	tls_free(&p->tls);
	CU_ASSERT_PTR_NULL(p->tls);
	tls_server_free(&p->server);
	CU_ASSERT_PTR_NULL(p->server);
	SSL_free(p->client);
	SSL_CTX_free(p->ctx);
	if (p->fds[0] >= 0)
		close(p->fds[0]);
	if (p->fds[1] >= 0)
		close(p->fds[1]);
	ERR_clear_error();
}

/* Takes turns until the client's handshake is over and `text` has arrived at our end; what the last
 * read said. */
static ssize_t
meet(struct pair *p, const char *text, char *got, size_t size)
{
	bool sent = false;
	ssize_t n = TLS_WANT_READ;

	for (int turn = 0; turn < TURNS && (n == TLS_WANT_READ || n == TLS_WANT_WRITE); turn++) {
		ERR_clear_error();
		if (!sent)
			sent = SSL_write(p->client, text, (int)strlen(text)) > 0;
		n = tls_read(p->tls, got, size);
	}
	return n;
}

static void
meet_well(struct pair *p)
{
	char got[16];
	ssize_t n = meet(p, "hello", got, sizeof(got));

	CU_ASSERT_EQUAL_FATAL(n, 5);
	CU_ASSERT_EQUAL(memcmp(got, "hello", 5), 0);
}

/* --- tests ----------------------------------------------------------------------------------- */

static void
talks_both_ways(int version, const char *name)
{
	struct pair p;
	char got[16];

	pair_open(&p, version);
	meet_well(&p);
	CU_ASSERT_STRING_EQUAL(SSL_get_version(p.client), name);
	CU_ASSERT_EQUAL(tls_write(p.tls, "answer", 6), 6);
	CU_ASSERT_EQUAL(SSL_read(p.client, got, sizeof(got)), 6);
	CU_ASSERT_EQUAL(memcmp(got, "answer", 6), 0);
	CU_ASSERT_EQUAL(tls_read(p.tls, got, sizeof(got)), TLS_WANT_READ);
	CU_ASSERT_EQUAL(tls_write(p.tls, "", 0), 0);
	pair_close(&p);
}

static void
handshake_and_bytes_with_tls_1_2(void)
{
	talks_both_ways(TLS1_2_VERSION, "TLSv1.2");
}

static void
handshake_and_bytes_with_tls_1_3(void)
{
	talks_both_ways(TLS1_3_VERSION, "TLSv1.3");
}

static void
refuses_tls_1_1(void)
{
	struct pair p;
	char got[16];

	pair_open(&p, TLS1_1_VERSION);
	SSL_CTX_set_security_level(p.ctx, 0);
	SSL_set_security_level(p.client, 0); /* or the client itself would not try */
	CU_ASSERT_EQUAL(meet(&p, "hello", got, sizeof(got)), TLS_BROKEN);
	pair_close(&p);
}

static void
chooses_http_1_1_beside_h2(void)
{
	static const unsigned char offer[] = "\x02h2\x08http/1.1";
	const unsigned char *chosen;
	unsigned length;
	struct pair p;

	pair_open(&p, TLS1_3_VERSION);
	CU_ASSERT_EQUAL(SSL_set_alpn_protos(p.client, offer, sizeof(offer) - 1), 0);
	meet_well(&p);
	SSL_get0_alpn_selected(p.client, &chosen, &length);
	CU_ASSERT_EQUAL_FATAL(length, 8);
	CU_ASSERT_EQUAL(memcmp(chosen, "http/1.1", 8), 0);
	pair_close(&p);
}

static void
refuses_a_client_that_speaks_h2_only(void)
{
	static const unsigned char offer[] = "\x02h2";
	struct pair p;
	char got[16];

	pair_open(&p, TLS1_3_VERSION);
	CU_ASSERT_EQUAL(SSL_set_alpn_protos(p.client, offer, sizeof(offer) - 1), 0);
	CU_ASSERT_EQUAL(meet(&p, "hello", got, sizeof(got)), TLS_BROKEN);
	pair_close(&p);
}

static unsigned char
byte_at(size_t i)
{
	return (unsigned char)(i * 2654435761u >> 24);
}

/* Reads what is there; every byte must be the one that belongs there. */
static size_t
client_takes(struct pair *p, size_t at)
{
	unsigned char block[5000];
	int n;

	while ((n = SSL_read(p->client, block, sizeof(block))) > 0)
		for (int i = 0; i < n; i++, at++)
			CU_ASSERT_EQUAL_FATAL(block[i], byte_at(at));
	ERR_clear_error();
	return at;
}

/* Each try is from another address, as from a buffer that has moved. */
static ssize_t
write_moved(struct pair *p, const unsigned char *from, size_t n, int turn)
{
	unsigned char *copy = xmalloc(n + 64);
	ssize_t put;

	memcpy(copy + turn % 64, from, n);
	put = tls_write(p->tls, copy + turn % 64, n);
	free(copy);
	return put;
}

static void
writes_in_parts_to_a_slow_client(void)
{
	enum { TOTAL = 2 << 20, BLOCK = 64 << 10 };
	unsigned char *data = xmalloc(TOTAL);
	size_t sent = 0, taken = 0;
	unsigned waits = 0, parts = 0;
	struct pair p;

	for (size_t i = 0; i < TOTAL; i++)
		data[i] = byte_at(i);
	pair_open(&p, TLS1_3_VERSION);
	meet_well(&p);
	for (int turn = 0; turn < TURNS && taken < TOTAL; turn++) {
		size_t n = TOTAL - sent < BLOCK ? TOTAL - sent : BLOCK;
		ssize_t put = n == 0 ? 0 : write_moved(&p, data + sent, n, turn);

		if (put == TLS_WANT_WRITE)
			waits++;
		else
			CU_ASSERT_FATAL(put >= 0);
		parts += put > 0 && (size_t)put < n;
		sent += put > 0 ? (size_t)put : 0;
		if (put == TLS_WANT_WRITE || n == 0)
			taken = client_takes(&p, taken);
	}
	CU_ASSERT_EQUAL(taken, TOTAL);
	CU_ASSERT(waits > 0);
	CU_ASSERT(parts > 0);
	pair_close(&p);
	free(data);
}

static void
tells_of_bytes_that_no_event_announces(void)
{
	struct pair p;
	char got[100];

	pair_open(&p, TLS1_3_VERSION);
	meet_well(&p);
	CU_ASSERT_FALSE(tls_pending(p.tls));
	CU_ASSERT_EQUAL(SSL_write(p.client, "0123456789", 10), 10);
	CU_ASSERT_EQUAL(tls_read(p.tls, got, 4), 4);
	CU_ASSERT_TRUE(tls_pending(p.tls));
	CU_ASSERT_EQUAL(tls_read(p.tls, got, sizeof(got)), 6);
	CU_ASSERT_EQUAL(memcmp(got, "456789", 6), 0);
	CU_ASSERT_FALSE(tls_pending(p.tls));
	pair_close(&p);
}

static void
reads_the_end_after_close_notify(void)
{
	struct pair p;
	char got[16];

	pair_open(&p, TLS1_3_VERSION);
	meet_well(&p);
	CU_ASSERT_EQUAL(SSL_write(p.client, "last", 4), 4);
	CU_ASSERT_EQUAL(SSL_shutdown(p.client), 0);
	CU_ASSERT_EQUAL(tls_read(p.tls, got, sizeof(got)), 4);
	CU_ASSERT_EQUAL(tls_read(p.tls, got, sizeof(got)), 0);
	CU_ASSERT_EQUAL(tls_write(p.tls, "still", 5), 5); /* the client may close its half only */
	CU_ASSERT_EQUAL(SSL_read(p.client, got, sizeof(got)), 5);
	pair_close(&p);
}

static void
reads_the_end_when_the_client_just_goes(void)
{
	struct pair p;
	char got[16];

	pair_open(&p, TLS1_3_VERSION);
	meet_well(&p);
	/* What the client leaves unread would make its close a reset. */
	CU_ASSERT_EQUAL(SSL_read(p.client, got, sizeof(got)), -1);
	close(p.fds[1]);
	p.fds[1] = -1;
	CU_ASSERT_EQUAL(tls_read(p.tls, got, sizeof(got)), 0);
	pair_close(&p);
}

static void
sends_close_notify(void)
{
	struct pair p;
	char got[16];
	int n;

	pair_open(&p, TLS1_2_VERSION);
	meet_well(&p);
	tls_free(&p.tls);
	n = SSL_read(p.client, got, sizeof(got));
	CU_ASSERT_EQUAL(SSL_get_error(p.client, n), SSL_ERROR_ZERO_RETURN);
	pair_close(&p);
}

static void
garbage_breaks_a_connection_for_good(void)
{
	static const char garbage[] = "GET / HTTP/1.1\r\nHost: plain.example\r\n\r\n";
	struct pair p;
	char got[16];

	pair_open(&p, TLS1_3_VERSION);
	CU_ASSERT_EQUAL(
	    write(p.fds[1], garbage, sizeof(garbage) - 1), (ssize_t)sizeof(garbage) - 1);
	CU_ASSERT_EQUAL(tls_read(p.tls, got, sizeof(got)), TLS_BROKEN);
	CU_ASSERT_EQUAL(tls_read(p.tls, got, sizeof(got)), TLS_BROKEN);
	CU_ASSERT_EQUAL(tls_write(p.tls, "x", 1), TLS_BROKEN);
	pair_close(&p);
}

static void
garbage_after_the_handshake_breaks_it_too(void)
{
	static const unsigned char record[] = {0x17, 3, 3, 0, 4, 'j', 'u', 'n', 'k'};
	struct pair p;
	char got[16];

	pair_open(&p, TLS1_2_VERSION);
	meet_well(&p);
	CU_ASSERT_EQUAL(write(p.fds[1], record, sizeof(record)), (ssize_t)sizeof(record));
	CU_ASSERT_EQUAL(tls_read(p.tls, got, sizeof(got)), TLS_BROKEN);
	pair_close(&p);
}

static void
a_client_that_goes_in_the_handshake_is_no_harm(void)
{
	struct pair p;
	char got[16];
	ssize_t n;

	pair_open(&p, TLS1_3_VERSION);
	SSL_connect(p.client);
	ERR_clear_error();
	close(p.fds[1]);
	p.fds[1] = -1;
	n = tls_read(p.tls, got, sizeof(got));
	CU_ASSERT(n == 0 || n == TLS_BROKEN);
	pair_close(&p);
}

static void
writing_to_a_client_that_is_gone_is_broken(void)
{
	struct pair p;

	pair_open(&p, TLS1_3_VERSION);
	meet_well(&p);
	close(p.fds[1]);
	p.fds[1] = -1;
	CU_ASSERT_EQUAL(tls_write(p.tls, "x", 1), TLS_BROKEN);
	pair_close(&p);
}

/* Ticket keys are in the context that all listeners inherit. */
static void
a_session_is_resumed_on_another_connection(void)
{
	struct pair p;
	SSL_SESSION *session;
	char got[16];

	pair_open(&p, TLS1_3_VERSION);
	meet_well(&p);
	CU_ASSERT_FALSE(SSL_session_reused(p.client));
	CU_ASSERT_EQUAL(SSL_read(p.client, got, sizeof(got)), -1); /* takes in the tickets */
	session = SSL_get1_session(p.client);
	SSL_shutdown(p.client);
	SSL_free(p.client);
	tls_free(&p.tls);
	close(p.fds[0]);
	close(p.fds[1]);
	CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p.fds), 0);
	p.tls = tls_accept(p.server, p.fds[0]);
	p.client = SSL_new(p.ctx);
	SSL_set_fd(p.client, p.fds[1]);
	SSL_set_connect_state(p.client);
	SSL_set_session(p.client, session);
	meet_well(&p);
	CU_ASSERT_TRUE(SSL_session_reused(p.client));
	SSL_SESSION_free(session);
	pair_close(&p);
}

/* The message must name the file, and say why. */
static void
fails(const char *cert, const char *key, const char *file, const char *why)
{
	char *error = NULL;
	struct tls_server *s = server_of(cert, key, &error);

	CU_ASSERT_PTR_NULL(s);
	CU_ASSERT_PTR_NOT_NULL_FATAL(error);
	CU_ASSERT_PTR_NOT_NULL(strstr(error, file));
	if (strstr(error, why) == NULL)
		fprintf(stderr, "\"%s\" is not in \"%s\"\n", why, error);
	CU_ASSERT_PTR_NOT_NULL(strstr(error, why));
	free(error);
	tls_server_free(&s);
}

static void
says_what_is_wrong_with_which_file(void)
{
	fails("none.pem", "key.pem", "/none.pem", strerror(ENOENT));
	fails("cert.pem", "none.pem", "/none.pem", strerror(ENOENT));
	fails("text.pem", "key.pem", "/text.pem", "no start line");
	fails("cert.pem", "text.pem", "/text.pem", "it holds no private key");
	fails("cert.pem", "other-key.pem", "/other-key.pem", "key values mismatch");
	fails("key.pem", "key.pem", "/key.pem", "no start line");
}

static void
an_encrypted_key_is_an_error_and_no_prompt(void)
{
	fails("cert.pem", "locked-key.pem", "/locked-key.pem", "passphrase");
}

static void
add(CU_pSuite s, const char *name, void (*test)(void))
{
	CU_add_test(s, name, test);
}

void
suite_tls(void)
{
	CU_pSuite s = CU_add_suite("tls", make_folder, remove_folder);

	add(s, "handshake and bytes with TLS 1.2", handshake_and_bytes_with_tls_1_2);
	add(s, "handshake and bytes with TLS 1.3", handshake_and_bytes_with_tls_1_3);
	add(s, "refuses TLS 1.1", refuses_tls_1_1);
	add(s, "chooses HTTP/1.1 beside h2", chooses_http_1_1_beside_h2);
	add(s, "refuses a client that speaks h2 only", refuses_a_client_that_speaks_h2_only);
	add(s, "writes in parts to a slow client", writes_in_parts_to_a_slow_client);
	add(s, "tells of bytes that no event announces", tells_of_bytes_that_no_event_announces);
	add(s, "reads the end after close notify", reads_the_end_after_close_notify);
	add(s, "reads the end when the client just goes", reads_the_end_when_the_client_just_goes);
	add(s, "sends close notify", sends_close_notify);
	add(s, "garbage breaks a connection for good", garbage_breaks_a_connection_for_good);
	add(s, "garbage after the handshake breaks it too",
	    garbage_after_the_handshake_breaks_it_too);
	add(s, "a client that goes in the handshake is no harm",
	    a_client_that_goes_in_the_handshake_is_no_harm);
	add(s, "writing to a client that is gone is broken",
	    writing_to_a_client_that_is_gone_is_broken);
	add(s, "a session is resumed on another connection",
	    a_session_is_resumed_on_another_connection);
	add(s, "says what is wrong with which file", says_what_is_wrong_with_which_file);
	add(s, "an encrypted key is an error and no prompt",
	    an_encrypted_key_is_an_error_and_no_prompt);
}
