/* The door of a listener: accepting, counting, refusing, and PROXY heads. */
#include "listener_door.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "clock.h"
#include "conf.h"
#include "conn.h"
#include "log.h"
#include "network.h"
#include "proxy_protocol.h"
#include "shm.h"
#include "tls.h"
#include "xalloc.h"

enum {
	ACCEPT_BATCH = 64, /* connections accepted in one turn of the loop */
	KEPT_PART = 4, /* of the descriptors, for files and registries */
	REFUSED_SAY_MS = 1000,
	PROXY_MS = 5000, /* for a PROXY head: it comes with the first packet, or again after 3 s */
};

/* A connection whose PROXY head is awaited. Nothing behind the head is read. */
struct greeting {
	LIST_ENTRY(greeting) link;
	struct door *door;
	struct sockaddr_storage peer;
	struct event event;
	uint64_t since; /* clock_ms */
	size_t have;
	int fd;
	uint8_t data[PROXY_HEAD_MAX];
};

struct door {
	struct event_base *base;
	const struct child_start *start;
	struct conns *conns;
	struct event **events; /* one a listening socket */
	struct network *proxies; /* who speaks the PROXY protocol */
	size_t nproxies;
	LIST_HEAD(, greeting) greetings;
	unsigned ngreetings;
	unsigned most;            /* connections that there are descriptors for */
	unsigned refused;         /* connections, since that was last said */
	uint64_t refused_said_ms; /* clock_ms */
	bool closed;
};

/* --- limits ----------------------------------------------------------------------------------- */

/* Closes it. One line a second at most: a flood of connections is not to become a flood of lines. */
static void
refuse(struct door *d, int fd, const char *address, const char *why)
{
	uint64_t now = clock_ms();

	close(fd);
	shm_connections_add(d->start->shm, d->start->number, -1);
	shm_count(d->start->shm, d->start->number, COUNT_REFUSED, 1);
	d->refused++;
	if (now - d->refused_said_ms < REFUSED_SAY_MS)
		return;
	log_warn("%u connections refused, the last from %s: %s", d->refused, address, why);
	d->refused = 0;
	d->refused_said_ms = now;
}

/* Makes room by closing who has waited long for a request. False: there is none. */
static bool
make_room(struct door *d)
{
	if (!conns_evict(d->conns))
		return false;
	shm_count(d->start->shm, d->start->number, COUNT_CROWDED_OUT, 1);
	return true;
}

/* Counts one more connection. NULL, or why it is too many (static). */
static const char *
over_limit(struct door *d)
{
	unsigned most = d->start->conf->server.max_connections;
	unsigned all = shm_connections_add(d->start->shm, d->start->number, 1);

	return most > 0 && all > most && !make_room(d) ? "server.maxConnections are open" : NULL;
}

/* Connections must leave descriptors for files and registries. */
static bool
has_room(struct door *d)
{
	return conns_open(d->conns) + d->ngreetings < d->most || make_room(d);
}

static const char *
over_address_limit(struct door *d, const char *address)
{
	unsigned most = d->start->conf->server.max_connections_per_address;
	unsigned from = shm_address_add(d->start->shm, d->start->number, address, 1);

	return most > 0 && from > most ? "server.maxConnectionsPerAddress are open from it" : NULL;
}

/* It is counted among all already. `secure`: its client speaks TLS to a load balancer. */
static void
welcome(struct door *d, int fd, const struct sockaddr *client, bool secure)
{
	char address[CONN_ADDRESS_SIZE];
	struct tls *tls = NULL;
	struct conn *c;
	const char *why;

	conn_address_text(client, address);
	why = over_address_limit(d, address);
	if (why == NULL && d->start->tls != NULL && (tls = tls_accept(d->start->tls, fd)) == NULL)
		why = "no TLS session can be made";
	if (why != NULL) {
		shm_address_add(d->start->shm, d->start->number, address, -1);
		refuse(d, fd, address, why);
		return;
	}
	shm_count(d->start->shm, d->start->number, COUNT_CONNECTIONS, 1);
	c = conn_new(d->conns, fd, tls, client);
	if (secure)
		conn_set_secure(c);
}

/* --- PROXY heads ------------------------------------------------------------------------------ */

static bool
is_proxy(const struct door *d, const struct sockaddr *peer)
{
	for (size_t i = 0; i < d->nproxies; i++)
		if (network_has(&d->proxies[i], peer))
			return true;
	return false;
}

/* Its descriptor is the caller's from now on. */
static int
greeting_free(struct greeting *g)
{
	int fd = g->fd;

	event_del(&g->event);
	LIST_REMOVE(g, link);
	g->door->ngreetings--;
	free(g);
	return fd;
}

static void
greeting_failed(struct greeting *g, const char *why)
{
	struct door *d = g->door;
	char address[CONN_ADDRESS_SIZE];

	conn_address_text((const struct sockaddr *)&g->peer, address);
	refuse(d, greeting_free(g), address, why);
}

static void
greeting_done(struct greeting *g, const struct proxy_head *head)
{
	struct sockaddr_storage client =
	    head->client.ss_family == AF_UNSPEC ? g->peer : head->client;
	struct door *d = g->door;

	welcome(d, greeting_free(g), (const struct sockaddr *)&client, head->tls);
}

/* Takes the next `n` bytes, which were seen, off the socket. */
static bool
take(struct greeting *g, size_t n)
{
	bool taken = n == 0 || recv(g->fd, g->data + g->have, n, 0) == (ssize_t)n;

	g->have += n;
	return taken;
}

/* What has come is looked at first, so that nothing behind the head is read; while the head is not
 * whole, all of it is the head's and is taken, so that the event is over. */
static void
on_greeting(evutil_socket_t fd, short what, void *arg)
{
	struct greeting *g = arg;
	ssize_t n = recv(fd, g->data + g->have, sizeof(g->data) - g->have, MSG_PEEK);
	struct proxy_head head;
	enum proxy_result result;

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		greeting_failed(g, "it was closed before its PROXY head");
		return;
	}
	result = proxy_parse(g->data, g->have + (size_t)n, &head);
	if (result == PROXY_BAD)
		greeting_failed(g, head.error);
	else if (!take(g, result == PROXY_OK ? head.length - g->have : (size_t)n))
		greeting_failed(g, "its PROXY head cannot be read");
	else if (result == PROXY_OK)
		greeting_done(g, &head);
}

static void
greet(struct door *d, int fd, const struct sockaddr_storage *peer)
{
	struct greeting *g = xcalloc(1, sizeof(*g));

	g->door = d;
	g->fd = fd;
	g->peer = *peer;
	g->since = clock_ms();
	LIST_INSERT_HEAD(&d->greetings, g, link);
	d->ngreetings++;
	event_assign(&g->event, d->base, fd, EV_READ | EV_PERSIST, on_greeting, g);
	if (event_add(&g->event, NULL) != 0)
		greeting_failed(g, "no event can be made for it");
}

/* --- accepting -------------------------------------------------------------------------------- */

static void
pause_accepting(struct door *d)
{
	for (unsigned i = 0; i < d->start->nlisten; i++)
		event_del(d->events[i]);
}

static bool
start_accepting(struct door *d)
{
	for (unsigned i = 0; i < d->start->nlisten; i++)
		if (!event_pending(d->events[i], EV_READ, NULL) &&
		    event_add(d->events[i], NULL) != 0)
			return false;
	return true;
}

/* Out of descriptors: what waits stays in the queue of the kernel for a moment. */
static void
accept_failed(struct door *d)
{
	if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM)
		return;
	log_warn("accept: %s", strerror(errno));
	(void)make_room(d);
	pause_accepting(d); /* the tick begins again */
}

static void
accepted(struct door *d, int fd, const struct sockaddr_storage *peer)
{
	const struct sockaddr *sa = (const struct sockaddr *)peer;
	char address[CONN_ADDRESS_SIZE];
	const char *why = over_limit(d);

	if (why != NULL) {
		conn_address_text(sa, address);
		refuse(d, fd, address, why);
	} else if (is_proxy(d, sa)) {
		greet(d, fd, peer);
	} else {
		welcome(d, fd, sa, false);
	}
}

static void
accept_some(struct door *d, int listen_fd, unsigned most)
{
	while (most-- > 0) {
		struct sockaddr_storage peer = {0};
		socklen_t size = sizeof(peer);
		int fd;

		if (!has_room(d)) {
			pause_accepting(d); /* the tick begins again */
			return;
		}
		fd = accept4(
		    listen_fd, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			accepted(d, fd, &peer);
		else if (errno == EINTR || errno == ECONNABORTED)
			continue;
		else {
			accept_failed(d);
			return;
		}
	}
}

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	accept_some(arg, fd, ACCEPT_BATCH);
}

/* --- the door --------------------------------------------------------------------------------- */

static bool
make_events(struct door *d)
{
	d->events = xcalloc(d->start->nlisten + 1, sizeof(*d->events));
	for (unsigned i = 0; i < d->start->nlisten; i++) {
		int fd = d->start->listen_fds[i];

		d->events[i] = event_new(d->base, fd, EV_READ | EV_PERSIST, on_accept, d);
		if (d->events[i] == NULL || listen(fd, CHILD_BACKLOG) != 0)
			return false;
	}
	return start_accepting(d);
}

static void
make_proxies(struct door *d)
{
	const struct conf_list *list = &d->start->conf->server.proxies;

	d->proxies = xcalloc(list->n + 1, sizeof(*d->proxies));
	for (; d->nproxies < list->n; d->nproxies++) {
		const char *wrong =
		    network_parse(list->items[d->nproxies], &d->proxies[d->nproxies]);

		if (wrong != NULL)
			panic("the network %s %s", list->items[d->nproxies], wrong);
	}
}

/* The lowest that is free tells how many are used: they are without gaps, but for a few. */
static unsigned
descriptors_for_clients(int some_fd)
{
	struct rlimit limit;
	int used = fcntl(some_fd, F_DUPFD_CLOEXEC, 0);

	if (used >= 0)
		close(used);
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > UINT32_MAX || used < 0)
		return UINT32_MAX;
	limit.rlim_cur -= limit.rlim_cur / KEPT_PART;
	return limit.rlim_cur > (rlim_t)used ? (unsigned)limit.rlim_cur - (unsigned)used : 1;
}

struct door *
door_new(struct event_base *base, const struct child_start *start, struct conns *conns)
{
	struct door *d = xcalloc(1, sizeof(*d));

	d->base = base;
	d->start = start;
	d->conns = conns;
	d->most = descriptors_for_clients(start->ready_fd);
	LIST_INIT(&d->greetings);
	make_proxies(d);
	if (!make_events(d))
		door_free(&d);
	return d;
}

void
door_tick(struct door *d)
{
	struct greeting *g, *next;
	uint64_t now = clock_ms();

	if (!d->closed)
		(void)start_accepting(d);
	for (g = LIST_FIRST(&d->greetings); g != NULL; g = next) {
		next = LIST_NEXT(g, link);
		if (now - g->since >= PROXY_MS)
			greeting_failed(g, "its PROXY head did not come in time");
	}
}

void
door_close(struct door *d, enum child_end why)
{
	for (unsigned i = 0; i < d->start->nlisten && !d->closed; i++) {
		if (why == CHILD_END_STOP)
			accept_some(d, d->start->listen_fds[i], UINT32_MAX);
		event_del(d->events[i]);
		close(d->start->listen_fds[i]);
	}
	d->closed = true;
}

unsigned
door_waiting(const struct door *d)
{
	return d->ngreetings;
}

void
door_free(struct door **dp)
{
	struct door *d = *dp;

	if (d == NULL)
		return;
	while (!LIST_EMPTY(&d->greetings))
		close(greeting_free(LIST_FIRST(&d->greetings)));
	for (unsigned i = 0; i < d->start->nlisten; i++)
		if (d->events[i] != NULL)
			event_free(d->events[i]);
	free(d->events);
	free(d->proxies);
	free(d);
	*dp = NULL;
}
