/* Loopback sockets, requests and the head of an answer, for the load clients. */
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_S = 30 };

void
die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

uint64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

unsigned
parse_number(const char *text, const char *what, unsigned lowest, unsigned highest)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || n < lowest || n > highest)
		die("%s must be %u to %u, not \"%s\"", what, lowest, highest, text);
	return (unsigned)n;
}

int
client_connect(unsigned port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct timeval patience = {.tv_sec = PATIENCE_S};
	int one = 1, fd;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("connect to port %u: %s", port, strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

void
client_set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		die("fcntl: %s", strerror(errno));
}

const char *client_range;

char *
client_request(const char *path, unsigned port, unsigned user)
{
	char *text;
	bool part = client_range != NULL;

	if (asprintf(&text, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n"
	    "Authorization: Bearer bench-%u\r\nUser-Agent: bench\r\n%s%s%s"
	    "Accept: application/vnd.oci.image.manifest.v1+json, */*\r\n\r\n",
	    path, port, user, part ? "Range: " : "", part ? client_range : "", part ? "\r\n" : "") < 0)
		die("out of memory");
	return text;
}

void
client_send(int fd, const char *request)
{
	size_t len = strlen(request);
	ssize_t n = send(fd, request, len, MSG_NOSIGNAL);

	if (n < 0)
		die("send: %s", strerror(errno));
	if ((size_t)n != len)
		die("send took %zd of %zu bytes", n, len);
}

static void
parse_head(struct reply *r, const char *end)
{
	static const char field[] = "\r\ncontent-length:";
	const char *wanted = client_range != NULL ? "HTTP/1.1 206" : "HTTP/1.1 200";
	const char *length;

	if (r->used < 12 || memcmp(r->head, wanted, 12) != 0)
		die("answer: %.*s", (int)(end - r->head), r->head);
	length = strcasestr(r->head, field);
	if (length == NULL || length > end)
		die("an answer without Content-Length");
	r->length = strtoull(length + sizeof(field) - 1, NULL, 10);
	r->body_at = (size_t)(end + 4 - r->head);
	r->got = r->used - r->body_at;
	if (r->got > r->length)
		die("an answer of %llu bytes came with more", (unsigned long long)r->length);
}

bool
reply_read_head(struct reply *r, int fd)
{
	ssize_t n = recv(fd, r->head + r->used, sizeof(r->head) - 1 - r->used, 0);
	const char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n < 0)
		die("recv: %s", strerror(errno));
	if (n == 0)
		die("closed inside of the head, or it is over %d bytes", CLIENT_HEAD_MAX);
	r->used += (size_t)n;
	r->head[r->used] = '\0';
	end = strstr(r->head, "\r\n\r\n");
	if (end != NULL)
		parse_head(r, end);
	return true;
}

bool
reply_complete(const struct reply *r)
{
	return r->body_at > 0 && r->got == r->length;
}

void
reply_reset(struct reply *r)
{
	r->used = 0;
	r->body_at = 0;
	r->length = 0;
	r->got = 0;
}
