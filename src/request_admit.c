/* Who may go on: the rate of a client's requests, and a place among the bodies in flight
 * (server.streamers), which goes to the client that had one longest ago. */
#include <inttypes.h>

#include "clock.h"
#include "request_private.h"
#include "shm.h"

/* --- requests --------------------------------------------------------------------------------- */

bool
request_is_too_many(struct request *req)
{
	struct services *s = req->s;
	uint64_t wait_us;

	if (s->request_rate.per_second == 0 ||
	    shm_rate_take(s->shm, RATE_REQUESTS, conn_client(req->conn), &s->request_rate, clock_us(),
		&wait_us))
		return false;
	req->retry_after = (unsigned)(wait_us / 1000000 + 1);
	shm_count(s->shm, s->listener, COUNT_TOO_MANY, 1);
	(void)request_fail(req, 429, "TOOMANYREQUESTS",
	    "more than %" PRIu64 " requests a second came from this client",
	    s->request_rate.per_second);
	return true;
}

/* --- bodies ----------------------------------------------------------------------------------- */

void
request_release_place(struct request *req)
{
	if (req->has_place)
		shm_body_end(req->s->shm, req->s->listener);
	req->has_place = false;
}

/* Who comes while others wait is not let in before them. */
static bool
take_place(struct request *req)
{
	struct services *s = req->s;

	if (!s->admitting && !TAILQ_EMPTY(&s->waiting))
		return false;
	req->has_place = shm_body_begin(s->shm, s->listener, s->streamers);
	if (req->has_place)
		turns_served(&s->turns, req->client, clock_ms());
	return req->has_place;
}

enum step
step_admit(struct request *req)
{
	struct services *s = req->s;
	bool waited = req->waiting_ms != 0;

	if (req->in_admit)
		return STEP_WAIT;
	if (s->streamers == 0 || req->head.method == HTTP_HEAD || req->has_place) {
		request_goto(req, REQUEST_HEAD);
		return STEP_NEXT;
	}
	if (req->waiting_ms == 0) {
		req->waiting_ms = clock_ms();
		req->client = turns_client(conn_address(req->conn));
	}
	if (take_place(req)) {
		if (waited)
			request_measure_wait(req, true);
		request_goto(req, REQUEST_HEAD);
		return STEP_NEXT;
	}
	if (waited && clock_ms() - req->waiting_ms >= s->timeout_ms) {
		request_measure_wait(req, false);
		return request_fail(req, 503, "TOOMANYREQUESTS", "too many bodies are being sent");
	}
	TAILQ_INSERT_TAIL(&s->waiting, req, admit);
	req->in_admit = true;
	s->none_left = true;
	return STEP_WAIT;
}

/* NULL: nobody waits. */
static struct request *
next_in_turn(const struct services *s)
{
	struct request *req, *first = NULL;
	uint64_t due, lowest = UINT64_MAX;

	TAILQ_FOREACH(req, &s->waiting, admit)
	{
		due = turns_due(&s->turns, req->client, req->waiting_ms);
		if (due < lowest) {
			lowest = due;
			first = req;
		}
	}
	return first;
}

/* NULL: nobody has waited for too long. */
static struct request *
next_too_late(const struct services *s)
{
	struct request *req;
	uint64_t now = clock_ms();

	TAILQ_FOREACH(req, &s->waiting, admit)
	if (now - req->waiting_ms >= s->timeout_ms)
		return req;
	return NULL;
}

static void
try_again(struct services *s, struct request *req)
{
	TAILQ_REMOVE(&s->waiting, req, admit);
	req->in_admit = false;
	request_drive(req->conn);
}

void
requests_admit(struct services *s)
{
	struct request *req;

	if (s->admitting)
		return;
	s->admitting = true;
	s->none_left = false;
	while (!s->none_left && (req = next_in_turn(s)) != NULL)
		try_again(s, req);
	while ((req = next_too_late(s)) != NULL)
		try_again(s, req);
	s->admitting = false;
}
