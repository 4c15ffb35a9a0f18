/* Steady load: N keep-alive connections, on each the next request as soon as the last was answered.
 * Connection i carries credential i modulo their number. Answers must be 200 and as long as they
 * say. Bodies are thrown away in the kernel (MSG_TRUNC), so that the client costs little. Prints
 * JSON.
 */
#include "client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { MAX_CONNECTIONS = 4096, MAX_LATENCY_US = 1 << 20, GRACE_US = 60 * 1000000 };

struct link {
	int fd;
	char *request;
	uint64_t sent_us;
	struct reply reply;
};

struct load {
	int ep;
	uint64_t start, end;      /* microseconds */
	unsigned busy;            /* links with a request in flight */
	uint64_t requests, bytes; /* answered, received before the end */
	uint64_t late;            /* requests answered after the end */
	uint64_t longest_us;
	uint32_t latency[MAX_LATENCY_US]; /* how many answers took this many microseconds */
};

static struct load load;

static void
link_ask(struct link *l, uint64_t now)
{
	reply_reset(&l->reply);
	l->sent_us = now;
	client_send(l->fd, l->request);
}

static void
link_open(struct link *l, unsigned port, const char *path, unsigned user)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = l};

	l->fd = client_connect(port);
	client_set_nonblocking(l->fd);
	l->request = client_request(path, port, user);
	if (epoll_ctl(load.ep, EPOLL_CTL_ADD, l->fd, &ev) < 0)
		die("epoll_ctl: %s", strerror(errno));
}

static void
link_skip_body(struct link *l)
{
	uint64_t left = l->reply.length - l->reply.got;
	ssize_t n = recv(l->fd, NULL, left < (1 << 20) ? (size_t)left : 1 << 20, MSG_TRUNC);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		die("recv: %s", strerror(errno));
	if (n == 0)
		die("a body was cut at %llu of %llu bytes", (unsigned long long)l->reply.got,
		    (unsigned long long)l->reply.length);
	if (n > 0)
		l->reply.got += (uint64_t)n;
}

static void
link_answered(struct link *l, uint64_t now)
{
	uint64_t took = now - l->sent_us;

	load.latency[took < MAX_LATENCY_US ? took : MAX_LATENCY_US - 1]++;
	if (took > load.longest_us)
		load.longest_us = took;
	if (now < load.end) {
		load.requests++;
		link_ask(l, now);
	} else {
		load.late++;
		load.busy--;
	}
}

static void
link_turn(struct link *l)
{
	uint64_t before = l->reply.got, now;

	if (l->reply.body_at == 0)
		reply_read_head(&l->reply, l->fd);
	else
		link_skip_body(l);
	now = now_us();
	if (now < load.end)
		load.bytes += l->reply.got - before;
	if (reply_complete(&l->reply))
		link_answered(l, now);
}

/* Until every request in flight at the end is answered, so that what the upstream saw can be
 * divided by what was asked. */
static void
run(void)
{
	struct epoll_event events[64];

	while (load.busy > 0) {
		int n = epoll_wait(load.ep, events, 64, 1000);

		if (n < 0 && errno != EINTR)
			die("epoll_wait: %s", strerror(errno));
		for (int i = 0; i < n; i++)
			link_turn(events[i].data.ptr);
		if (now_us() > load.end + GRACE_US)
			die("%u requests were never answered", load.busy);
	}
}

/* Milliseconds below which the share `part` of all answers stayed. */
static double
percentile(double part)
{
	double wanted = part * (double)(load.requests + load.late), seen = 0;

	for (size_t us = 0; us < MAX_LATENCY_US - 1; us++) {
		seen += load.latency[us];
		if (seen >= wanted)
			return (double)us / 1000;
	}
	return (double)load.longest_us / 1000;
}

static void
report(double seconds)
{
	printf("{\"seconds\": %.3f, \"requests\": %llu, \"late\": %llu, \"bytes\": %llu, ", seconds,
	    (unsigned long long)load.requests, (unsigned long long)load.late,
	    (unsigned long long)load.bytes);
	printf("\"p50_ms\": %.3f, \"p99_ms\": %.3f}\n", percentile(0.50), percentile(0.99));
}

int
main(int argc, char **argv)
{
	static struct link links[MAX_CONNECTIONS];
	unsigned port, count, credentials, milliseconds;

	if (argc != 6 && argc != 7)
		die("usage: load port path connections credentials milliseconds [range]");
	client_range = argv[6]; /* NULL when there is none */
	port = parse_number(argv[1], "port", 1, 65535);
	count = parse_number(argv[3], "connections", 1, MAX_CONNECTIONS);
	credentials = parse_number(argv[4], "credentials", 1, MAX_CONNECTIONS);
	milliseconds = parse_number(argv[5], "milliseconds", 1, 3600000);
	load.ep = epoll_create1(EPOLL_CLOEXEC);
	if (load.ep < 0)
		die("epoll_create1: %s", strerror(errno));
	for (unsigned i = 0; i < count; i++)
		link_open(&links[i], port, argv[2], i % credentials);
	load.start = now_us();
	load.end = load.start + (uint64_t)milliseconds * 1000;
	load.busy = count;
	for (unsigned i = 0; i < count; i++)
		link_ask(&links[i], load.start);
	run();
	report(milliseconds / 1000.0);
	for (unsigned i = 0; i < count; i++)
		free(links[i].request);
	return 0;
}
