/* One exchange with a registry. Its life:
 *
 *   state    meaning                                    goes to
 *   ASKING   a host is asked, its head is not there     ASKING: the next one; TOLD; LOCAL
 *   TOLD     ops->head was called                       ended by the host's own end
 *   LOCAL    an answer of ours is told, one callback a  ended
 *            turn of the loop
 */
#include "registry_hosts.h"

#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "arena.h"
#include "clock.h"
#include "log.h"
#include "registry_health.h"
#include "registry_limit.h"
#include "registry_metrics.h"
#include "secret.h"
#include "shm.h"
#include "xalloc.h"

enum {
	CALL_ARENA = 1024 * 1024, /* bytes: a request's head, and more */
	DOWN_FIRST_MS = 1000,
	PROBE_EXTRA_MS = 1000, /* that a probe is waited for, besides the time for an answer */
};

/* A registry's hosts, or the host of a request that is of none. */
struct set {
	const struct registry_set *config;
	struct upstream *upstream;
	bool own_upstream;
	struct health_host *health; /* one a host; not used without shared memory */
};

struct hosts {
	struct registries_config config;
	struct secret *secret; /* NULL without shared memory, and so are … */
	struct limits *limits; /* … these … */
	struct health *health; /* … two */
	struct set *sets;
};

enum call_state { ASKING, TOLD, LOCAL };
enum local_step { LOCAL_HEAD, LOCAL_BODY, LOCAL_DONE };

struct hosts_call {
	struct hosts *hs;
	struct upstream_ops ops;
	void *arg;
	enum call_state state;
	struct upstream_request r; /* our copy, for it may be asked again */
	const struct set *set;     /* NULL: r.host is all there is */
	bool reading;              /* it may be asked again, at another host */
	unsigned at;               /* which host is asked */
	uint32_t asked;            /* bits of those that were, or were passed over */
	uint64_t deadline, begun, slice; /* clock_ms, clock_ms, ms */
	struct upstream_call *call;
	struct limit_pass pass;
	struct health_host health;
	unsigned target; /* as a number of shm_metrics.h */
	bool ending; /* ops.done is running */

	/* how the last host failed; then, an answer of ours */
	enum upstream_result result;
	const char *detail;
	bool failed;
	struct event *timer;
	enum local_step step;
	struct limit_answer local;
	struct arena arena;
};

static void attempt(struct hosts_call *c);

/* --- the end ---------------------------------------------------------------------------------- */

static void
call_free(struct hosts_call *c)
{
	if (c->hs->health != NULL)
		health_let_go(c->hs->health, &c->health);
	if (c->timer != NULL)
		event_free(c->timer);
	if (c->r.authorization != NULL) /* our copy */
		explicit_bzero((char *)(uintptr_t)c->r.authorization, strlen(c->r.authorization));
	arena_reset(&c->arena);
	free(c);
}

static void
end(struct hosts_call *c, enum upstream_result r, const char *detail)
{
	c->ending = true;
	c->ops.done(c->arg, r, detail);
	call_free(c);
}

/* --- an answer of ours ------------------------------------------------------------------------ */

static void
arm(struct hosts_call *c)
{
	static const struct timeval now = {0, 0};

	if (event_add(c->timer, &now) != 0)
		panic("cannot add an event to the loop");
}

/* Armed again before the callback, which may cancel the call. */
static void
tell_local(evutil_socket_t fd, short what, void *arg)
{
	struct hosts_call *c = arg;

	(void)fd;
	(void)what;
	switch (c->step++) {
	case LOCAL_HEAD:
		arm(c);
		if (c->ops.head != NULL)
			c->ops.head(c->arg, &c->local.head);
		break;
	case LOCAL_BODY:
		arm(c);
		if (*c->local.body != '\0')
			c->ops.data(c->arg, c->local.body, strlen(c->local.body));
		break;
	case LOCAL_DONE:
		end(c, c->result, c->detail);
		break;
	}
}

static void
tell_from(struct hosts_call *c, enum local_step first)
{
	c->state = LOCAL;
	c->step = first;
	c->timer = evtimer_new(c->hs->config.base, tell_local, c);
	if (c->timer == NULL)
		panic("cannot make an event");
	arm(c);
}

static void
answer_locally(struct hosts_call *c)
{
	c->result = UPSTREAM_OK;
	c->detail = "";
	tell_from(c, LOCAL_HEAD);
}

static void
fail_locally(struct hosts_call *c)
{
	tell_from(c, LOCAL_DONE);
}

/* --- which host ------------------------------------------------------------------------------- */

static unsigned
count_of(const struct hosts_call *c)
{
	return c->set != NULL ? c->set->config->nhosts : 1;
}

static bool
is_down(const struct hosts_call *c, unsigned host)
{
	return c->set != NULL && c->hs->health != NULL &&
	    health_is_down(c->hs->health, &c->set->health[host]);
}

/* How many hosts are left that would be asked. */
static unsigned
hosts_left(const struct hosts_call *c)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count_of(c); i++)
		n += (c->asked >> i & 1) == 0 && !is_down(c, i);
	return n;
}

/* The one that was wished for, then those that are left, in their order. */
static bool
next_host(struct hosts_call *c)
{
	unsigned n = count_of(c), wish = c->r.first_host > 0 ? (c->r.first_host - 1) % n : 0;

	for (unsigned i = 0; i <= n; i++) {
		unsigned host = i == 0 ? wish : i - 1;

		if (c->asked >> host & 1)
			continue;
		c->asked |= 1u << host;
		c->at = host;
		return true;
	}
	return false;
}

static void
use_host(struct hosts_call *c)
{
	if (c->set != NULL) {
		c->r.scheme = c->set->config->scheme;
		c->r.host = c->set->config->hosts[c->at];
		c->health = c->set->health[c->at];
	} else if (c->hs->health != NULL) {
		health_host(c->hs->health, c->r.scheme, c->r.host, &c->health);
	}
}

static const struct upstream_ops relay;

/* The time that is left is shared with the hosts that are left: one that hangs does not use up what
 * the next needs. */
static void
ask_host(struct hosts_call *c)
{
	struct upstream_request r = c->r;
	unsigned left = hosts_left(c) + 1;

	c->begun = clock_ms();
	c->slice = c->deadline > c->begun ? (c->deadline - c->begun) / left : 0;
	r.deadline_ms = c->reading ? c->begun + c->slice : 0;
	if (c->at + 1 != r.if_range_host && c->set != NULL)
		r.if_range = NULL;
	c->call = upstream_start(
	    c->set != NULL ? c->set->upstream : c->hs->config.upstream, &r, &relay, c);
}

static void
note_failure(struct hosts_call *c, enum upstream_result r, const char *detail)
{
	c->failed = true;
	c->result = r;
	c->detail = arena_strdup(&c->arena, detail != NULL ? detail : "");
}

static bool
may_ask(struct hosts_call *c)
{
	enum upstream_result r;
	const char *detail;

	if (c->hs->health == NULL || health_ask(c->hs->health, &c->health, &c->arena, &r, &detail))
		return true;
	if (!c->failed || c->result == UPSTREAM_DOWN || c->result == UPSTREAM_SILENT)
		note_failure(c, r, detail);
	return false;
}

/* Asks the next host that may be asked. There is one callback at least, from the loop. */
static void
attempt(struct hosts_call *c)
{
	while (next_host(c)) {
		use_host(c);
		if (c->hs->limits != NULL &&
		    !limit_ask(c->hs->limits, &c->r, &c->pass, &c->arena, &c->local)) {
			answer_locally(c);
			return;
		}
		if (may_ask(c)) {
			ask_host(c);
			return;
		}
	}
	fail_locally(c);
}

static void
go_on(struct hosts_call *c)
{
	if (c->hs->config.shm != NULL)
		shm_count(c->hs->config.shm, c->hs->config.listener, COUNT_NEXT_HOSTS, 1);
	attempt(c);
}

/* --- what upstream tells ---------------------------------------------------------------------- */

static bool
can_go_on(const struct hosts_call *c)
{
	return c->reading && hosts_left(c) > 0 && clock_ms() < c->deadline;
}

/* Says no more of the object than no answer does. */
static bool
is_failure(int status)
{
	return status == 408 || (status >= 500 && status != 501);
}

static void
on_head(void *arg, const struct upstream_answer *a)
{
	struct hosts_call *c = arg;
	struct upstream_answer told = *a;

	measure_head(&c->hs->config, c->target, a);
	if (c->hs->limits != NULL)
		limit_note(c->hs->limits, &c->pass, a);
	if (c->hs->health != NULL)
		health_answered(c->hs->health, &c->health);
	if (is_failure(a->status) && can_go_on(c)) {
		log_info("registry %s://%s answered %d: its next host is asked", c->r.scheme,
		    c->r.host, a->status);
		upstream_cancel(&c->call);
		go_on(c);
		return;
	}
	c->state = TOLD;
	if (c->set != NULL) {
		told.host = c->at + 1;
		told.hosts = count_of(c);
		told.host_name = c->r.host;
	}
	if (c->ops.head != NULL)
		c->ops.head(c->arg, &told);
}

static void
on_data(void *arg, const void *p, size_t n)
{
	struct hosts_call *c = arg;

	measure_data(&c->hs->config, c->target, n);
	c->ops.data(c->arg, p, n);
}

/* A host that was given less than half of its time is not blamed for having used it up; one that
 * led elsewhere has answered. */
static void
note_health(struct hosts_call *c, enum upstream_result r, const char *detail, bool redirected)
{
	bool failed = r == UPSTREAM_CONNECT || r == UPSTREAM_TIMEOUT || r == UPSTREAM_UNTRUSTED;
	bool hurried = r == UPSTREAM_TIMEOUT && c->reading &&
	    c->slice < c->hs->config.first_byte_ms / (2 * count_of(c));

	if (c->hs->health == NULL)
		return;
	if (redirected || (!failed && r != UPSTREAM_BODY_FAILED))
		health_answered(c->hs->health, &c->health);
	else if (failed && !hurried)
		health_failed(c->hs->health, &c->health, r, detail);
	else
		health_let_go(c->hs->health, &c->health);
}

static void
on_done(void *arg, enum upstream_result r, const char *detail)
{
	struct hosts_call *c = arg;

	if (c->state == ASKING)
		note_health(c, r, detail, upstream_is_redirected(c->call));
	c->call = NULL;
	measure_end(&c->hs->config, c->target, r, c->state == TOLD);
	if (c->state == TOLD || r == UPSTREAM_BODY_FAILED || !can_go_on(c)) {
		end(c, r, detail);
		return;
	}
	log_info("registry %s://%s: %s: its next host is asked", c->r.scheme, c->r.host,
	    detail != NULL && *detail != '\0' ? detail : upstream_result_name(r));
	note_failure(c, r, detail);
	go_on(c);
}

static enum upstream_body
on_body(void *arg, void *to, size_t size, size_t *n)
{
	struct hosts_call *c = arg;

	return c->ops.body(c->arg, to, size, n);
}

static void
on_turn(void *arg)
{
	struct hosts_call *c = arg;

	if (c->ops.turn != NULL)
		c->ops.turn(c->arg);
}

static const struct upstream_ops relay = {on_head, on_data, on_done, on_body, on_turn};

/* --- set-up ----------------------------------------------------------------------------------- */

static bool
make_set(struct hosts *hs, struct set *set, const struct registry_set *config)
{
	struct upstream_config u;

	set->config = config;
	set->health = xcalloc(config->nhosts, sizeof(*set->health));
	for (unsigned i = 0; hs->health != NULL && i < config->nhosts; i++)
		health_host(hs->health, config->scheme, config->hosts[i], &set->health[i]);
	set->upstream = hs->config.upstream;
	if (config->ca_path == NULL)
		return true;
	u = *hs->config.upstream_config; /* connections of its own, so that trust is not mixed */
	u.more_ca_path = config->ca_path;
	set->upstream = upstream_new(hs->config.base, &u);
	set->own_upstream = set->upstream != NULL;
	return set->own_upstream;
}

static void
make_shared(struct hosts *hs)
{
	const struct registries_config *config = &hs->config;
	const struct health_rules rules = {
	    .after = config->down_after,
	    .first_ms = DOWN_FIRST_MS,
	    .most_ms = config->down_most_ms,
	    .hold_ms = config->first_byte_ms + PROBE_EXTRA_MS,
	};

	hs->secret = secret_new(shm_key(config->shm));
	hs->limits = limits_new(config->shm, config->listener, hs->secret, config->limit_unsaid_ms,
	    config->limit_most_ms);
	hs->health = health_new(config->shm, config->listener, hs->secret, &rules);
}

struct hosts *
hosts_new(const struct registries_config *config)
{
	struct hosts *hs = xcalloc(1, sizeof(*hs));
	bool ok = true;

	hs->config = *config;
	if (config->shm != NULL)
		make_shared(hs);
	hs->sets = xcalloc(config->nsets, sizeof(*hs->sets));
	for (unsigned i = 0; i < config->nsets; i++)
		ok &= make_set(hs, &hs->sets[i], &config->sets[i]);
	if (!ok)
		hosts_free(&hs);
	return hs;
}

void
hosts_free(struct hosts **hsp)
{
	struct hosts *hs = *hsp;

	if (hs == NULL)
		return;
	*hsp = NULL;
	for (unsigned i = 0; i < hs->config.nsets; i++) {
		if (hs->sets[i].own_upstream)
			upstream_free(&hs->sets[i].upstream);
		free(hs->sets[i].health);
	}
	free(hs->sets);
	health_free(&hs->health);
	limits_free(&hs->limits);
	secret_free(&hs->secret);
	free(hs);
}

/* --- callers ---------------------------------------------------------------------------------- */

static bool
is_reading(const struct upstream_request *r)
{
	return !r->has_body && (strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0);
}

static const char *
copy(struct arena *a, const char *s)
{
	return s != NULL ? arena_strdup(a, s) : NULL;
}

static void
copy_request(struct hosts_call *c, const struct upstream_request *r)
{
	struct upstream_header *h = arena_alloc(&c->arena, sizeof(*h) * (r->nheaders + 1));

	for (size_t i = 0; h != NULL && i < r->nheaders; i++)
		h[i] = (struct upstream_header){copy(&c->arena, r->headers[i].name),
		    copy(&c->arena, r->headers[i].value)};
	c->r.method = copy(&c->arena, r->method);
	c->r.scheme = copy(&c->arena, r->scheme);
	c->r.host = copy(&c->arena, r->host);
	c->r.target = copy(&c->arena, r->target);
	c->r.authorization = copy(&c->arena, r->authorization);
	c->r.if_range = copy(&c->arena, r->if_range);
	c->r.headers = h;
	if (arena_failed(&c->arena))
		panic("a request within limits does not fit into its copy");
}

struct upstream *
hosts_upstream(const struct hosts *hs, unsigned number)
{
	bool known = number > 0 && number <= hs->config.nsets;

	return known ? hs->sets[number - 1].upstream : hs->config.upstream;
}

struct hosts_call *
hosts_start(struct hosts *hs, const struct upstream_request *r, const struct upstream_ops *ops,
    void *arg)
{
	struct hosts_call *c = xcalloc(1, sizeof(*c));

	c->hs = hs;
	c->ops = *ops;
	c->arg = arg;
	c->r = *r;
	c->reading = is_reading(r);
	c->deadline =
	    r->deadline_ms != 0 ? r->deadline_ms : clock_ms() + hs->config.first_byte_ms;
	if (r->registry > 0 && r->registry <= hs->config.nsets)
		c->set = &hs->sets[r->registry - 1];
	c->target = measure_target(&hs->config, r);
	arena_init(&c->arena, CALL_ARENA);
	copy_request(c, r);
	attempt(c);
	return c;
}

void
hosts_pause(struct hosts_call *c)
{
	if (c->call != NULL)
		upstream_pause(c->call);
}

void
hosts_resume(struct hosts_call *c)
{
	if (c->call != NULL)
		upstream_resume(c->call);
}

void
hosts_cancel(struct hosts_call **cp)
{
	struct hosts_call *c = *cp;

	*cp = NULL;
	if (c == NULL || c->ending)
		return;
	upstream_cancel(&c->call);
	call_free(c);
}
