/* The server of metrics and health: heads are read by http.c and connections kept by conn.c, as those
 * of clients are. */
#include "metrics_server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/event.h>

#include "arena.h"
#include "conn.h"
#include "http.h"
#include "log.h"
#include "xalloc.h"

enum {
	ACCEPT_BATCH = 16,
	BACKLOG = 64,
	ARENA = 4 * METRICS_MAX_HEAD,
	DRAIN_IDLE_MS = 100,
};

static const struct timeval accept_pause = {.tv_sec = 1}; /* when there are no descriptors left */

struct metrics_server {
	struct metrics_ops ops;
	void *arg;
	struct conns *conns;
	struct event **listening; /* one a socket */
	unsigned n;
	struct event *again;
	bool draining;
};

/* --- answers ---------------------------------------------------------------------------------- */

static void
answer(struct conn *c, const struct http_head *h, bool close, int status, const char *type,
    struct buf *body)
{
	struct buf *out = conn_output(c);

	http_begin(out, status, close);
	if (status == 405)
		http_field(out, "Allow", "GET, HEAD");
	http_field(out, "Content-Type", type);
	http_field(out, "Cache-Control", "no-store");
	http_field_u64(out, "Content-Length", buf_len(body));
	http_end(out);
	if (h == NULL || h->method != HTTP_HEAD)
		buf_append(out, buf_data(body), buf_len(body));
	buf_free(body);
}

static void
answer_text(struct conn *c, const struct http_head *h, bool close, int status, const char *text)
{
	struct buf body = {0};

	buf_printf(&body, "%s", text);
	answer(c, h, close, status, "text/plain; charset=utf-8", &body);
}

static void
answer_health(struct conn *c, const struct http_head *h, bool close, const char *well,
    const char *why_not)
{
	answer_text(c, h, close, why_not == NULL ? 200 : 503, why_not == NULL ? well : why_not);
}

static void
answer_metrics(struct conn *c, const struct http_head *h, bool close, struct arena *arena)
{
	struct metrics_server *m = conns_user(c);
	enum metrics_format f = metrics_choose(http_header_joined(h, "Accept", arena));
	struct buf body = {0};

	m->ops.write(m->arg, f, &body);
	answer(c, h, close, 200, metrics_content_type(f), &body);
}

static bool
asks_for(const struct http_head *h, const char *path)
{
	return strncmp(h->target, path, strlen(path)) == 0 &&
	    strcspn(h->target, "?") == strlen(path);
}

static void
route(struct conn *c, const struct http_head *h, bool close, struct arena *arena)
{
	struct metrics_server *m = conns_user(c);

	if (h->method != HTTP_GET && h->method != HTTP_HEAD)
		answer_text(c, h, close, 405, "only GET and HEAD\n");
	else if (asks_for(h, "/metrics"))
		answer_metrics(c, h, close, arena);
	else if (asks_for(h, "/healthz"))
		answer_health(c, h, close, "alive\n", m->ops.not_alive(m->arg));
	else if (asks_for(h, "/readyz"))
		answer_health(c, h, close, "ready\n", m->ops.not_ready(m->arg));
	else
		answer_text(c, h, close, 404, "there are /metrics, /healthz and /readyz\n");
}

/* --- requests --------------------------------------------------------------------------------- */

static void
bad(struct conn *c, const char *why)
{
	struct buf body = {0};

	buf_printf(&body, "bad request: %s\n", why);
	answer(c, NULL, true, 400, "text/plain; charset=utf-8", &body);
	conn_finish(c, "bad request");
}

/* A request with a body has no business here: it is answered, but what follows is not read. */
static void
answer_one(struct conn *c, const struct http_head *h, struct arena *arena)
{
	const struct metrics_server *m = conns_user(c);
	bool keep = h->keep_alive && h->minor > 0 && !h->chunked && h->body_length == 0 && !m->draining;

	route(c, h, !keep, arena);
	if (keep)
		conn_set_phase(c, buf_len(conn_input(c)) > 0 ? CONN_READING : CONN_IDLE);
	else
		conn_finish(c, "answered");
}

/* False: there is no whole head, or no more is to be read. */
static bool
take_one(struct conn *c)
{
	struct buf *in = conn_input(c);
	struct http_head head;
	struct arena arena;
	const char *error = NULL;
	size_t consumed = 0;
	enum http_parse result;

	if (buf_len(in) == 0)
		return false;
	if (conn_get_phase(c) == CONN_IDLE)
		conn_set_phase(c, CONN_READING);
	arena_init(&arena, ARENA);
	result = http_parse_head(
	    (const char *)buf_data(in), buf_len(in), &arena, &head, &consumed, &error);
	if (result == HTTP_OK) {
		buf_consume(in, consumed);
		conn_consumed(c);
		answer_one(c, &head, &arena);
	} else if (result == HTTP_BAD || buf_len(in) >= METRICS_MAX_HEAD) {
		bad(c, result == HTTP_BAD ? error : "the head is too large");
	}
	arena_reset(&arena);
	return result == HTTP_OK;
}

/* The next request is read when the answer to the last one is gone: a client that only sends fills
 * no memory. */
static void
drive(struct conn *c)
{
	while (conn_get_phase(c) != CONN_CLOSED && conn_get_phase(c) != CONN_LINGER &&
	    !conn_has_output(c) && take_one(c))
		if (!conn_flush(c))
			return;
}

static void
on_input(struct conn *c)
{
	drive(c);
}

static void
on_gone(struct conn *c, const char *reason)
{
	(void)c;
	(void)reason;
}

static const struct conn_hooks hooks = {on_input, drive, on_gone};

/* --- connections ------------------------------------------------------------------------------ */

/* They are seen newest first, so the last one that is kept is the oldest. */
static void
note_oldest(struct conn *c, void *arg)
{
	struct conn **oldest = arg;

	if (!conn_has_output(c) || *oldest == NULL)
		*oldest = c;
}

static void
make_room(struct metrics_server *m)
{
	struct conn *oldest = NULL;

	if (conns_open(m->conns) < METRICS_CONNECTIONS)
		return;
	conns_each(m->conns, note_oldest, &oldest);
	conn_close(oldest, "there are newer ones");
}

static void
pause_accepting(struct metrics_server *m)
{
	log_warn("metrics: accept: %s", strerror(errno));
	for (unsigned i = 0; i < m->n; i++)
		event_del(m->listening[i]);
	event_add(m->again, &accept_pause);
}

static void
on_again(evutil_socket_t fd, short what, void *arg)
{
	struct metrics_server *m = arg;

	(void)fd;
	(void)what;
	for (unsigned i = 0; i < m->n && !m->draining; i++)
		event_add(m->listening[i], NULL);
}

static void
on_accept(evutil_socket_t listening, short what, void *arg)
{
	struct metrics_server *m = arg;

	(void)what;
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		struct sockaddr_storage peer;
		socklen_t size = sizeof(peer);
		int fd = accept4(
		    listening, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			make_room(m);
			conn_new(m->conns, fd, NULL, (struct sockaddr *)&peer);
		} else if (errno != EINTR && errno != ECONNABORTED) {
			if (errno != EAGAIN)
				pause_accepting(m);
			return;
		}
	}
}

static void
listen_on(struct metrics_server *m, struct event_base *base, const int *fds)
{
	m->listening = xcalloc(m->n, sizeof(struct event *));
	for (unsigned i = 0; i < m->n; i++) {
		m->listening[i] =
		    event_new(base, fds[i], EV_READ | EV_PERSIST, on_accept, m);
		if (m->listening[i] == NULL || listen(fds[i], BACKLOG) != 0 ||
		    event_add(m->listening[i], NULL) != 0)
			panic("cannot listen for who asks for metrics: %s", strerror(errno));
	}
}

struct metrics_server *
metrics_server_new(struct event_base *base, const int *fds, unsigned n,
    const struct metrics_ops *ops, void *arg)
{
	static const struct conn_limits limits = {
	    .keep_alive_ms = METRICS_IDLE_MS,
	    .io_timeout_ms = METRICS_HEAD_MS,
	    .input_bytes = METRICS_MAX_HEAD,
	};
	struct metrics_server *m = xcalloc(1, sizeof(*m));

	m->ops = *ops;
	m->arg = arg;
	m->n = n;
	m->conns = conns_new(base, &hooks, &limits);
	conns_set_user(m->conns, m);
	m->again = event_new(base, -1, 0, on_again, m);
	if (m->again == NULL)
		panic("cannot make an event");
	listen_on(m, base, fds);
	return m;
}

void
metrics_server_free(struct metrics_server **mp)
{
	struct metrics_server *m = *mp;

	if (m == NULL)
		return;
	conns_free(&m->conns);
	for (unsigned i = 0; i < m->n; i++)
		event_free(m->listening[i]);
	event_free(m->again);
	free(m->listening);
	free(m);
	*mp = NULL;
}

void
metrics_server_drain(struct metrics_server *m)
{
	m->draining = true;
	for (unsigned i = 0; i < m->n; i++)
		event_del(m->listening[i]);
	conns_limit_idle(m->conns, DRAIN_IDLE_MS);
}

unsigned
metrics_server_open(const struct metrics_server *m)
{
	return conns_open(m->conns);
}
