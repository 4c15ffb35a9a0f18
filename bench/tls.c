/* Steady load over TLS: N connections, on each so many requests at once that the server always has one
 * to answer. The first answer of each is read and decrypted, and must be 200 and whole; then what
 * comes is thrown away in the kernel (MSG_TRUNC) as it is, encrypted, so that the client costs little.
 * Prints JSON; `all` counts the first answers, too. Usage: tls PORT PATH CONNECTIONS MS CIPHERSUITE
 */
#include "client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

enum { MAX_CONNECTIONS = 256, REQUESTS = 200, RECORD = 16384, RECORD_EXTRA = 22 };

struct link {
	int fd;
	SSL *ssl;
};

/* How many bytes it has. */
static size_t
check_first(SSL *ssl, const char *request)
{
	static char block[1 << 20];
	size_t got = 0, n, length = 0, head = 0;

	if (SSL_write(ssl, request, (int)strlen(request)) <= 0)
		die("SSL_write failed");
	while (head == 0 || got < head + length) {
		size_t at = head == 0 ? got : 0;

		if (SSL_read_ex(ssl, block + at, sizeof(block) - 1 - at, &n) != 1)
			die("the first answer was cut after %zu bytes", got);
		got += n;
		if (head > 0)
			continue;
		block[got] = '\0';
		if (strstr(block, "\r\n\r\n") == NULL)
			continue;
		head = (size_t)(strstr(block, "\r\n\r\n") + 4 - block);
		if (strncmp(block, "HTTP/1.1 200", 12) != 0 || strcasestr(block, "content-length:") == NULL)
			die("answer: %.60s", block);
		length = strtoull(strcasestr(block, "content-length:") + 15, NULL, 10);
	}
	if (got != head + length)
		die("the first answer is too long");
	return got;
}

static size_t
open_link(struct link *l, SSL_CTX *ctx, unsigned port, const char *path, int ep)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = l};
	char *request = client_request(path, port, 0);
	size_t first;

	l->fd = client_connect(port);
	l->ssl = SSL_new(ctx);
	SSL_set_fd(l->ssl, l->fd);
	if (SSL_connect(l->ssl) != 1)
		die("TLS handshake: %s", ERR_reason_error_string(ERR_peek_error()));
	first = check_first(l->ssl, request);
	for (int i = 0; i < REQUESTS; i++)
		if (SSL_write(l->ssl, request, (int)strlen(request)) <= 0)
			die("SSL_write failed");
	free(request);
	client_set_nonblocking(l->fd);
	if (epoll_ctl(ep, EPOLL_CTL_ADD, l->fd, &ev) < 0)
		die("epoll_ctl: %s", strerror(errno));
	return first;
}

/* All that is there, at most so much that others get their turn. */
static uint64_t
throw_away(const struct link *l)
{
	uint64_t sum = 0;

	for (int i = 0; i < 8; i++) {
		ssize_t n = recv(l->fd, NULL, 1 << 20, MSG_TRUNC);

		if (n == 0)
			die("the server closed a connection");
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			die("recv: %s", strerror(errno));
		if (n < 0)
			break;
		sum += (uint64_t)n;
	}
	return sum;
}

int
main(int argc, char **argv)
{
	static struct link links[MAX_CONNECTIONS];
	struct epoll_event events[64];
	uint64_t start, end, now, bytes = 0, first = 0;
	unsigned port, n, ms;
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (argc != 6)
		die("usage: tls port path connections milliseconds ciphersuite");
	port = parse_number(argv[1], "port", 1, 65535);
	n = parse_number(argv[3], "connections", 1, MAX_CONNECTIONS);
	ms = parse_number(argv[4], "milliseconds", 1, 600000);
	if (ep < 0 || ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(ctx, argv[5]) != 1)
		die("no TLS 1.3 with %s", argv[5]);
	for (unsigned i = 0; i < n; i++)
		first += open_link(&links[i], ctx, port, argv[2], ep);
	start = now_us();
	end = start + (uint64_t)ms * 1000;
	while ((now = now_us()) < end) {
		int got = epoll_wait(ep, events, 64, (int)((end - now) / 1000) + 1);

		for (int i = 0; i < got; i++)
			bytes += throw_away(events[i].data.ptr);
	}
	bytes = bytes / (RECORD + RECORD_EXTRA) * RECORD;
	printf("{\"bytes\": %llu, \"all\": %llu, \"seconds\": %.6f}\n",
	    (unsigned long long)bytes, (unsigned long long)(bytes + first),
	    (double)(now - start) / 1e6);
	return 0;
}
