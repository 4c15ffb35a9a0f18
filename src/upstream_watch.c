/* Our own time limits, by one tick for all calls: no answer's head for too long, or too slow for
 * too long. libcurl's own limits do not know that a call is paused by us or waits for its client;
 * only the connect limit is libcurl's.
 */
#include "clock.h"
#include "upstream_private.h"

enum { MAX_TICK_MS = 250, MIN_TICK_MS = 5, SLICE_MS = 1000, CONNECT_GRACE_MS = 1000 };

static unsigned
tick_ms(const struct upstream_config *c)
{
	unsigned ms = c->idle_timeout_ms < c->first_byte_timeout_ms ? c->idle_timeout_ms
								    : c->first_byte_timeout_ms;

	ms /= 8;
	if (ms > MAX_TICK_MS)
		return MAX_TICK_MS;
	return ms < MIN_TICK_MS ? MIN_TICK_MS : ms;
}

void
watch_arm(struct upstream *u)
{
	unsigned ms = tick_ms(&u->config);
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};

	if (!evtimer_pending(u->watch, NULL))
		evtimer_add(u->watch, &tv);
}

/* Times are set by the next tick, which is exact enough and costs a call no clock. */
void
watch_begin(struct upstream_call *c)
{
	c->begun = c->asked = 0;
	watch_restart(c);
}

void
watch_restart(struct upstream_call *c)
{
	c->slow_since = 0;
}

/* Too slow: no second with more than low_speed bytes, since idle_timeout_ms. */
static bool
too_slow(struct upstream_call *c, uint64_t now)
{
	const struct upstream_config *config = &c->u->config;
	unsigned slice =
	    config->idle_timeout_ms / 4 < SLICE_MS ? config->idle_timeout_ms / 4 : SLICE_MS;
	uint64_t elapsed;

	if (c->slow_since == 0) {
		c->slow_since = c->slice_start = now;
		c->slice_moved = c->moved;
		return false;
	}
	elapsed = now - c->slice_start;
	if (elapsed >= slice) {
		if ((c->moved - c->slice_moved) * 1000 > (uint64_t)config->low_speed * elapsed)
			c->slow_since = now;
		c->slice_start = now;
		c->slice_moved = c->moved;
	}
	return now - c->slow_since >= config->idle_timeout_ms;
}

/* When the request is out. 0: not yet. */
static uint64_t
asked_since(struct upstream_call *c, uint64_t now)
{
	curl_off_t out = 0;

	if (c->asked == 0) {
		curl_easy_getinfo(c->easy, CURLINFO_PRETRANSFER_TIME_T, &out);
		c->asked = out > 0 ? now : 0;
	}
	return c->asked;
}

/* What is wrong with the call by now; NULL: nothing. */
static const char *
check_before_head(struct upstream_call *c, uint64_t now)
{
	const struct upstream_config *config = &c->u->config;

	if (c->request.deadline_ms != 0 && c->body_ended && now >= c->request.deadline_ms)
		return "no answer in time";
	if (asked_since(c, now) == 0) {
		/* libcurl does not watch a handle that waits for another one's connection */
		if (now - c->begun > config->connect_timeout_ms + CONNECT_GRACE_MS)
			return "no connection in time";
		return NULL;
	}
	if (c->body_ended)
		return now - c->asked > config->first_byte_timeout_ms ? "no answer in time" : NULL;
	c->asked = now; /* the answer is waited for from the end of the upload */
	if (c->send_held)
		watch_restart(c);
	return too_slow(c, now) ? "the upload stands still" : NULL;
}

static const char *
check_after_head(struct upstream_call *c, uint64_t now)
{
	if (c->send_held && stream_upload_refused(c)) {
		c->resume_send = true;
		upstream_schedule(c);
	} else if (c->send_held) {
		watch_restart(c);
	}
	if (c->user_paused)
		watch_restart(c);
	return too_slow(c, now) ? "the transfer stands still" : NULL;
}

static void
watch_call(struct upstream_call *c, uint64_t now)
{
	const char *wrong;

	if (!c->in_multi || c->cancelled)
		return;
	if (c->begun == 0)
		c->begun = now;
	wrong = c->answered || c->next_url != NULL ? check_after_head(c, now)
						   : check_before_head(c, now);
	if (wrong == NULL)
		return;
	if (c->next_url == NULL) /* a redirect whose body stands still has said enough */
		call_fault(c, c->answered ? UPSTREAM_BROKEN : UPSTREAM_TIMEOUT, wrong);
	call_hop_ended(c, CURLE_OPERATION_TIMEDOUT);
}

void
watch_tick(evutil_socket_t fd, short what, void *arg)
{
	struct upstream *u = arg;
	uint64_t now = clock_ms();
	struct upstream_call *c, *next;

	(void)fd;
	(void)what;
	for (c = TAILQ_FIRST(&u->calls); c != NULL; c = next) {
		next = TAILQ_NEXT(c, entry); /* no callback frees another call */
		watch_call(c, now);
	}
	if (!TAILQ_EMPTY(&u->calls))
		watch_arm(u);
}
