/* One exchange with a registry as somebody. Its life:
 *
 *   state     meaning                                               goes to
 *   ASKING    a host is asked, its head is not there                TOLD, BEHIND
 *   BEHIND    a 401 that is not told: the rest of it goes by        TOKEN, ASKING, TELLING
 *   TOKEN     waits for a token                                     ASKING, TELLING
 *   TOLD      ops->head was called                                  ended by the host's own end
 *   TELLING   what the cache has to say instead, a callback a turn  ended
 */
#include "registry_auth.h"

#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "arena.h"
#include "clock.h"
#include "credential.h"
#include "http_basic.h"
#include "log.h"
#include "registry_demand.h"
#include "registry_hosts.h"
#include "registry_token.h"
#include "shm.h"
#include "xalloc.h"

enum { CALL_ARENA = 1024 * 1024, BEHIND_MAX = 64 * 1024, MOST_ASKED = 4 };

struct auths {
	struct registries_config config;
	struct hosts *hosts;
	struct secret *secret; /* NULL without shared memory … */
	struct tokens *tokens; /* … likewise: then every call is plain */
	struct demands demands;
};

enum call_state { ASKING, BEHIND, TOKEN, TOLD, TELLING };
/* With what the registry is asked. */
enum proof { PROOF_NONE, PROOF_BASIC, PROOF_TOKEN };

struct auth_call {
	struct auths *as;
	struct upstream_ops ops;
	void *arg;
	enum call_state state;
	enum upstream_asker asker;
	bool plain;  /* nothing is to be asked again: what follows is not used */
	bool paused; /* before there was a call to be paused */
	bool ending; /* ops.done is running */
	struct hosts_call *call;

	struct upstream_request r; /* our copy */
	const char *upstream;      /* scheme://host */
	const char *user, *basic, *refresh; /* who asks; NULL: as in struct token_want */
	const char *scope;
	enum proof proof;
	const char *token;
	struct token_want want; /* of `token`, or of the one that is waited for */
	struct token_wait *wait;
	unsigned asked, refused_tokens;
	bool gave_up; /* EXCHANGE: the registry's own word is told */
	size_t behind;

	/* TELLING */
	struct event *timer;
	bool head_told;
	int status; /* 0: no head, but … */
	enum upstream_result result;
	const char *detail;
	struct arena arena;
};

/* --- the end ---------------------------------------------------------------------------------- */

static void
wipe(const char *text)
{
	if (text != NULL)
		explicit_bzero((char *)(uintptr_t)text, strlen(text));
}

static void
call_free(struct auth_call *c)
{
	tokens_cancel(&c->wait);
	if (c->timer != NULL)
		event_free(c->timer);
	if (!c->plain) {
		wipe(c->token);
		wipe(c->basic);
		wipe(c->refresh);
	}
	arena_reset(&c->arena);
	free(c);
}

static void
end(struct auth_call *c, enum upstream_result r, const char *detail)
{
	c->ending = true;
	c->ops.done(c->arg, r, detail);
	call_free(c);
}

/* --- an answer of ours ------------------------------------------------------------------------ */

static void
tell_next(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval now = {0, 0};
	struct auth_call *c = arg;
	const struct upstream_answer a = {.status = c->status, .asker = c->asker};

	(void)fd;
	(void)what;
	if (c->status == 0 || c->head_told) {
		end(c, c->result, c->detail);
		return;
	}
	c->head_told = true;
	event_add(c->timer, &now); /* before the callback, which may cancel */
	if (c->ops.head != NULL)
		c->ops.head(c->arg, &a);
}

/* A head of this status (0: none) and this end, from the loop. */
static void
tell(struct auth_call *c, int status, enum upstream_result result, const char *detail)
{
	static const struct timeval now = {0, 0};

	c->state = TELLING;
	c->status = status;
	c->result = result;
	c->detail = detail != NULL ? arena_strdup(&c->arena, detail) : "";
	c->timer = evtimer_new(c->as->config.base, tell_next, c);
	if (c->timer == NULL || event_add(c->timer, &now) != 0)
		panic("cannot make an event");
}

/* --- asking ----------------------------------------------------------------------------------- */

static const struct upstream_ops relay;

static void
ask(struct auth_call *c, enum proof proof)
{
	struct upstream_request r = c->r;

	c->state = ASKING;
	c->proof = proof;
	c->asked++;
	c->behind = 0;
	r.authorization = proof == PROOF_BASIC ? c->basic
	    : proof == PROOF_TOKEN ? arena_printf(&c->arena, "Bearer %s", c->token)
				   : NULL;
	c->call = hosts_start(c->as->hosts, &r, &relay, c);
	if (c->paused)
		hosts_pause(c->call);
	if (proof == PROOF_TOKEN)
		wipe(r.authorization); /* it was copied */
}

static void
count_refusal(const struct auth_call *c, int status)
{
	if (c->asker == ASKER_HELD && (status == 401 || status == 403))
		shm_count(c->as->config.shm, c->as->config.listener, COUNT_HELD_REFUSED, 1);
}

/* The realm has no token for a client's own credential: the registry's word on it is told. */
static void
give_up(struct auth_call *c)
{
	c->gave_up = true;
	ask(c, PROOF_BASIC);
}

static void
on_token(void *arg, const struct token_answer *a)
{
	struct auth_call *c = arg;

	c->wait = NULL;
	if (a->outcome == TOKEN_GOT) {
		c->token = arena_strdup(&c->arena, a->token);
		ask(c, PROOF_TOKEN);
	} else if (c->asker == ASKER_CLIENT) {
		give_up(c);
	} else if (a->outcome == TOKEN_REFUSED) {
		count_refusal(c, 401);
		tell(c, 401, UPSTREAM_OK, NULL);
	} else {
		tell(c, 0, a->result == UPSTREAM_OK ? UPSTREAM_PROTOCOL : a->result, a->detail);
	}
}

static void
get_token(struct auth_call *c, const struct demand *d)
{
	c->want = (struct token_want){
	    .upstream = hosts_upstream(c->as->hosts, c->r.registry),
	    .registry = c->upstream,
	    .realm = {d->realm.scheme, d->realm.host, d->realm.target},
	    .service = d->service,
	    .scope = c->scope,
	    .user = c->user,
	    .basic = c->basic,
	    .refresh = c->refresh,
	};
	c->state = TOKEN;
	if (tokens_ask(c->as->tokens, &c->want, c->r.deadline_ms, &c->arena, &c->token, on_token, c,
		&c->wait))
		ask(c, PROOF_TOKEN);
}

/* By what is known of the registry. A client's own credential is told it first. */
static void
begin(struct auth_call *c)
{
	struct demand d;

	if (demands_get(&c->as->demands, c->upstream, &c->arena, &d) && d.kind == DEMAND_TOKEN)
		get_token(c, &d);
	else if (c->asker == ASKER_CLIENT || (d.kind == DEMAND_BASIC && c->basic != NULL))
		ask(c, PROOF_BASIC);
	else
		ask(c, PROOF_NONE);
}

/* --- a 401 ------------------------------------------------------------------------------------ */

/* The realm that the configuration names besides the registry's own; NULL: none. */
static const char *
named_realm(const struct auth_call *c)
{
	unsigned n = c->r.registry;

	return n > 0 && n <= c->as->config.nsets ? c->as->config.sets[n - 1].realm : NULL;
}

/* What the answer challenges for, and whether the realm may be told a credential. */
static void
read_demand(struct auth_call *c, const struct upstream_answer *a, struct demand *d)
{
	struct challenge ch = {0};
	const char *line;

	*d = (struct demand){0};
	for (unsigned n = 0; (line = upstream_header(a, "WWW-Authenticate", n)) != NULL; n++)
		challenge_read(&ch, line, &c->arena);
	if (ch.bearer && !(c->asker == ASKER_CLIENT && ch.basic)) {
		if (realm_parse(ch.realm, &c->arena, &d->realm) &&
		    realm_allowed(&d->realm, c->r.scheme,
			a->host_name != NULL ? a->host_name : c->r.host, named_realm(c))) {
			d->kind = DEMAND_TOKEN;
			d->service = ch.service;
			return;
		}
		log_warn("registry %s: it sends to another's realm for tokens (%.200s): nothing is told there",
		    c->upstream, ch.realm);
	}
	if (ch.basic)
		d->kind = DEMAND_BASIC;
}

/* A new one may do, or one of another realm: the registry's next host may have its own. Harbor says Basic
 * to a token that has expired. */
static bool
token_was_refused(struct auth_call *c, const struct demand *d)
{
	bool same = d->kind != DEMAND_TOKEN || (strcmp(d->realm.host, c->want.realm.host) == 0 &&
	    strcmp(d->realm.target, c->want.realm.target) == 0);

	tokens_drop(c->as->tokens, &c->want, c->token);
	if (d->kind == DEMAND_TOKEN)
		demands_note(&c->as->demands, c->upstream, d);
	if (!same || c->refused_tokens++ == 0)
		return true;
	demands_forget(&c->as->demands, c->upstream);
	return false;
}

/* Is there something to try yet? Notes what was learnt. */
static bool
may_go_on(struct auth_call *c, const struct upstream_answer *a)
{
	struct demand d;

	if (c->asked >= MOST_ASKED || c->gave_up)
		return false;
	read_demand(c, a, &d);
	if (c->proof == PROOF_TOKEN)
		return token_was_refused(c, &d);
	demands_note(&c->as->demands, c->upstream, &d);
	if (d.kind == DEMAND_TOKEN)
		return true;
	return d.kind == DEMAND_BASIC && c->proof == PROOF_NONE && c->basic != NULL;
}

/* The 401 has gone by. */
static void
go_on(struct auth_call *c)
{
	struct demand d;

	if (demands_get(&c->as->demands, c->upstream, &c->arena, &d) && d.kind == DEMAND_TOKEN)
		get_token(c, &d);
	else
		ask(c, PROOF_BASIC);
}

/* --- what the hosts tell ---------------------------------------------------------------------- */

static void
on_head(void *arg, const struct upstream_answer *a)
{
	struct auth_call *c = arg;
	struct upstream_answer told = *a;

	if (!c->plain && a->status == 401 && a->redirects == 0 && may_go_on(c, a)) {
		c->state = BEHIND;
		c->r.first_host = a->host;
		return;
	}
	c->state = TOLD;
	told.asker = c->asker;
	count_refusal(c, a->status);
	if (c->ops.head != NULL)
		c->ops.head(c->arg, &told);
}

static void
on_data(void *arg, const void *p, size_t n)
{
	struct auth_call *c = arg;

	if (c->state != BEHIND) {
		c->ops.data(c->arg, p, n);
		return;
	}
	c->behind += n;
	if (c->behind > BEHIND_MAX) {
		hosts_cancel(&c->call);
		go_on(c);
	}
}

static void
on_done(void *arg, enum upstream_result r, const char *detail)
{
	struct auth_call *c = arg;

	c->call = NULL;
	if (c->state == BEHIND)
		go_on(c);
	else
		end(c, r, detail);
}

static enum upstream_body
on_body(void *arg, void *to, size_t size, size_t *n)
{
	struct auth_call *c = arg;

	return c->ops.body(c->arg, to, size, n);
}

static void
on_turn(void *arg)
{
	struct auth_call *c = arg;

	if (c->ops.turn != NULL && c->state != BEHIND)
		c->ops.turn(c->arg);
}

static const struct upstream_ops relay = {on_head, on_data, on_done, on_body, on_turn};

/* --- callers ---------------------------------------------------------------------------------- */

struct auths *
auths_new(const struct registries_config *config)
{
	struct auths *as = xcalloc(1, sizeof(*as));

	as->config = *config;
	as->hosts = hosts_new(config);
	if (as->hosts == NULL) {
		free(as);
		return NULL;
	}
	if (config->shm == NULL)
		return as;
	as->secret = secret_new(shm_key(config->shm));
	as->tokens = tokens_new(config->base, config->shm, config->listener, as->secret);
	return as;
}

void
auths_free(struct auths **asp)
{
	struct auths *as = *asp;

	if (as == NULL)
		return;
	tokens_free(&as->tokens);
	demands_free(&as->demands);
	secret_free(&as->secret);
	hosts_free(&as->hosts);
	free(as);
	*asp = NULL;
}

struct hosts *
auths_hosts(const struct auths *as)
{
	return as->hosts;
}

static const struct credential *
held(const struct auths *as, unsigned registry)
{
	return registry > 0 && registry <= as->config.ncredentials
	    ? as->config.credentials[registry - 1]
	    : NULL;
}

enum upstream_asker
auths_asker(const struct auths *as, unsigned registry)
{
	if (held(as, registry) != NULL)
		return ASKER_HELD;
	return as->config.keep_clients ? ASKER_NOBODY : ASKER_CLIENT;
}

static bool
is_repeatable(const struct upstream_request *r)
{
	return !r->has_body && (strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0);
}

static void
copy_request(struct auth_call *c, const struct upstream_request *r)
{
	struct arena *a = &c->arena;
	struct upstream_header *h = arena_alloc(a, sizeof(*h) * (r->nheaders + 1));

	c->r = *r;
	c->r.method = arena_strdup(a, r->method);
	c->r.scheme = arena_strdup(a, r->scheme);
	c->r.host = arena_strdup(a, r->host);
	c->r.target = arena_strdup(a, r->target);
	if (r->if_range != NULL)
		c->r.if_range = arena_strdup(a, r->if_range);
	c->r.authorization = NULL;
	if (r->deadline_ms == 0 && c->as->config.first_byte_ms > 0) /* for all that it takes */
		c->r.deadline_ms = clock_ms() + c->as->config.first_byte_ms;
	for (size_t i = 0; h != NULL && i < r->nheaders; i++) {
		h[i].name = arena_strdup(a, r->headers[i].name);
		h[i].value = arena_strdup(a, r->headers[i].value);
	}
	c->r.headers = h;
	c->upstream = arena_printf(a, "%s://%s", r->scheme, r->host);
}

/* Who asks, and for what. False: nobody in particular, or for no repository: the call is plain. */
static bool
introduce(struct auth_call *c, const struct upstream_request *r)
{
	const struct credential *mine = held(c->as, r->registry);
	const char *repository;
	struct http_basic who;
	size_t n;

	if (c->as->tokens == NULL || !is_repeatable(r))
		return false;
	repository = registry_repository(r->target, &n);
	if (repository == NULL || (c->asker == ASKER_CLIENT && !http_is_scheme(r->authorization, "Basic")))
		return false;
	c->scope = arena_printf(&c->arena, "repository:%.*s:pull", (int)n, repository);
	if (mine != NULL) {
		c->user = mine->refresh == NULL ? arena_strdup(&c->arena, mine->user) : NULL;
		c->basic = mine->basic != NULL ? arena_strdup(&c->arena, mine->basic) : NULL;
		c->refresh = mine->refresh != NULL ? arena_strdup(&c->arena, mine->refresh) : NULL;
	} else if (c->asker == ASKER_CLIENT) {
		if (!http_basic_read(r->authorization, &who))
			return false;
		c->user = arena_strdup(&c->arena, who.name);
		c->basic = arena_strdup(&c->arena, r->authorization);
		explicit_bzero(&who, sizeof(who));
	}
	return true;
}

struct auth_call *
auth_start(struct auths *as, const struct upstream_request *r, const struct upstream_ops *ops,
    void *arg)
{
	struct auth_call *c = xcalloc(1, sizeof(*c));
	struct upstream_request plain = *r;

	c->as = as;
	c->ops = *ops;
	c->arg = arg;
	c->asker = auths_asker(as, r->registry);
	arena_init(&c->arena, CALL_ARENA);
	c->plain = !introduce(c, r);
	if (c->plain) {
		if (c->asker != ASKER_CLIENT)
			plain.authorization = NULL;
		c->call = hosts_start(as->hosts, &plain, &relay, c);
		return c;
	}
	copy_request(c, r);
	if (arena_failed(&c->arena))
		tell(c, 0, UPSTREAM_PROTOCOL, "the request is too large");
	else
		begin(c);
	return c;
}

void
auth_pause(struct auth_call *c)
{
	c->paused = true;
	if (c->call != NULL)
		hosts_pause(c->call);
}

void
auth_resume(struct auth_call *c)
{
	c->paused = false;
	if (c->call != NULL)
		hosts_resume(c->call);
}

void
auth_cancel(struct auth_call **cp)
{
	struct auth_call *c = *cp;

	*cp = NULL;
	if (c == NULL || c->ending)
		return;
	hosts_cancel(&c->call);
	call_free(c);
}
