/* One call in a test of `upstream`. */
#include "trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "origin_stub.h"

struct event_base *trial_base;
struct upstream *trial_upstream;

struct upstream_config
trial_config(void)
{
	return (struct upstream_config){
	    .connect_timeout_ms = 10000,
	    .idle_timeout_ms = 15000,
	    .first_byte_timeout_ms = 15000,
	    .low_speed = 1,
	    .user_agent = "registry-cache-test",
	};
}

void
trial_change_limits(unsigned idle_ms, unsigned first_byte_ms)
{
	struct upstream_config config = trial_config();

	trial_end();
	config.idle_timeout_ms = idle_ms;
	config.first_byte_timeout_ms = first_byte_ms;
	trial_begin(&config);
}

void
trial_begin(const struct upstream_config *config)
{
	trial_base = event_base_new();
	trial_upstream = upstream_new(trial_base, config);
	if (trial_upstream == NULL)
		abort();
}

void
trial_end(void)
{
	upstream_free(&trial_upstream);
	event_base_free(trial_base);
}

static void
on_expired(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	*(bool *)arg = true;
}

bool
trial_run_while(bool (*test)(void *arg), void *arg)
{
	const struct timeval limit = {60, 0}; /* valgrind on a busy machine */
	bool expired = false;
	struct event *guard = evtimer_new(trial_base, on_expired, &expired);

	evtimer_add(guard, &limit);
	while (test(arg) && !expired)
		event_base_loop(trial_base, EVLOOP_ONCE);
	event_free(guard);
	return !expired;
}

static bool
is_unset(void *arg)
{
	return !*(const bool *)arg;
}

bool
trial_run_until(const bool *flag)
{
	return trial_run_while(is_unset, (void *)flag);
}

static void
take_head(void *arg, const struct upstream_answer *a)
{
	struct trial *t = arg;
	size_t used = 0, size = 2;

	for (size_t i = 0; i < a->nheaders; i++)
		size += strlen(a->headers[i].name) + strlen(a->headers[i].value) + 2;
	free(t->fields);
	t->fields = calloc(1, size);
	for (size_t i = 0; i < a->nheaders; i++)
		used += (size_t)sprintf(
		    t->fields + used, "%s=%s|", a->headers[i].name, a->headers[i].value);
	t->status = a->status;
	t->content_length = a->content_length;
	snprintf(t->digest, sizeof(t->digest), "%s",
	    a->registry_digest == NULL ? "none" : a->registry_digest);
	t->redirects = a->redirects;
	t->out_of_order |= t->heads > 0 || t->done || t->call == NULL;
	t->heads++;
	t->headed = true;
	if (t->on_head != NULL)
		t->on_head(t);
}

static void
take_data(void *arg, const void *p, size_t n)
{
	struct trial *t = arg;

	buf_append(&t->body, p, n);
	t->in_turn += n;
	if (t->in_turn > t->most_in_turn)
		t->most_in_turn = t->in_turn;
	t->out_of_order |= t->heads == 0 || t->done || t->call == NULL;
	if (t->on_data != NULL)
		t->on_data(t);
}

static void
take_turn(void *arg)
{
	struct trial *t = arg;

	t->out_of_order |= t->in_turn == 0 || t->done || t->call == NULL;
	t->in_turn = 0;
	t->turns++;
}

static void
take_done(void *arg, enum upstream_result r, const char *detail)
{
	struct trial *t = arg;

	t->out_of_order |= t->done || t->in_turn > 0 || t->call == NULL;
	t->dones++;
	t->done = true;
	t->result = r;
	snprintf(t->detail, sizeof(t->detail), "%s", detail);
	if (t->on_done != NULL)
		t->on_done(t);
	t->call = NULL;
}

static enum upstream_body
give_body(void *arg, void *to, size_t size, size_t *n)
{
	struct trial *t = arg;
	size_t left = strlen(t->upload) - t->upload_at;

	if (t->upload_fails)
		return UPSTREAM_BODY_FAIL;
	if (t->upload_waits)
		return UPSTREAM_BODY_WAIT;
	*n = left < t->piece ? left : t->piece;
	*n = *n < size ? *n : size;
	memcpy(to, t->upload + t->upload_at, *n);
	t->upload_at += *n;
	return UPSTREAM_BODY_DATA;
}

void
trial_want(struct trial *t, const char *host, const char *target)
{
	memset(t, 0, sizeof(*t));
	t->r = (struct upstream_request){
	    .method = "GET",
	    .scheme = "http",
	    .host = host,
	    .target = target,
	    .range_first = -1,
	    .range_last = -1,
	};
	t->fields = calloc(1, 1);
	t->upload = "";
	t->piece = 65536;
}

void
trial_start(struct trial *t)
{
	static const struct upstream_ops ops = {
	    .head = take_head,
	    .data = take_data,
	    .done = take_done,
	    .body = give_body,
	    .turn = take_turn,
	};

	t->call = upstream_start(trial_upstream, &t->r, &ops, t);
	t->out_of_order |= t->heads > 0 || t->done;
}

bool
trial_go(struct trial *t)
{
	trial_start(t);
	return trial_run_until(&t->done) && t->dones == 1 && !t->out_of_order;
}

bool
trial_body_is(const struct trial *t, const char *text)
{
	return buf_len(&t->body) == strlen(text) &&
	    (*text == '\0' || memcmp(buf_data(&t->body), text, strlen(text)) == 0);
}

bool
trial_body_is_pattern(const struct trial *t, size_t n)
{
	for (size_t i = 0; i < n && i < buf_len(&t->body); i++)
		if (buf_data(&t->body)[i] != origin_pattern(i))
			return false;
	return buf_len(&t->body) == n;
}

void
trial_free(struct trial *t)
{
	buf_free(&t->body);
	free(t->fields);
	t->fields = NULL;
}
