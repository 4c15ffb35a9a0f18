/* What gc tells whoever asks for metrics and health: it lives as long as the master, has the index
 * open, and nothing that it does takes long. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "child.h"
#include "clock.h"
#include "conf.h"
#include "gc_private.h"
#include "index.h"
#include "log.h"
#include "metrics.h"
#include "metrics_server.h"
#include "store.h"
#include "xalloc.h"

enum {
	PROBE_MS = 1000,        /* how long the last look at the store is good for */
	MASTER_SILENT_MS = 30000,
	LEAVE_LOOK_MS = 50, LEAVE_MS = 1000, /* answers that are on their way when gc is replaced */
	REASON_SIZE = 512,
};

struct gc_metrics {
	struct gc *gc;
	struct metrics_server *server;
	struct event *leave;
	uint64_t leave_by, probed_ms; /* clock_ms */
	int store_errno;              /* what the last look at the store found; 0: it can be written */
	char reason[REASON_SIZE];
};

/* --- listeners -------------------------------------------------------------------------------- */

static bool
is_up(const struct gc *g, unsigned listener, uint64_t now)
{
	const struct shm *s = g->start->shm;

	return shm_child_generation(s, listener) != 0 && shm_child_state(s, listener) == CHILD_READY &&
	    now <= shm_last_heartbeat(s, listener) + g->start->conf->server.heartbeat_timeout;
}

static unsigned
listeners_up(const struct gc *g)
{
	uint64_t now = clock_ms();
	unsigned n = 0;

	for (unsigned i = 0; i < shm_listeners(g->start->shm); i++)
		n += is_up(g, i, now);
	return n;
}

/* --- health ----------------------------------------------------------------------------------- */

static const char *
not_alive(void *arg)
{
	const struct gc_metrics *m = arg;
	struct metric_cache c;

	shm_metric_cache(m->gc->start->shm, &c);
	return clock_ms() > c.master_beat_ms + MASTER_SILENT_MS ? "the master stands still\n" : NULL;
}

static void
add_reason(struct gc_metrics *m, const char *text)
{
	size_t n = strlen(m->reason);

	snprintf(m->reason + n, REASON_SIZE - n, "%s\n", text);
}

static void
look_at_listeners(struct gc_metrics *m)
{
	struct metric_cache c;
	unsigned up = listeners_up(m->gc);
	char text[80];

	shm_metric_cache(m->gc->start->shm, &c);
	if (c.wanted > 0 && up >= c.wanted)
		return;
	snprintf(text, sizeof(text), "%u of %" PRIu64 " listeners are ready", up, c.wanted);
	add_reason(m, text);
}

static void
look_at_store(struct gc_metrics *m)
{
	struct gc *g = m->gc;
	uint64_t now = clock_ms();
	char text[120];

	if (m->probed_ms == 0 || now >= m->probed_ms + PROBE_MS) {
		m->probed_ms = now;
		m->store_errno = 0;
		if (g->store == NULL)
			m->store_errno = ENOENT;
		else if (!store_is_writable(g->store))
			m->store_errno = errno;
	}
	if (m->store_errno == 0)
		return;
	snprintf(text, sizeof(text), "the store cannot be written: %s", strerror(m->store_errno));
	add_reason(m, text);
}

static const char *
not_ready(void *arg)
{
	struct gc_metrics *m = arg;
	const char *dead = not_alive(arg);

	snprintf(m->reason, sizeof(m->reason), "%s", dead != NULL ? dead : "");
	look_at_listeners(m);
	look_at_store(m);
	if (m->gc->ix == NULL)
		add_reason(m, "the index is not open");
	return m->reason[0] != '\0' ? m->reason : NULL;
}

/* --- all of them ------------------------------------------------------------------------------- */

static void
write_metrics(void *arg, enum metrics_format format, struct buf *out)
{
	struct gc *g = ((struct gc_metrics *)arg)->gc;
	struct metric_sum *sum = shm_metric_sum(g->start->shm);
	struct metrics_values v = {
	    .sum = sum,
	    .now = (uint64_t)clock_wall(),
	    .ready = not_ready(arg) == NULL,
	    .listeners_ready = listeners_up(g),
	    .fills_running = shm_fills_running(g->start->shm),
	    .fills_limit = g->start->conf->server.workers,
	    .connections = shm_connections(g->start->shm),
	};

	for (enum shm_counter c = 0; c < COUNT_MAX; c++)
		v.counters[c] = shm_counter_sum(g->start->shm, c);
	shm_metric_cache(g->start->shm, &v.cache);
	shm_disk_use(g->start->shm, &v.disk);
	v.evicted_unused = shm_disk_evicted_age(g->start->shm);
	v.has_index = g->ix != NULL && index_get_stats(g->ix, &v.index) == INDEX_OK;
	metrics_write(&v, format, out);
	free(sum);
}

/* --- life ------------------------------------------------------------------------------------- */

static void
leave(const struct gc_metrics *m)
{
	if (m == NULL || metrics_server_open(m->server) == 0 || clock_ms() >= m->leave_by) {
		log_flush();
		_exit(0);
	}
}

static void
on_leave(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	leave(arg);
}

void
gc_metrics_begin(struct gc *g)
{
	static const struct metrics_ops ops = {write_metrics, not_alive, not_ready};
	struct gc_metrics *m;

	if (g->start->nlisten == 0)
		return;
	m = g->metrics = xcalloc(1, sizeof(*m));
	m->gc = g;
	m->server = metrics_server_new(g->base, g->start->listen_fds, g->start->nlisten, &ops, m);
	m->leave = event_new(g->base, -1, EV_PERSIST, on_leave, m);
	if (m->leave == NULL)
		panic("cannot make an event");
}

void
gc_metrics_leave(struct gc *g)
{
	static const struct timeval look = {.tv_usec = LEAVE_LOOK_MS * 1000};
	struct gc_metrics *m = g->metrics;

	if (m != NULL) {
		metrics_server_drain(m->server);
		m->leave_by = clock_ms() + LEAVE_MS;
		event_add(m->leave, &look);
	}
	leave(m);
}

void
gc_metrics_end(struct gc *g)
{
	if (g->metrics == NULL)
		return;
	metrics_server_free(&g->metrics->server);
	event_free(g->metrics->leave);
	free(g->metrics);
	g->metrics = NULL;
}
