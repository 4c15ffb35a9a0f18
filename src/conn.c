/* Client connections: events, reading ahead, closing. Limits of time are kept by one
 * sweep over all connections four times a second, which costs less than a timer each. */
#include "conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "clock.h"
#include "conn_private.h"
#include "log.h"
#include "tls.h"
#include "xalloc.h"

enum {
	SWEEP_MS = 250,
	LINGER_MS = 2000,
	LINGER_READS = 16, /* blocks that a lingering client may still send at a time */
};

/* --- receiving ------------------------------------------------------------------------------- */

/* As tls_read(): bytes, 0 at the end, TLS_WANT_…, TLS_BROKEN. */
static ssize_t
move_in(struct conn *c, void *p, size_t n)
{
	ssize_t got;

	if (c->tls != NULL)
		return tls_read(c->tls, p, n);
	do
		got = recv(c->fd, p, n, 0);
	while (got < 0 && errno == EINTR);
	if (got >= 0)
		return got;
	return errno == EAGAIN ? TLS_WANT_READ : TLS_BROKEN;
}

/* --- set -------------------------------------------------------------------------------------- */

static void
reap(evutil_socket_t fd, short what, void *arg)
{
	struct conns *s = arg;
	struct conn *c;

	(void)fd;
	(void)what;
	while ((c = LIST_FIRST(&s->closed)) != NULL) {
		LIST_REMOVE(c, link);
		free(c);
	}
}

static uint64_t
time_limit(const struct conn *c)
{
	const struct conn_limits *l = &c->set->limits;

	if (c->phase == CONN_LINGER && c->shut)
		return c->phase_since + LINGER_MS;
	if (conn_has_output(c))
		return c->moved + l->io_timeout_ms;
	switch ((enum conn_phase)c->phase) {
	case CONN_IDLE:
		return c->phase_since + l->keep_alive_ms;
	case CONN_READING:
		return c->phase_since + l->io_timeout_ms;
	default:
		return UINT64_MAX;
	}
}

static const char *
timeout_reason(const struct conn *c)
{
	if (c->phase == CONN_LINGER)
		return c->finish_reason;
	if (conn_has_output(c))
		return "client takes no bytes";
	return c->phase == CONN_IDLE ? "idle" : "request took too long";
}

static void
sweep(evutil_socket_t fd, short what, void *arg)
{
	struct conns *s = arg;
	struct conn *c, *next;
	uint64_t now = clock_ms();

	(void)fd;
	(void)what;
	for (c = LIST_FIRST(&s->open); c != NULL; c = next) {
		next = LIST_NEXT(c, link);
		if (now >= time_limit(c))
			conn_close(c, timeout_reason(c));
	}
}

struct conns *
conns_new(struct event_base *base, const struct conn_hooks *hooks, const struct conn_limits *limits)
{
	struct conns *s = xcalloc(1, sizeof(*s));
	struct timeval every = {0, SWEEP_MS * 1000};

	s->base = base;
	s->hooks = *hooks;
	s->limits = *limits;
	LIST_INIT(&s->open);
	LIST_INIT(&s->closed);
	conn_limits_init(s);
	s->reap = event_new(base, -1, 0, reap, s);
	s->sweep = event_new(base, -1, EV_PERSIST, sweep, s);
	if (s->reap == NULL || s->sweep == NULL || event_add(s->sweep, &every) != 0)
		panic("cannot make the connections' timers");
	return s;
}

void
conns_limit_idle(struct conns *s, uint64_t keep_alive_ms)
{
	if (keep_alive_ms < s->limits.keep_alive_ms)
		s->limits.keep_alive_ms = keep_alive_ms;
}

void
conns_free(struct conns **sp)
{
	struct conns *s = *sp;

	if (s == NULL)
		return;
	while (!LIST_EMPTY(&s->open))
		conn_close(LIST_FIRST(&s->open), "shutdown");
	reap(-1, 0, s);
	event_free(s->sweep);
	event_free(s->reap);
	conn_limits_free(s);
	free(s);
	*sp = NULL;
}

unsigned
conns_open(const struct conns *s)
{
	return s->count;
}

void
conns_each(struct conns *s, void (*each)(struct conn *c, void *arg), void *arg)
{
	struct conn *c, *next;

	for (c = LIST_FIRST(&s->open); c != NULL; c = next) {
		next = LIST_NEXT(c, link);
		each(c, arg);
	}
}

/* --- events ----------------------------------------------------------------------------------- */

static void
want_read(struct conn *c, bool on)
{
	if (c->reading == on)
		return;
	c->reading = on;
	if (on)
		event_add(&c->read_event, NULL);
	else
		event_del(&c->read_event);
}

/* Stays armed over the turns of a long body, which saves two system calls a turn. */
void
conn_want_write(struct conn *c, bool on)
{
	if (c->write_armed == on)
		return;
	c->write_armed = on;
	if (on)
		event_add(&c->write_event, NULL);
	else
		event_del(&c->write_event);
}

/* What a lingering client still sends is read and thrown away. */
static void
linger_input(struct conn *c)
{
	for (int i = 0; i < LINGER_READS; i++) {
		ssize_t n = move_in(c, c->set->scratch, sizeof(c->set->scratch));

		if (n == TLS_WANT_READ || n == TLS_WANT_WRITE)
			return;
		if (n <= 0) {
			conn_close(c, c->finish_reason);
			return;
		}
	}
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	size_t held = buf_len(&c->in), room = c->set->limits.input_bytes;
	ssize_t n;

	(void)fd;
	(void)what;
	if (c->phase == CONN_LINGER) {
		linger_input(c);
		return;
	}
	if (held >= room) {
		want_read(c, false);
		return;
	}
	room -= held;
	n = move_in(
	    c, c->set->scratch, room < sizeof(c->set->scratch) ? room : sizeof(c->set->scratch));
	if (n == TLS_WANT_READ)
		return;
	if (n == TLS_WANT_WRITE) {
		conn_want_write(c, true);
		return;
	}
	if (n <= 0) {
		conn_close(c, n == 0 ? "client closed" : "client connection broke");
		return;
	}
	buf_append(&c->in, c->set->scratch, (size_t)n);
	c->set->hooks.input(c);
	if (c->phase != CONN_CLOSED && c->tls != NULL && tls_pending(c->tls))
		event_active(&c->read_event, EV_READ, 1);
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;

	(void)fd;
	(void)what;
	if (!conn_has_output(c) && c->tls != NULL) /* a handshake that wanted to write */
		event_active(&c->read_event, EV_READ, 1);
	if (!conn_flush(c))
		return;
	if (c->phase != CONN_LINGER)
		c->set->hooks.drained(c);
	if (c->phase != CONN_CLOSED && !conn_has_output(c) && !c->kicked)
		conn_want_write(c, false);
	c->kicked = false;
}

/* --- life ------------------------------------------------------------------------------------- */

struct conn *
conn_new(struct conns *s, int fd, struct tls *tls, const struct sockaddr *peer)
{
	struct conn *c = xcalloc(1, sizeof(*c));
	int on = 1;

	c->set = s;
	c->fd = fd;
	c->tls = tls;
	c->file_fd = -1;
	c->phase = CONN_READING;
	c->phase_since = c->moved = clock_ms();
	conn_address_text(peer, c->address);
	setsockopt(
	    fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* fails on a Unix socket, harmlessly */
	event_assign(&c->read_event, s->base, fd, EV_READ | EV_PERSIST, on_readable, c);
	event_assign(&c->write_event, s->base, fd, EV_WRITE | EV_PERSIST, on_writable, c);
	LIST_INSERT_HEAD(&s->open, c, link);
	conn_note_phase(c);
	s->count++;
	want_read(c, true);
	return c;
}

void
conn_close(struct conn *c, const char *reason)
{
	if (c->phase == CONN_CLOSED)
		return;
	log_debug("conn %s: closed while %s: %s", c->address,
	    conn_phase_name((enum conn_phase)c->phase), reason);
	c->phase = CONN_CLOSED;
	event_del(&c->read_event);
	event_del(&c->write_event);
	conn_forget(c);
	c->set->hooks.gone(c, reason);
	tls_free(&c->tls);
	close(c->fd);
	c->fd = -1;
	buf_free(&c->in);
	buf_free(&c->out);
	LIST_REMOVE(c, link);
	LIST_INSERT_HEAD(&c->set->closed, c, link);
	c->set->count--;
	event_active(c->set->reap, EV_TIMEOUT, 1);
}

void
conn_finish(struct conn *c, const char *reason)
{
	if (c->phase == CONN_CLOSED)
		return;
	c->finish_reason = reason;
	conn_set_phase(c, CONN_LINGER);
	buf_free(&c->in);
	want_read(c, true);
	conn_flush(c);
}

void
conn_set_phase(struct conn *c, enum conn_phase p)
{
	if (c->phase == CONN_CLOSED)
		return;
	c->phase = (uint8_t)p;
	c->phase_since = clock_ms();
	conn_note_phase(c);
	if (p == CONN_IDLE) { /* an idle connection owns no buffers */
		if (buf_len(&c->in) == 0)
			buf_free(&c->in);
		if (!conn_has_output(c))
			buf_free(&c->out);
	}
}

enum conn_phase
conn_get_phase(const struct conn *c)
{
	return (enum conn_phase)c->phase;
}

const char *
conn_address(const struct conn *c)
{
	return c->address;
}

void
conn_set_secure(struct conn *c)
{
	c->secure = true;
}

bool
conn_is_secure(const struct conn *c)
{
	return c->secure || c->tls != NULL;
}

const struct tls *
conn_tls(const struct conn *c)
{
	return c->tls;
}

struct buf *
conn_input(struct conn *c)
{
	return &c->in;
}

size_t
conn_seen(const struct conn *c)
{
	return c->seen;
}

void
conn_set_seen(struct conn *c, size_t n)
{
	c->seen = n;
}

void
conn_consumed(struct conn *c)
{
	c->seen = 0;
	if (c->phase != CONN_CLOSED && buf_len(&c->in) < c->set->limits.input_bytes)
		want_read(c, true);
}

/* --- the user's pointers ---------------------------------------------------------------------- */

void
conn_set_user(struct conn *c, void *user)
{
	c->user = user;
}

void *
conn_user(const struct conn *c)
{
	return c->user;
}

void *
conns_user(const struct conn *c)
{
	return c->set->user;
}

void
conns_set_user(struct conns *s, void *user)
{
	s->user = user;
}
