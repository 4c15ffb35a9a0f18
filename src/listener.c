/* A listener process: puts the modules together around one event loop, accepts clients, and
 * drains. */
#include "listener.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "check.h"
#include "child.h"
#include "clock.h"
#include "conf.h"
#include "conn.h"
#include "fill.h"
#include "log.h"
#include "registry.h"
#include "request.h"
#include "route.h"
#include "shm.h"
#include "store.h"
#include "tls.h"
#include "upstream.h"
#include "xalloc.h"

enum {
	TICK_MS = 100,
	ACCEPT_BATCH = 64,     /* connections accepted in one turn of the loop */
	ACCEPT_PAUSE_MS = 100, /* after the process ran out of descriptors */
	REFUSED_SAY_MS = 1000,
	REOPEN_TICKS = 100,  /* between attempts to open an index that would not open */
	INPUT_EXTRA = 65536, /* bytes of a request's body read ahead, besides its head */
	RETIRED_IDLE_MS = 1000, /* a client that is about to ask again is not cut off by a reload */
};

struct listener {
	const struct child_start *start;
	struct event_base *base;
	struct event *wake_event, *tick_event;
	struct event **accept_events; /* one a listening socket */
	struct services services;
	struct conns *conns;
	struct route_table *routes;
	struct child *child;
	unsigned ticks;
	unsigned refused;         /* connections, since that was last said */
	uint64_t refused_said_ms; /* clock_ms */
	bool draining;
};

/* --- accepting
 * ----------------------------------------------------------------------------------- */

/* One line a second at most: a flood of connections is not to become a flood of lines. */
static void
refuse(struct listener *l, int fd, const char *address, const char *why)
{
	uint64_t now = clock_ms();

	close(fd);
	l->refused++;
	if (now - l->refused_said_ms < REFUSED_SAY_MS)
		return;
	log_warn("%u connections refused, the last from %s: %s", l->refused, address, why);
	l->refused = 0;
	l->refused_said_ms = now;
}

/* Why one more connection from this address is too many; NULL: it is not. Counted as open in any
 * case. */
static const char *
over_limit(struct listener *l, const char *address)
{
	const struct conf *conf = l->start->conf;
	unsigned all = shm_connections_add(l->start->shm, l->start->number, 1);
	unsigned from = shm_address_add(l->start->shm, l->start->number, address, 1);

	if (conf->server.max_connections > 0 && all > conf->server.max_connections)
		return "server.maxConnections are open";
	if (conf->server.max_connections_per_address > 0 &&
	    from > conf->server.max_connections_per_address)
		return "server.maxConnectionsPerAddress are open from it";
	return NULL;
}

static void
welcome(struct listener *l, int fd, const struct sockaddr *peer)
{
	char address[CONN_ADDRESS_SIZE];
	struct tls *tls = NULL;
	const char *why;

	conn_address_text(peer, address);
	why = over_limit(l, address);
	if (why == NULL && l->start->tls != NULL && (tls = tls_accept(l->start->tls, fd)) == NULL)
		why = "no TLS session can be made";
	if (why != NULL) {
		shm_connections_add(l->start->shm, l->start->number, -1);
		shm_address_add(l->start->shm, l->start->number, address, -1);
		refuse(l, fd, address, why);
		return;
	}
	shm_count(l->start->shm, l->start->number, COUNT_CONNECTIONS, 1);
	conn_new(l->conns, fd, tls, peer);
}

static void
stop_accepting(struct listener *l)
{
	for (unsigned i = 0; i < l->start->nlisten; i++)
		event_del(l->accept_events[i]);
}

static bool
start_accepting(struct listener *l)
{
	for (unsigned i = 0; i < l->start->nlisten; i++)
		if (!event_pending(l->accept_events[i], EV_READ, NULL) &&
		    event_add(l->accept_events[i], NULL) != 0)
			return false;
	return true;
}

/* Out of descriptors: what waits stays in the queue of the kernel for a moment. */
static void
accept_failed(struct listener *l)
{
	if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM)
		return;
	log_warn("accept: %s", strerror(errno));
	stop_accepting(l); /* the tick begins again */
}

static void
accept_some(struct listener *l, int listen_fd, unsigned most)
{
	while (most-- > 0) {
		struct sockaddr_storage peer;
		socklen_t size = sizeof(peer);
		int fd = accept4(
		    listen_fd, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0)
			welcome(l, fd, (struct sockaddr *)&peer);
		else if (errno == EINTR || errno == ECONNABORTED)
			continue;
		else {
			accept_failed(l);
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

/* --- the loop's other events
 * ----------------------------------------------------------------------- */

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;

	(void)fd;
	(void)what;
	shm_wake_drain(l->start->shm, l->start->number);
	fills_wake(l->services.fills);
	requests_admit(&l->services);
}

/* An index that would not open is tried again now and then: until it does, everything is passed
 * through. It is opened only when gc has marked this run (the mark says "not clean" and names
 * this boot): one that a machine's death may have torn is gc's to drop first. */
static void
open_store(struct listener *l)
{
	struct services *s = &l->services;

	if (s->store == NULL)
		s->store = store_open(l->start->conf->data_path);
	if (s->store != NULL && s->index == NULL && store_read_state(s->store) == STORE_CRASHED)
		s->index = index_open(store_index_dir(s->store));
	if (s->index == NULL)
		log_warn("without store or index: requests are passed through uncached");
	if (s->fills != NULL)
		fills_set_store(s->fills, s->store, s->index);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;

	(void)fd;
	(void)what;
	l->ticks++;
	log_flush();
	requests_admit(&l->services);
	if (!l->draining)
		(void)start_accepting(l);
	if (l->services.index == NULL && l->ticks % REOPEN_TICKS == 0)
		open_store(l);
	if (l->draining && conns_open(l->conns) == 0)
		event_base_loopbreak(l->base);
}

static void
drain_one(struct conn *c, void *arg)
{
	(void)arg;
	request_drain(c);
}

/* When the cache stops, clients in the queue of the kernel were promised a connection: they are
 * served, and told to close. When a successor has the sockets too, it serves them. */
static void
leave_sockets(struct listener *l, enum child_end why)
{
	for (unsigned i = 0; i < l->start->nlisten; i++) {
		if (why == CHILD_END_STOP)
			accept_some(l, l->start->listen_fds[i], UINT32_MAX);
		event_del(l->accept_events[i]);
		close(l->start->listen_fds[i]);
	}
}

/* A client that is told to close by its next answer loses no request; one whose idle connection is
 * closed may lose what it is just sending. So a reload leaves it the time to ask. */
static void
on_drain(enum child_end why, void *arg)
{
	struct listener *l = arg;

	log_info("draining: %u connections", conns_open(l->conns));
	if (!l->draining)
		leave_sockets(l, why);
	l->draining = l->services.draining = true;
	if (why == CHILD_END_RETIRE)
		conns_limit_idle(l->conns, RETIRED_IDLE_MS);
	else
		conns_each(l->conns, drain_one, NULL);
}

/* --- putting together
 * ------------------------------------------------------------------------------ */

static struct route_table *
make_routes(const struct conf *conf)
{
	size_t n = conf->server.nrules + (conf->server.default_backend.host != NULL ? 1 : 0), bad;
	struct route_rule *rules = xcalloc(n, sizeof(*rules));
	struct route_table *table;
	char *error = NULL;

	for (size_t i = 0; i < conf->server.nrules; i++)
		rules[i] =
		    (struct route_rule){conf->server.rules[i].regex, conf->server.rules[i].to.host,
			conf->server.rules[i].to.scheme, conf->server.rules[i].to.trusted};
	if (conf->server.default_backend.host != NULL)
		rules[n - 1] = (struct route_rule){NULL, conf->server.default_backend.host,
		    conf->server.default_backend.scheme, conf->server.default_backend.trusted};
	table = route_table_new(rules, n, &bad, &error);
	if (table == NULL)
		fatal("server.upstreamRules: rule %zu: %s", bad + 1, error);
	free(rules);
	return table;
}

static void
count_check(void *arg, bool shared)
{
	struct listener *l = arg;

	shm_count(l->start->shm, l->start->number, shared ? COUNT_CHECKS_SHARED : COUNT_CHECKS, 1);
}

static void
make_upstream(struct listener *l)
{
	const struct conf *conf = l->start->conf;
	struct upstream_config config = {
	    .ca_path = conf->server.tls.ca_path,
	    .connect_timeout_ms = (unsigned)conf->server.connect_timeout,
	    .idle_timeout_ms = (unsigned)conf->server.upstream_timeout,
	    .first_byte_timeout_ms = (unsigned)conf->server.first_byte_timeout,
	    .low_speed = (unsigned)conf->server.low_speed,
	    .allow_private_redirects = conf->server.allow_private_redirects,
	    .user_agent = "registry-cache/" PACKAGE_VERSION,
	};

	l->services.upstream = upstream_new(l->base, &config);
	if (l->services.upstream == NULL)
		fatal("cannot talk to registries");
	l->services.registries = registries_new(l->services.upstream);
	l->services.check = check_new(l->services.registries, count_check, l);
}

static void
make_fills(struct listener *l)
{
	const struct conf *conf = l->start->conf;
	struct fills_config config = {
	    .base = l->base,
	    .shm = l->start->shm,
	    .index = l->services.index,
	    .store = l->services.store,
	    .registries = l->services.registries,
	    .owner = {l->start->number, l->start->generation},
	    .max_object = conf->gc.disk_max_size,
	    .queue_timeout_ms = conf->server.timeout,
	    .retry_ms = conf->server.first_byte_timeout,
	};

	l->services.fills = fills_new(&config);
}

static void
make_conns(struct listener *l)
{
	const struct conf *conf = l->start->conf;
	struct conn_limits limits = {
	    .keep_alive_ms = conf->server.keep_alive,
	    .io_timeout_ms = conf->server.timeout,
	    .input_bytes = conf->server.max_head + INPUT_EXTRA,
	};

	l->conns = conns_new(l->base, &request_hooks, &limits);
	conns_set_user(l->conns, &l->services);
}

static void
make_services(struct listener *l)
{
	const struct conf *conf = l->start->conf;
	struct services *s = &l->services;

	services_init(s);
	s->base = l->base;
	s->shm = l->start->shm;
	s->listener = l->start->number;
	s->routes = l->routes = make_routes(conf);
	s->streamers = conf->server.streamers;
	s->timeout_ms = conf->server.timeout;
	s->max_head = conf->server.max_head;
	s->read_only = conf->server.read_only;
	s->access_log = conf->log.access;
	s->tls = l->start->tls != NULL;
	open_store(l);
	make_upstream(l);
	make_fills(l);
	make_conns(l);
}

static bool
make_accept_events(struct listener *l)
{
	l->accept_events = xcalloc(l->start->nlisten, sizeof(struct event *));
	for (unsigned i = 0; i < l->start->nlisten; i++) {
		l->accept_events[i] = event_new(l->base, l->start->listen_fds[i],
		    EV_READ | EV_PERSIST, on_accept, l);
		if (l->accept_events[i] == NULL ||
		    listen(l->start->listen_fds[i], CHILD_BACKLOG) != 0)
			return false;
	}
	return true;
}

static void
make_events(struct listener *l)
{
	struct timeval tick = {0, TICK_MS * 1000};

	l->wake_event = event_new(l->base, shm_wake_fd(l->start->shm, l->start->number),
	    EV_READ | EV_PERSIST, on_wake, l);
	l->tick_event = event_new(l->base, -1, EV_PERSIST, on_tick, l);
	if (!make_accept_events(l) || l->wake_event == NULL || l->tick_event == NULL ||
	    !start_accepting(l) || event_add(l->wake_event, NULL) != 0 ||
	    event_add(l->tick_event, &tick) != 0)
		fatal("cannot make the listener's events");
}

static void
take_down(struct listener *l)
{
	conns_free(&l->conns);
	fills_free(&l->services.fills);
	check_free(&l->services.check);
	registries_free(&l->services.registries);
	upstream_free(&l->services.upstream);
	index_close(&l->services.index);
	store_close(&l->services.store);
	route_table_free(&l->routes);
	for (unsigned i = 0; i < l->start->nlisten; i++)
		event_free(l->accept_events[i]);
	free(l->accept_events);
	event_free(l->wake_event);
	event_free(l->tick_event);
	child_end(&l->child);
	event_base_free(l->base);
	log_flush();
}

int
listener_run(const struct child_start *start)
{
	struct listener l = {.start = start};

	l.base = event_base_new();
	if (l.base == NULL)
		fatal("cannot make an event loop");
	l.child = child_begin(l.base, start, on_drain, &l);
	make_services(&l);
	make_events(&l);
	child_ready(l.child);
	event_base_dispatch(l.base);
	take_down(&l);
	return 0;
}
