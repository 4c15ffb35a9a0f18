/* `upstream`: pausing, turns, cancelling, and what callbacks may do. */
#include <stdlib.h>
#include <string.h>

#include <CUnit/CUnit.h>
#include <event2/event.h>

#include "origin_stub.h"
#include "trial.h"

enum { LARGE = 24 * 1024 * 1024, TURN = 512 * 1024 };

static struct origin *origin;

static void
answer(struct origin_conn *c, const struct origin_request *r)
{
	if (strcmp(r->target, "/large") == 0) {
		origin_send(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", LARGE);
		origin_write_pattern(c, 0, LARGE);
	} else if (strcmp(r->target, "/chunks") == 0) {
		origin_send(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
		for (size_t at = 0; at < LARGE; at += LARGE / 8) {
			origin_send(c, "%x\r\n", LARGE / 8);
			origin_write_pattern(c, at, LARGE / 8);
			origin_send(c, "\r\n");
		}
		origin_send(c, "0\r\n\r\n");
	} else if (strcmp(r->target, "/silent") == 0) {
		origin_wait(c);
	} else {
		origin_send(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
	}
}

static void
begin(void)
{
	struct upstream_config config = trial_config();

	origin = origin_start(answer);
	trial_begin(&config);
}

static void
end(void)
{
	trial_end();
	origin_stop(&origin);
}

static void
want(struct trial *t, const char *target)
{
	trial_want(t, origin_host(origin), target);
}

static void
expect_whole(const char *target)
{
	struct trial t;

	want(&t, target);
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
	CU_ASSERT(trial_body_is_pattern(&t, LARGE));
	CU_ASSERT(t.most_in_turn <= TURN);
	CU_ASSERT(t.turns >= LARGE / TURN);
	trial_free(&t);
}

static void
test_large_bodies_come_in_turns_of_512_kib(void)
{
	expect_whole("/large");
	expect_whole("/chunks");
}

/* --- pausing --- */

struct pauser {
	struct trial t;
	size_t seen;
	bool paused, was_paused, moved;
	struct event *timer;
};

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct pauser *p = arg;

	(void)fd;
	(void)what;
	p->moved |= buf_len(&p->t.body) != p->seen;
	p->paused = false;
	if (p->t.call != NULL)
		upstream_resume(p->t.call);
	p->moved |= buf_len(&p->t.body) != p->seen; /* not from inside upstream_resume() */
}

/* In the middle, for longer than the time limit. */
static void
pause_once(struct trial *t)
{
	static const struct timeval longer_than_idle = {3, 0};
	struct pauser *p = t->other;

	p->moved |= p->paused;
	if (p->was_paused || buf_len(&t->body) < LARGE / 2)
		return;
	p->was_paused = p->paused = true;
	p->seen = buf_len(&t->body);
	upstream_pause(t->call);
	evtimer_add(p->timer, &longer_than_idle);
}

static void
start_pauser(struct pauser *p, const char *target)
{
	*p = (struct pauser){0};
	p->timer = evtimer_new(trial_base, on_timer, p);
	want(&p->t, target);
	p->t.on_data = pause_once;
	p->t.other = p;
	trial_start(&p->t);
}

static void
expect_pause(struct pauser *p)
{
	CU_ASSERT(trial_run_until(&p->t.done));
	CU_ASSERT_EQUAL(p->t.result, UPSTREAM_OK);
	CU_ASSERT(p->was_paused);
	CU_ASSERT_FALSE(p->moved || p->t.out_of_order);
	CU_ASSERT(trial_body_is_pattern(&p->t, LARGE));
	event_free(p->timer);
	trial_free(&p->t);
}

static void
test_a_paused_call_gets_nothing_and_is_not_broken(void)
{
	struct pauser large, chunks;

	trial_change_limits(2000, 15000);
	start_pauser(&large, "/large");
	start_pauser(&chunks, "/chunks");
	expect_pause(&large);
	expect_pause(&chunks);
}

static void
pause_and_resume(struct trial *t)
{
	upstream_pause(t->call);
	upstream_resume(t->call);
	upstream_pause(t->call);
	upstream_resume(t->call);
}

static void
test_pause_and_resume_in_one_callback(void)
{
	struct trial t;

	want(&t, "/large");
	t.on_data = t.on_head = pause_and_resume;
	CU_ASSERT(trial_go(&t));
	CU_ASSERT(trial_body_is_pattern(&t, LARGE));
	trial_free(&t);
}

static void
pause_at_head(struct trial *t)
{
	upstream_pause(t->call);
}

static void
test_a_small_answer_waits_for_its_pause_too(void)
{
	struct trial t, other;

	want(&t, "/small");
	t.on_head = pause_at_head;
	trial_start(&t);
	CU_ASSERT(trial_run_until(&t.headed));
	want(&other, "/small");
	CU_ASSERT(trial_go(&other)); /* turns of the loop go by */
	CU_ASSERT_FALSE(t.done);
	CU_ASSERT_EQUAL(buf_len(&t.body), 0);
	upstream_resume(t.call);
	CU_ASSERT(trial_run_until(&t.done));
	CU_ASSERT(trial_body_is(&t, "hello"));
	trial_free(&t);
	trial_free(&other);
}

/* --- cancelling --- */

static void
cancel_own(struct trial *t)
{
	upstream_cancel(&t->call);
}

/* No callback comes after; other calls are not disturbed. */
static void
expect_silence_after_cancel(struct trial *t)
{
	struct trial other;
	unsigned heads = t->heads, turns = t->turns;
	size_t bytes = buf_len(&t->body);

	CU_ASSERT_PTR_NULL(t->call);
	for (int i = 0; i < 3; i++) {
		want(&other, "/small");
		CU_ASSERT(trial_go(&other));
		CU_ASSERT_EQUAL(other.result, UPSTREAM_OK);
		trial_free(&other);
	}
	CU_ASSERT_FALSE(t->done);
	CU_ASSERT_FALSE(t->out_of_order);
	CU_ASSERT_EQUAL(t->heads, heads);
	CU_ASSERT_EQUAL(t->turns, turns);
	CU_ASSERT_EQUAL(buf_len(&t->body), bytes);
	trial_free(t);
}

static void
test_cancel_before_anything_happened(void)
{
	struct trial t;

	want(&t, "/small");
	trial_start(&t);
	upstream_cancel(&t.call);
	expect_silence_after_cancel(&t);
	CU_ASSERT_EQUAL(t.heads, 0);
}

static void
test_cancel_of_nothing(void)
{
	struct upstream_call *none = NULL;

	upstream_cancel(&none);
	CU_ASSERT_PTR_NULL(none);
}

static void
test_cancel_from_head(void)
{
	struct trial t;

	want(&t, "/large");
	t.on_head = cancel_own;
	trial_start(&t);
	CU_ASSERT(trial_run_until(&t.headed));
	expect_silence_after_cancel(&t);
}

static bool
has_call(void *arg)
{
	return ((struct trial *)arg)->call != NULL;
}

static void
test_cancel_from_data(void)
{
	struct trial t;

	want(&t, "/large");
	t.on_data = cancel_own;
	trial_start(&t);
	CU_ASSERT(trial_run_while(has_call, &t));
	CU_ASSERT(buf_len(&t.body) > 0);
	expect_silence_after_cancel(&t);
}

static void
test_cancel_from_done(void)
{
	struct trial t, next;

	want(&t, "/small");
	t.on_done = cancel_own;
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
	want(&next, "/small");
	CU_ASSERT(trial_go(&next));
	CU_ASSERT_EQUAL(t.dones, 1);
	trial_free(&t);
	trial_free(&next);
}

static void
cancel_other(struct trial *t)
{
	struct trial *other = t->other;

	upstream_cancel(&other->call);
}

static void
test_cancel_of_another_call(void)
{
	struct trial t, other;

	want(&other, "/silent");
	trial_start(&other);
	want(&t, "/small");
	t.on_head = cancel_other;
	t.other = &other;
	CU_ASSERT(trial_go(&t));
	CU_ASSERT_EQUAL(t.result, UPSTREAM_OK);
	expect_silence_after_cancel(&other);
	trial_free(&t);
}

static void
start_other(struct trial *t)
{
	struct trial *other = t->other;

	trial_start(other);
}

static void
expect_start_from(bool data)
{
	struct trial t, other;

	want(&other, "/small");
	want(&t, "/small");
	t.other = &other;
	if (data)
		t.on_data = start_other;
	else
		t.on_done = start_other;
	CU_ASSERT(trial_go(&t));
	CU_ASSERT(trial_run_until(&other.done));
	CU_ASSERT(trial_body_is(&other, "hello"));
	CU_ASSERT_FALSE(other.out_of_order);
	trial_free(&t);
	trial_free(&other);
}

static void
test_a_call_starts_from_a_callback(void)
{
	expect_start_from(true);
	expect_start_from(false);
}

static void
test_many_calls_at_once(void)
{
	enum { MANY = 64 };
	struct trial t[MANY];

	for (int i = 0; i < MANY; i++) {
		want(&t[i], "/small");
		trial_start(&t[i]);
	}
	for (int i = 0; i < MANY; i++) {
		CU_ASSERT(trial_run_until(&t[i].done));
		CU_ASSERT_EQUAL(t[i].result, UPSTREAM_OK);
		CU_ASSERT(trial_body_is(&t[i], "hello"));
		trial_free(&t[i]);
	}
}

static void
test_free_with_calls_in_flight(void)
{
	struct upstream_config config = trial_config();
	struct trial fresh, silent, large;

	want(&large, "/large");
	large.on_head = pause_at_head;
	trial_start(&large);
	want(&silent, "/silent");
	trial_start(&silent);
	CU_ASSERT(trial_run_until(&large.headed));
	want(&fresh, "/small");
	trial_start(&fresh);
	upstream_free(&trial_upstream);
	CU_ASSERT_PTR_NULL(trial_upstream);
	event_base_loop(trial_base, EVLOOP_NONBLOCK);
	CU_ASSERT_FALSE(fresh.done || silent.done || large.done);
	CU_ASSERT_EQUAL(fresh.heads + silent.heads, 0);
	trial_free(&large);
	trial_free(&silent);
	trial_free(&fresh);
	event_base_free(trial_base);
	trial_begin(&config);
}

void
add_upstream_flow_suite(void)
{
	CU_pSuite s = CU_add_suite_with_setup_and_teardown("upstream-flow", NULL, NULL, begin, end);

	CU_ADD_TEST(s, test_large_bodies_come_in_turns_of_512_kib);
	CU_ADD_TEST(s, test_a_paused_call_gets_nothing_and_is_not_broken);
	CU_ADD_TEST(s, test_pause_and_resume_in_one_callback);
	CU_ADD_TEST(s, test_a_small_answer_waits_for_its_pause_too);
	CU_ADD_TEST(s, test_cancel_before_anything_happened);
	CU_ADD_TEST(s, test_cancel_of_nothing);
	CU_ADD_TEST(s, test_cancel_from_head);
	CU_ADD_TEST(s, test_cancel_from_data);
	CU_ADD_TEST(s, test_cancel_from_done);
	CU_ADD_TEST(s, test_cancel_of_another_call);
	CU_ADD_TEST(s, test_a_call_starts_from_a_callback);
	CU_ADD_TEST(s, test_many_calls_at_once);
	CU_ADD_TEST(s, test_free_with_calls_in_flight);
}
