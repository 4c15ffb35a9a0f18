/* A listener process: puts the modules together around one event loop, accepts clients, and
 * drains. */
#include "listener.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "check.h"
#include "child.h"
#include "clock.h"
#include "conf.h"
#include "conf_routes.h"
#include "conn.h"
#include "fill.h"
#include "listener_door.h"
#include "listener_metrics.h"
#include "log.h"
#include "login.h"
#include "realms.h"
#include "registry.h"
#include "request.h"
#include "route.h"
#include "secret.h"
#include "shm.h"
#include "store.h"
#include "tls.h"
#include "upstream.h"
#include "version.h"
#include "xalloc.h"

enum {
	TICK_MS = 100,
	REOPEN_TICKS = 100,  /* between attempts to open an index that would not open */
	MARK_TICKS = 10,     /* between looks for the mark of this run, without which it is not tried */
	INPUT_EXTRA = 65536, /* bytes of a request's body read ahead, besides its head */
	RETIRED_IDLE_MS = 1000, /* a client that is about to ask again is not cut off by a reload */
};

struct listener {
	const struct child_start *start;
	struct event_base *base;
	struct event *wake_event, *tick_event;
	struct door *door;
	struct services services;
	struct conns *conns;
	struct route_table *routes;
	struct registry_set *sets; /* conf's server.registries */
	struct child *child;
	unsigned ticks;
	bool unmarked; /* the index is not open because gc has not marked this run */
	bool draining;
};

/* --- the loop's other events ------------------------------------------------------------------ */

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

/* The mark of this run says "not clean" and names this boot. */
static bool
is_marked(struct store *s)
{
	return store_read_state(s) == STORE_CRASHED;
}

/* The index is opened only when gc has marked this run: one that a machine's death may have torn is
 * gc's to drop first. Until it is open, everything is passed through. */
static void
open_store(struct listener *l)
{
	struct services *s = &l->services;

	if (s->store == NULL)
		s->store = store_open(l->start->conf->data_path);
	l->unmarked = s->store != NULL && !is_marked(s->store);
	if (s->store != NULL && !l->unmarked)
		s->index = index_open(store_index_dir(s->store));
	if (s->index == NULL)
		log_warn("without store or index: requests are passed through uncached");
	if (s->fills != NULL)
		fills_set_store(s->fills, s->store, s->index);
}

/* What would not open is tried again now and then; that gc has come to its mark is seen soon. */
static void
open_store_again(struct listener *l)
{
	if (l->ticks % REOPEN_TICKS != 0 &&
	    !(l->unmarked && l->ticks % MARK_TICKS == 0 && is_marked(l->services.store)))
		return;
	open_store(l);
	if (l->services.index != NULL)
		log_info("the store is open: requests are cached from now on");
}

static void
count_index_failures(struct listener *l)
{
	if (l->services.index != NULL)
		shm_count(l->start->shm, l->start->number, COUNT_INDEX_ERRORS,
		    index_take_failures(l->services.index));
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;

	(void)fd;
	(void)what;
	l->ticks++;
	log_flush();
	count_index_failures(l);
	listener_measure(l->start, &l->services);
	requests_admit(&l->services);
	door_tick(l->door);
	if (l->services.index == NULL)
		open_store_again(l);
	if (l->draining && conns_open(l->conns) == 0 && door_waiting(l->door) == 0)
		event_base_loopbreak(l->base);
}

static void
drain_one(struct conn *c, void *arg)
{
	(void)arg;
	request_drain(c);
}

/* A client that is told to close by its next answer loses no request; one whose idle connection is
 * closed may lose what it is just sending. So a reload leaves it the time to ask. */
static void
on_drain(enum child_end why, void *arg)
{
	struct listener *l = arg;

	log_info("draining: %u connections", conns_open(l->conns));
	if (!l->draining)
		door_close(l->door, why);
	l->draining = l->services.draining = true;
	if (why == CHILD_END_RETIRE)
		conns_limit_idle(l->conns, RETIRED_IDLE_MS);
	else
		conns_each(l->conns, drain_one, NULL);
}

/* --- putting together ------------------------------------------------------------------------- */

static struct route_table *
make_routes(const struct conf *conf)
{
	struct route_table *table;
	char *error = NULL;
	size_t bad;

	table = conf_routes(conf, &bad, &error);
	if (table == NULL)
		fatal("server.upstreamRules: rule %zu: %s", bad + 1, error);
	return table;
}

static void
count_check(void *arg, bool shared)
{
	struct listener *l = arg;

	shm_count(l->start->shm, l->start->number, shared ? COUNT_CHECKS_SHARED : COUNT_CHECKS, 1);
}

static void
make_sets(struct listener *l)
{
	const struct conf *conf = l->start->conf;

	l->sets = xcalloc(conf->server.nregistries, sizeof(*l->sets));
	for (size_t i = 0; i < conf->server.nregistries; i++) {
		const struct conf_registry *r = &conf->server.registries[i];

		l->sets[i] = (struct registry_set){r->scheme, (const char *const *)r->hosts,
		    (unsigned)r->nhosts, r->ca_path, r->realm};
	}
}

static void
make_registries(struct listener *l, const struct upstream_config *upstream_config)
{
	const struct conf *conf = l->start->conf;
	struct registries_config config = {
	    .base = l->base,
	    .upstream = l->services.upstream,
	    .upstream_config = upstream_config,
	    .shm = l->start->shm,
	    .listener = l->start->number,
	    .nsets = (unsigned)conf->server.nregistries,
	    .first_byte_ms = conf->server.first_byte_timeout,
	    .credentials = l->start->credentials,
	    .ncredentials = l->start->credentials != NULL ? (unsigned)conf->server.nregistries : 0,
	    .keep_clients = l->start->users != NULL,
	    .limit_unsaid_ms = conf->server.rate_limit_default,
	    .limit_most_ms = conf->server.rate_limit_max,
	    .down_after = conf->server.down_after,
	    .down_most_ms = conf->server.down_max,
	};

	make_sets(l);
	config.sets = l->sets;
	l->services.registries = registries_new(&config);
	if (l->services.registries == NULL)
		fatal("cannot talk to registries");
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
	make_registries(l, &config);
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
	    .shm = l->start->shm,
	    .bandwidth = conf->server.client_bandwidth,
	};

	l->conns = conns_new(l->base, &request_hooks, &limits);
	conns_set_user(l->conns, &l->services);
}

static void
make_login(struct listener *l)
{
	const struct conf *conf = l->start->conf;
	struct services *s = &l->services;

	s->realm = conf->server.auth.realm;
	s->wants_certificate = conf->server.auth.clients != NULL &&
	    strcmp(conf->server.auth.clients, "certificate") == 0;
	if (l->start->users != NULL)
		s->login = login_new(l->base, l->start->users, shm_key(l->start->shm));
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
	s->realms = realms_new();
	s->streamers = conf->server.streamers;
	s->request_rate =
	    (struct shm_rate){conf->server.request_rate, conf->server.request_burst};
	s->timeout_ms = conf->server.timeout;
	s->grace_ms = conf->server.check_grace;
	s->secret = secret_new(shm_key(l->start->shm));
	s->first_byte_ms = conf->server.first_byte_timeout;
	s->max_head = conf->server.max_head;
	s->read_only = conf->server.read_only;
	s->access_log = conf->log.access;
	s->pass_ranges = conf->server.pass_ranges;
	if (l->start->tls != NULL)
		tls_server_share_tickets(l->start->tls, l->start->shm);
	s->rate_limit_status = strcmp(conf->server.rate_limit_status, "503") == 0 ? 503 : 429;
	make_login(l);
	open_store(l);
	listener_name_upstreams(l->start);
	make_upstream(l);
	make_fills(l);
	make_conns(l);
}

static void
make_events(struct listener *l)
{
	struct timeval tick = {0, TICK_MS * 1000};

	l->wake_event = event_new(l->base, shm_wake_fd(l->start->shm, l->start->number),
	    EV_READ | EV_PERSIST, on_wake, l);
	l->tick_event = event_new(l->base, -1, EV_PERSIST, on_tick, l);
	l->door = door_new(l->base, l->start, l->conns);
	if (l->door == NULL || l->wake_event == NULL || l->tick_event == NULL || event_add(l->wake_event, NULL) != 0 ||
	    event_add(l->tick_event, &tick) != 0)
		fatal("cannot make the listener's events");
}

static void
take_down(struct listener *l)
{
	door_free(&l->door);
	conns_free(&l->conns);
	login_free(&l->services.login);
	fills_free(&l->services.fills);
	check_free(&l->services.check);
	registries_free(&l->services.registries);
	free(l->sets);
	secret_free(&l->services.secret);
	upstream_free(&l->services.upstream);
	count_index_failures(l);
	index_close(&l->services.index);
	store_close(&l->services.store);
	route_table_free(&l->routes);
	realms_free(&l->services.realms);
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
