/* The multi handle on the event loop: sockets, libcurl's timer, and the queue of calls that are
 * due. Every word to libcurl is said from an event of ours, never from one of its callbacks.
 */
#include "upstream.h"

#include <stdlib.h>

#include "log.h"
#include "upstream_private.h"
#include "xalloc.h"

enum { MAX_CONNECTIONS = 512 };

static unsigned users; /* of libcurl's global state in this process */

/* --- calls that are due --- */

void
upstream_schedule(struct upstream_call *c)
{
	static const struct timeval now = {0, 0};
	struct upstream *u = c->u;

	if (c->is_due)
		return;
	/* a timer: event_active() would go on in this turn, without a look at other sockets */
	if (u->ndue++ == 0)
		evtimer_add(u->next_turn, &now);
	TAILQ_INSERT_TAIL(&u->due, c, due_entry);
	c->is_due = true;
}

void
upstream_unschedule(struct upstream_call *c)
{
	if (!c->is_due)
		return;
	TAILQ_REMOVE(&c->u->due, c, due_entry);
	c->u->ndue--;
	c->is_due = false;
}

void
upstream_mark_turn(struct upstream_call *c)
{
	if (c->has_turned)
		return;
	c->has_turned = true;
	TAILQ_INSERT_TAIL(&c->u->turned, c, turn_entry);
	event_active(c->u->turn_end, EV_TIMEOUT, 0);
}

static void
on_turn_end(evutil_socket_t fd, short what, void *arg)
{
	struct upstream *u = arg;

	(void)fd;
	(void)what;
	while (!TAILQ_EMPTY(&u->turned))
		call_end_turn(TAILQ_FIRST(&u->turned));
}

/* --- libcurl on the loop --- */

static void
end_hops(struct upstream *u)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(u->multi, &left)) != NULL) {
		CURLcode code = m->data.result;
		struct upstream_call *c;

		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c);
		call_hop_ended(c, code);
	}
}

static void
act(struct upstream *u, curl_socket_t fd, int bits)
{
	int running;

	if (curl_multi_socket_action(u->multi, fd, bits, &running) != CURLM_OK)
		panic("libcurl's multi handle is broken");
	end_hops(u);
}

static void
on_next_turn(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval now = {0, 0};
	struct upstream *u = arg;

	(void)fd;
	(void)what;
	for (unsigned n = u->ndue; n > 0 && !TAILQ_EMPTY(&u->due); n--) {
		struct upstream_call *c = TAILQ_FIRST(&u->due);

		upstream_unschedule(c);
		call_step(c);
	}
	if (u->ndue > 0)
		evtimer_add(u->next_turn, &now);
	act(u, CURL_SOCKET_TIMEOUT, 0); /* what was added begins at once */
}

static void
on_curl_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static void
on_socket(evutil_socket_t fd, short what, void *arg)
{
	act(arg, fd,
	    (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static int
want_timer(CURLM *multi, long ms, void *arg)
{
	struct upstream *u = arg;
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};

	(void)multi;
	if (ms < 0)
		evtimer_del(u->curl_timer);
	else
		evtimer_add(u->curl_timer, &tv);
	return 0;
}

/* A socket's event is its libcurl "socket pointer". */
static int
want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *assigned)
{
	struct upstream *u = arg;
	struct event *ev = assigned;
	short events = EV_PERSIST;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (ev != NULL)
			event_free(ev);
		curl_multi_assign(u->multi, fd, NULL);
		return 0;
	}
	events |= what & CURL_POLL_IN ? EV_READ : 0;
	events |= what & CURL_POLL_OUT ? EV_WRITE : 0;
	if (ev == NULL) {
		ev = event_new(u->base, fd, events, on_socket, u);
	} else {
		event_del(ev);
		event_assign(ev, u->base, fd, events, on_socket, u);
	}
	if (ev == NULL || event_add(ev, NULL) != 0)
		panic("cannot watch a socket");
	curl_multi_assign(u->multi, fd, ev);
	return 0;
}

/* --- set-up --- */

static void
begin_libcurl(struct upstream *u)
{
	if (users++ == 0 && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		fatal("libcurl cannot be set up");
	u->multi = curl_multi_init();
	u->share = curl_share_init();
	if (u->multi == NULL || u->share == NULL)
		panic("cannot make a libcurl multi handle");
	curl_share_setopt(u->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	curl_multi_setopt(u->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	curl_multi_setopt(u->multi, CURLMOPT_SOCKETDATA, u);
	curl_multi_setopt(u->multi, CURLMOPT_TIMERFUNCTION, want_timer);
	curl_multi_setopt(u->multi, CURLMOPT_TIMERDATA, u);
	curl_multi_setopt(u->multi, CURLMOPT_MAXCONNECTS, (long)MAX_CONNECTIONS);
	curl_multi_setopt(u->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
}

/* The first handle shows whether this libcurl can do what is needed, and is kept. */
static bool
make_first_handle(struct upstream *u)
{
	struct upstream_call *c = xcalloc(1, sizeof(*c));

	c->u = u;
	c->easy = setup_easy(c);
	if (c->easy == NULL) {
		free(c);
		return false;
	}
	arena_init(&c->arena, UPSTREAM_ARENA);
	TAILQ_INSERT_HEAD(&u->idle, c, entry);
	u->nidle++;
	return true;
}

struct upstream *
upstream_new(struct event_base *base, const struct upstream_config *config)
{
	struct upstream *u = xcalloc(1, sizeof(*u));

	u->base = base;
	u->config = *config;
	u->user_agent = config->user_agent == NULL ? NULL : xstrdup(config->user_agent);
	TAILQ_INIT(&u->calls);
	TAILQ_INIT(&u->due);
	TAILQ_INIT(&u->turned);
	TAILQ_INIT(&u->idle);
	begin_libcurl(u);
	u->curl_timer = evtimer_new(base, on_curl_timer, u);
	u->next_turn = evtimer_new(base, on_next_turn, u);
	u->turn_end = evtimer_new(base, on_turn_end, u);
	u->watch = evtimer_new(base, watch_tick, u);
	if (u->curl_timer == NULL || u->next_turn == NULL || u->turn_end == NULL ||
	    u->watch == NULL)
		panic("cannot make events");
	u->trust = trust_new(config->ca_path, config->more_ca_path);
	if (u->trust == NULL || !make_first_handle(u))
		upstream_free(&u);
	return u;
}

static void
free_calls(struct upstream *u, struct call_list *list)
{
	while (!TAILQ_EMPTY(list)) {
		struct upstream_call *c = TAILQ_FIRST(list);

		TAILQ_REMOVE(list, c, entry);
		c->cancelled = true; /* libcurl may call back while it lets go */
		if (c->in_multi)
			curl_multi_remove_handle(u->multi, c->easy);
		call_free(c);
	}
}

void
upstream_free(struct upstream **up)
{
	struct upstream *u = *up;

	if (u == NULL)
		return;
	*up = NULL;
	free_calls(u, &u->calls);
	free_calls(u, &u->idle);
	curl_multi_cleanup(u->multi);
	curl_share_cleanup(u->share);
	event_free(u->curl_timer);
	event_free(u->next_turn);
	event_free(u->turn_end);
	event_free(u->watch);
	X509_STORE_free(u->trust);
	free(u->user_agent);
	free(u);
	if (--users == 0)
		curl_global_cleanup();
}
