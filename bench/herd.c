/* A herd: N clients connect, then all ask for one path at the same moment. Prints, as JSON, when
 * they got the first byte of the body and when the last one had all of it. Every byte is compared
 * with the file that it must be: exact, and cheaper than a hash, which would take measured CPU.
 */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 1024 * 1024, SHORT_CHUNK = 32 * 1024, MAX_CLIENTS = 4096 };

struct member {
	int fd;
	struct reply reply;
	uint64_t first_us, end_us; /* since the start; 0: not yet */
};

struct expected {
	const unsigned char *bytes;
	uint64_t size;
};

/* How many members wait for their first byte. While some do, the others' reads are short, so that
 * it is not our own turn that makes a first byte late. */
static unsigned waiting;

static struct expected
map_expected(const char *path)
{
	struct stat st;
	struct expected e;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		die("%s: %s", path, strerror(errno));
	e.size = (uint64_t)st.st_size;
	e.bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (e.bytes == MAP_FAILED)
		die("mmap %s: %s", path, strerror(errno));
	close(fd);
	return e;
}

static void
compare(const struct expected *e, uint64_t at, const void *p, size_t n)
{
	if (at + n > e->size || memcmp(e->bytes + at, p, n) != 0)
		die("the body is not the file, at byte %llu or after", (unsigned long long)at);
}

/* The head, and what of the body came in the same packet. False: nothing to read. */
static bool
member_read_head(struct member *m, const struct expected *e)
{
	if (!reply_read_head(&m->reply, m->fd))
		return false;
	if (m->reply.body_at == 0)
		return true;
	if (m->reply.length != e->size)
		die("Content-Length is %llu, not %llu", (unsigned long long)m->reply.length,
		    (unsigned long long)e->size);
	compare(e, 0, m->reply.head + m->reply.body_at, m->reply.got);
	return true;
}

static bool
member_read_body(struct member *m, const struct expected *e)
{
	static unsigned char chunk[CHUNK];
	ssize_t n = recv(m->fd, chunk, waiting > 0 ? SHORT_CHUNK : CHUNK, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n < 0)
		die("recv: %s", strerror(errno));
	if (n == 0)
		die("the body was cut at %llu bytes", (unsigned long long)m->reply.got);
	compare(e, m->reply.got, chunk, (size_t)n);
	m->reply.got += (uint64_t)n;
	return true;
}

/* One read; true when the member is done. */
static bool
member_turn(struct member *m, const struct expected *e, uint64_t start)
{
	bool read = m->reply.body_at == 0 ? member_read_head(m, e) : member_read_body(m, e);

	if (!read)
		return false;
	if (m->first_us == 0 && m->reply.got > 0) {
		m->first_us = now_us() - start;
		waiting--;
	}
	if (!reply_complete(&m->reply))
		return false;
	m->end_us = now_us() - start;
	return true;
}

static int
start_members(struct member *members, unsigned count, unsigned port)
{
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (ep < 0)
		die("epoll_create1: %s", strerror(errno));
	for (unsigned i = 0; i < count; i++) {
		struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &members[i]};

		members[i].fd = client_connect(port);
		client_set_nonblocking(members[i].fd);
		if (epoll_ctl(ep, EPOLL_CTL_ADD, members[i].fd, &ev) < 0)
			die("epoll_ctl: %s", strerror(errno));
	}
	return ep;
}

static void
run(int ep, unsigned count, const struct expected *e, uint64_t start, uint64_t limit_us)
{
	struct epoll_event events[64];
	unsigned left = count;

	while (left > 0) {
		int n = epoll_wait(ep, events, 64, 1000);

		if (n < 0 && errno != EINTR)
			die("epoll_wait: %s", strerror(errno));
		for (int i = 0; i < n; i++) {
			struct member *m = events[i].data.ptr;

			if (!member_turn(m, e, start))
				continue;
			epoll_ctl(ep, EPOLL_CTL_DEL, m->fd, NULL);
			left--;
		}
		if (now_us() - start > limit_us)
			die("%u of %u clients were not served in time", left, count);
	}
}

static int
by_first(const void *a, const void *b)
{
	const struct member *x = a, *y = b;

	return (x->first_us > y->first_us) - (x->first_us < y->first_us);
}

static void
report(struct member *members, unsigned count)
{
	uint64_t wall = 0;

	for (unsigned i = 0; i < count; i++)
		if (members[i].end_us > wall)
			wall = members[i].end_us;
	qsort(members, count, sizeof(*members), by_first);
	printf("{\"wall_ms\": %.3f, \"first_ms\": %.3f, \"first_median_ms\": %.3f, "
	    "\"first_last_ms\": %.3f}\n", (double)wall / 1000, (double)members[0].first_us / 1000,
	    (double)members[count / 2].first_us / 1000, (double)members[count - 1].first_us / 1000);
}

int
main(int argc, char **argv)
{
	struct member *members;
	struct expected expected;
	unsigned port, count, limit;
	uint64_t start;
	char *request;
	int ep;

	if (argc != 6)
		die("usage: herd port path clients expected-file limit-seconds");
	port = parse_number(argv[1], "port", 1, 65535);
	count = parse_number(argv[3], "clients", 1, MAX_CLIENTS);
	expected = map_expected(argv[4]);
	limit = parse_number(argv[5], "limit-seconds", 1, 3600);
	members = calloc(count, sizeof(*members));
	if (members == NULL)
		die("out of memory");
	ep = start_members(members, count, port);
	request = client_request(argv[2], port, 0);
	waiting = count;
	start = now_us();
	for (unsigned i = 0; i < count; i++)
		client_send(members[i].fd, request);
	run(ep, count, &expected, start, (uint64_t)limit * 1000000);
	report(members, count);
	free(request);
	free(members);
	return 0;
}
