/* Limits of connections: the bandwidth of a client, over all its connections and all listeners, and who
 * is closed when there is no room for more. */
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "clock.h"
#include "conn_private.h"
#include "log.h"
#include "network.h"
#include "secret.h"
#include "shm.h"
#include "xalloc.h"

enum {
	PACE_MS = 10,         /* how exactly a pause is kept */
	BURST_PART = 10,      /* a burst is so much of a second */
	BURST_LEAST = 65536,  /* bytes */
	EVICT_AFTER_MS = 1000, /* a client has so long for its request, whoever else comes */
};

/* --- bandwidth -------------------------------------------------------------------------------- */

const uint8_t *
conn_client(struct conn *c)
{
	char client[NETWORK_CLIENT_SIZE];
	const char *text = network_client(c->address, client);
	uint8_t mac[SECRET_BYTES];

	if (c->has_key || c->set->secret == NULL)
		return c->key;
	secret_mac(c->set->secret, &text, 1, mac);
	memcpy(c->key, mac, sizeof(c->key));
	c->has_key = true;
	return c->key;
}

/* Those whose pause is over are written to again when their sockets take it. */
static void
on_pace(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval again = {0, PACE_MS * 1000};
	struct conns *s = arg;
	struct conn *c, *next;
	uint64_t now = clock_us();

	(void)fd;
	(void)what;
	for (c = TAILQ_FIRST(&s->paced); c != NULL; c = next) {
		next = TAILQ_NEXT(c, pace);
		if (now < c->paced_until)
			continue;
		TAILQ_REMOVE(&s->paced, c, pace);
		c->paced = false;
		conn_want_write(c, true);
	}
	if (!TAILQ_EMPTY(&s->paced))
		event_add(s->pacer, &again);
}

/* It is not the client that is slow. */
static void
pause_sending(struct conn *c, uint64_t now, uint64_t wait)
{
	static const struct timeval soon = {0, PACE_MS * 1000};
	struct conns *s = c->set;

	c->moved = clock_ms();
	c->paced_until = now + wait;
	if (!c->paced)
		TAILQ_INSERT_TAIL(&s->paced, c, pace);
	c->paced = true;
	conn_want_write(c, false);
	if (!event_pending(s->pacer, EV_TIMEOUT, NULL))
		event_add(s->pacer, &soon);
}

/* Not a few bytes at a time: half of a burst, or all there is. */
size_t
conn_may_send(struct conn *c, size_t n)
{
	const struct shm_rate *r = &c->set->bandwidth;
	const struct shm *shm = c->set->limits.shm;
	uint64_t now, left, wanted;

	if (r->per_second == 0)
		return n;
	now = clock_us();
	wanted = n < r->burst / 2 ? n : r->burst / 2;
	left = shm_rate_left(shm, RATE_BYTES, conn_client(c), r, now);
	if (left >= wanted)
		return n < left ? n : (size_t)left;
	pause_sending(c, now, shm_rate_wait(shm, RATE_BYTES, conn_client(c), r, now, wanted));
	return 0;
}

void
conn_was_sent(struct conn *c, size_t n)
{
	if (c->set->bandwidth.per_second > 0)
		shm_rate_spend(c->set->limits.shm, RATE_BYTES, conn_client(c), &c->set->bandwidth,
		    clock_us(), n);
}

/* --- who goes --------------------------------------------------------------------------------- */

void
conn_note_phase(struct conn *c)
{
	bool waits = c->phase == CONN_IDLE || c->phase == CONN_READING;

	if (c->waits)
		TAILQ_REMOVE(&c->set->waiting, c, wait);
	c->waits = waits;
	if (waits)
		TAILQ_INSERT_TAIL(&c->set->waiting, c, wait);
}

void
conn_forget(struct conn *c)
{
	if (c->waits)
		TAILQ_REMOVE(&c->set->waiting, c, wait);
	if (c->paced)
		TAILQ_REMOVE(&c->set->paced, c, pace);
	c->waits = c->paced = false;
}

bool
conns_evict(struct conns *s)
{
	struct conn *c = TAILQ_FIRST(&s->waiting);

	if (c == NULL || clock_ms() - c->phase_since < EVICT_AFTER_MS)
		return false;
	conn_close(c, "another client needs its place");
	return true;
}

/* --- set-up ----------------------------------------------------------------------------------- */

void
conn_limits_init(struct conns *s)
{
	uint64_t rate = s->limits.bandwidth, burst = rate / BURST_PART;

	TAILQ_INIT(&s->waiting);
	TAILQ_INIT(&s->paced);
	s->pacer = event_new(s->base, -1, 0, on_pace, s);
	if (s->pacer == NULL)
		panic("cannot make the connections' timers");
	if (s->limits.shm == NULL)
		return;
	s->secret = secret_new(shm_key(s->limits.shm));
	s->bandwidth = (struct shm_rate){rate, burst < BURST_LEAST ? BURST_LEAST : burst};
}

void
conn_limits_free(struct conns *s)
{
	event_free(s->pacer);
	secret_free(&s->secret);
}
