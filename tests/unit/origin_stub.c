/* A small real HTTP/1.1 server for tests. Blocking and plain: a process a connection. */
#include "origin_stub.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

enum { MAX_REQUESTS = 1024, HEAD_BYTES = 8192, WRITE_BYTES = 65536 };

/* What both sides see. */
struct record {
	_Atomic unsigned requests, connections, other_port;
	_Atomic long noted;
	sem_t gate;
	char head[MAX_REQUESTS][HEAD_BYTES];
};

struct origin {
	pid_t pid;
	unsigned port;
	char host[32];
	struct record *record;
};

struct origin_conn {
	int fd;
	SSL *ssl;
	struct record *record;
	unsigned number;
	bool closing;
	unsigned sum;        /* of the request's body */
	char in[HEAD_BYTES]; /* read, not used yet */
	size_t in_n;
};

static void
die(const char *what)
{
	perror(what);
	abort();
}

/* --- bytes --- */

static ssize_t
raw_read(struct origin_conn *c, void *p, size_t n)
{
	return c->ssl != NULL ? SSL_read(c->ssl, p, (int)n) : recv(c->fd, p, n, 0);
}

static bool
raw_write(struct origin_conn *c, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k =
		    c->ssl != NULL ? SSL_write(c->ssl, p, (int)n) : send(c->fd, p, n, MSG_NOSIGNAL);

		if (k <= 0) {
			c->closing = true;
			return false;
		}
		p += k;
		n -= (size_t)k;
	}
	return true;
}

void
origin_write(struct origin_conn *c, const void *p, size_t n)
{
	raw_write(c, p, n);
}

void
origin_send(struct origin_conn *c, const char *fmt, ...)
{
	char *text;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		die("vasprintf");
	raw_write(c, text, (size_t)n);
	free(text);
}

unsigned char
origin_pattern(size_t at)
{
	return (unsigned char)((at * 131) ^ (at >> 9));
}

bool
origin_write_pattern(struct origin_conn *c, size_t from, size_t n)
{
	static char block[WRITE_BYTES];

	while (n > 0) {
		size_t k = n < sizeof(block) ? n : sizeof(block);

		for (size_t i = 0; i < k; i++)
			block[i] = (char)origin_pattern(from + i);
		if (!raw_write(c, block, k))
			return false;
		from += k;
		n -= k;
	}
	return true;
}

size_t
origin_read(struct origin_conn *c, void *p, size_t n)
{
	ssize_t k;

	if (c->in_n > 0) {
		size_t take = n < c->in_n ? n : c->in_n;

		memcpy(p, c->in, take);
		memmove(c->in, c->in + take, c->in_n - take);
		c->in_n -= take;
		return take;
	}
	k = raw_read(c, p, n);
	return k > 0 ? (size_t)k : 0;
}

static const char *
field(const char *head, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = strstr(head, "\r\n"); p != NULL && p[2] != '\r';
	     p = strstr(p + 2, "\r\n"))
		if (strncasecmp(p + 2, name, n) == 0 && p[2 + n] == ':')
			return p + 2 + n + 1 + strspn(p + 2 + n + 1, " ");
	return NULL;
}

/* One line without its end; false when the peer is gone. */
static bool
read_line(struct origin_conn *c, char *line, size_t size)
{
	size_t n = 0;
	char b;

	while (n + 1 < size && origin_read(c, &b, 1) == 1) {
		if (b == '\n') {
			line[n > 0 && line[n - 1] == '\r' ? n - 1 : n] = '\0';
			return true;
		}
		line[n++] = b;
	}
	return false;
}

static bool
take(struct origin_conn *c, long n)
{
	char block[4096];

	while (n > 0) {
		size_t k =
		    origin_read(c, block, (size_t)n < sizeof(block) ? (size_t)n : sizeof(block));

		if (k == 0)
			return false;
		for (size_t i = 0; i < k; i++)
			c->sum = c->sum * 31 + (unsigned char)block[i];
		n -= (long)k;
	}
	return true;
}

static long
read_chunked(struct origin_conn *c)
{
	char line[64];
	long total = 0;

	while (read_line(c, line, sizeof(line))) {
		long n = strtol(line, NULL, 16);

		if (n == 0)
			return read_line(c, line, sizeof(line)) ? total : -1;
		if (!take(c, n) || !read_line(c, line, sizeof(line)))
			return -1;
		total += n;
	}
	return -1;
}

long
origin_read_body(struct origin_conn *c, const struct origin_request *r)
{
	const char *length = field(r->head, "Content-Length");
	long n = length == NULL ? 0 : strtol(length, NULL, 10);

	c->sum = 0;
	if (field(r->head, "Transfer-Encoding") != NULL)
		return read_chunked(c);
	return take(c, n) ? n : -1;
}

unsigned
origin_body_sum(const struct origin_conn *c)
{
	return c->sum;
}

unsigned
origin_sum_of(const char *text)
{
	unsigned sum = 0;

	for (; *text != '\0'; text++)
		sum = sum * 31 + (unsigned char)*text;
	return sum;
}

void
origin_wait(struct origin_conn *c)
{
	while (sem_wait(&c->record->gate) != 0)
		continue;
}

void
origin_note(struct origin_conn *c, long value)
{
	atomic_store(&c->record->noted, value);
}

void
origin_close(struct origin_conn *c)
{
	c->closing = true;
}

void
origin_reset(struct origin_conn *c)
{
	struct linger hard = {.l_onoff = 1, .l_linger = 0};

	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	_exit(0);
}

/* --- the server --- */

/* A process that outlives its parent would wait for ever. */
static void
die_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
}

static char *
read_head(struct origin_conn *c)
{
	while (true) {
		char *end = memmem(c->in, c->in_n, "\r\n\r\n", 4);
		ssize_t k;

		if (end != NULL) {
			size_t n = (size_t)(end - c->in) + 4;
			char *head = strndup(c->in, n);

			c->in_n -= n;
			memmove(c->in, c->in + n, c->in_n);
			return head;
		}
		if (c->in_n == sizeof(c->in))
			return NULL;
		k = raw_read(c, c->in + c->in_n, sizeof(c->in) - c->in_n);
		if (k <= 0)
			return NULL;
		c->in_n += (size_t)k;
	}
}

/* Before the request is answered, so that who has the answer finds the text. */
static void
record_head(struct record *rec, const char *head)
{
	unsigned at = atomic_fetch_add(&rec->requests, 1);

	if (at < MAX_REQUESTS)
		snprintf(rec->head[at], HEAD_BYTES, "%s", head);
}

static void
serve(struct origin_conn *c, origin_handler *handler)
{
	struct origin_request r = {.connection = c->number};
	char *head;

	while (!c->closing && (head = read_head(c)) != NULL) {
		r.head = head;
		r.other_port = atomic_load(&c->record->other_port);
		if (sscanf(head, "%15s %1023s", r.method, r.target) != 2)
			_exit(1);
		record_head(c->record, head);
		handler(c, &r);
		r.nth++;
		free(head);
	}
	if (c->ssl != NULL)
		SSL_shutdown(c->ssl);
	_exit(0);
}

static void
accept_loop(int fd, SSL_CTX *ctx, struct record *rec, origin_handler *handler)
{
	pid_t acceptor = getpid();

	while (true) {
		int peer = accept(fd, NULL, NULL);
		unsigned number = atomic_fetch_add(&rec->connections, 1);

		if (peer < 0)
			continue;
		if (fork() == 0) {
			static struct origin_conn c;

			die_with(acceptor);
			close(fd);
			c = (struct origin_conn){.fd = peer, .record = rec, .number = number};
			if (ctx != NULL) {
				c.ssl = SSL_new(ctx);
				SSL_set_fd(c.ssl, peer);
				if (SSL_accept(c.ssl) != 1)
					_exit(1);
			}
			serve(&c, handler);
		}
		close(peer);
	}
}

static int
listen_anywhere(unsigned *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (void *)&a, n) != 0 || listen(fd, 1024) != 0 ||
	    getsockname(fd, (void *)&a, &n) != 0)
		die("listen");
	*port = ntohs(a.sin_port);
	return fd;
}

static struct origin *
start(origin_handler *handler, SSL_CTX *ctx)
{
	struct origin *o = calloc(1, sizeof(*o));
	pid_t parent = getpid();
	int fd;

	if (o == NULL)
		die("calloc");
	fd = listen_anywhere(&o->port);
	snprintf(o->host, sizeof(o->host), "127.0.0.1:%u", o->port);
	o->record = mmap(
	    NULL, sizeof(*o->record), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (o->record == MAP_FAILED || sem_init(&o->record->gate, 1, 0) != 0)
		die("mmap");
	o->pid = fork();
	if (o->pid < 0)
		die("fork");
	if (o->pid == 0) {
		die_with(parent);
		signal(SIGCHLD, SIG_IGN);
		signal(SIGPIPE, SIG_IGN);
		if (fd != 3 && dup2(fd, 3) != 3)
			_exit(1);
		close_range(4, ~0U, 0); /* the test's own connections are not ours to keep open */
		accept_loop(3, ctx, o->record, handler);
	}
	close(fd);
	return o;
}

struct origin *
origin_start(origin_handler *handler)
{
	return start(handler, NULL);
}

static void
write_pem(const char *path, X509 *cert, EVP_PKEY *key)
{
	FILE *f = fopen(path, "w");

	if (f == NULL || (cert != NULL && PEM_write_X509(f, cert) != 1) ||
	    (key != NULL && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) != 1) ||
	    fclose(f) != 0)
		die(path);
}

void
origin_make_certificate(const char *cert_path, const char *key_path)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_EXTENSION *names =
	    X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");
	X509_NAME *name = X509_get_subject_name(cert);

	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
	X509_NAME_add_entry_by_txt(
	    name, "CN", MBSTRING_ASC, (const unsigned char *)"origin stub", -1, -1, 0);
	X509_set_issuer_name(cert, name);
	X509_set_pubkey(cert, key);
	X509_add_ext(cert, names, -1);
	if (X509_sign(cert, key, EVP_sha256()) == 0)
		die("X509_sign");
	write_pem(cert_path, cert, NULL);
	write_pem(key_path, NULL, key);
	X509_EXTENSION_free(names);
	X509_free(cert);
	EVP_PKEY_free(key);
}

struct origin *
origin_start_tls(origin_handler *handler, const char *cert_path, const char *key_path)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	struct origin *o;

	if (ctx == NULL || SSL_CTX_use_certificate_chain_file(ctx, cert_path) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, key_path, SSL_FILETYPE_PEM) != 1)
		die("certificate");
	o = start(handler, ctx);
	SSL_CTX_free(ctx);
	return o;
}

void
origin_stop(struct origin **op)
{
	struct origin *o = *op;

	kill(o->pid, SIGKILL);
	waitpid(o->pid, NULL, 0);
	munmap(o->record, sizeof(*o->record));
	free(o);
	*op = NULL;
}

/* --- what the test sees --- */

unsigned
origin_port(const struct origin *o)
{
	return o->port;
}

const char *
origin_host(const struct origin *o)
{
	return o->host;
}

unsigned
origin_requests(const struct origin *o)
{
	return atomic_load(&o->record->requests);
}

unsigned
origin_connections(const struct origin *o)
{
	return atomic_load(&o->record->connections);
}

const char *
origin_head(const struct origin *o, unsigned nth)
{
	return nth < MAX_REQUESTS && nth < origin_requests(o) ? o->record->head[nth] : "";
}

unsigned
origin_saw(const struct origin *o, unsigned nth, const char *name, const char *value)
{
	size_t n = strlen(name);
	unsigned count = 0;

	for (const char *p = strstr(origin_head(o, nth), "\r\n"); p != NULL;
	     p = strstr(p + 2, "\r\n")) {
		const char *v = p + 2 + n + 1;

		if (strncasecmp(p + 2, name, n) != 0 || p[2 + n] != ':')
			continue;
		v += strspn(v, " ");
		if (value == NULL ||
		    (strncmp(v, value, strlen(value)) == 0 && v[strlen(value)] == '\r'))
			count++;
	}
	return count;
}

void
origin_set_other_port(struct origin *o, unsigned port)
{
	atomic_store(&o->record->other_port, port);
}

void
origin_let_go(struct origin *o)
{
	sem_post(&o->record->gate);
}

long
origin_noted(const struct origin *o)
{
	return atomic_load(&o->record->noted);
}
