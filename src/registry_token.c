/* Tokens: who asks for them, who waits. */
#include "registry_token.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/event.h>
#include <jansson.h>

#include "buf.h"
#include "clock.h"
#include "log.h"
#include "registry_realm.h"
#include "shm.h"
#include "shm_token.h"
#include "xalloc.h"

enum {
	LOOK_AGAIN_MS = 5, /* at what another listener has been told */
	WAIT_MAX_MS = 35000,
	TOKEN_FAILED_MS = 1000, /* between attempts at a realm that does not answer */
	TOKEN_LIMITED_MAX_S = 3600, /* what is believed of a Retry-After */
	FETCH_ARENA = 128 * 1024,
};

LIST_HEAD(fetch_list, fetch);

struct tokens {
	struct event_base *base;
	struct shm *shm;
	unsigned listener;
	struct secret *secret;
	struct fetch_list fetches;
};

struct token_wait {
	TAILQ_ENTRY(token_wait) entry;
	struct fetch *fetch;
	struct event *deadline; /* NULL: none */
	token_fn *told;
	void *arg;
};

/* One token that is on its way: asked for here, or by another listener. */
struct fetch {
	LIST_ENTRY(fetch) entry;
	struct tokens *ts;
	uint8_t key[SECRET_BYTES]; /* the first SHM_TOKEN_KEY_BYTES count */
	struct token_want want;    /* in the arena */
	TAILQ_HEAD(, token_wait) waiting;
	struct event *timer;
	uint64_t give_up_ms;
	bool claimed;
	struct realm_call *call;
	struct arena arena;
};

/* --- keys ------------------------------------------------------------------------------------- */

static void
key_of(struct tokens *ts, const struct token_want *w, uint8_t key[SECRET_BYTES])
{
	const char *const words[] = {"token", w->registry, w->realm.scheme, w->realm.host,
	    w->realm.target, w->service, w->scope, w->user, w->basic, w->refresh};

	secret_mac(ts->secret, words, sizeof(words) / sizeof(words[0]), key);
}

/* --- a fetch's beginning and end -------------------------------------------------------------- */

static const char *
copy(struct arena *a, const char *text)
{
	return text != NULL ? arena_strdup(a, text) : NULL;
}

static void
wipe(const char *text)
{
	if (text != NULL)
		explicit_bzero((char *)(uintptr_t)text, strlen(text));
}

static void try_now(evutil_socket_t fd, short what, void *arg);

static struct fetch *
fetch_new(struct tokens *ts, const struct token_want *w, const uint8_t key[SECRET_BYTES])
{
	struct fetch *f = xcalloc(1, sizeof(*f));
	struct arena *a = &f->arena;

	f->ts = ts;
	memcpy(f->key, key, SECRET_BYTES);
	TAILQ_INIT(&f->waiting);
	arena_init(a, FETCH_ARENA);
	f->want = (struct token_want){
	    .upstream = w->upstream,
	    .registry = copy(a, w->registry),
	    .realm = {copy(a, w->realm.scheme), copy(a, w->realm.host), copy(a, w->realm.target)},
	    .service = copy(a, w->service),
	    .scope = copy(a, w->scope),
	    .user = copy(a, w->user),
	    .basic = copy(a, w->basic),
	    .refresh = copy(a, w->refresh),
	};
	f->give_up_ms = clock_ms() + WAIT_MAX_MS;
	f->timer = evtimer_new(ts->base, try_now, f);
	if (f->timer == NULL)
		panic("cannot make an event");
	LIST_INSERT_HEAD(&ts->fetches, f, entry);
	return f;
}

static void
fetch_free(struct fetch *f)
{
	LIST_REMOVE(f, entry);
	realm_cancel(&f->call);
	if (f->claimed)
		shm_token_release(f->ts->shm, f->key, 0);
	event_free(f->timer);
	wipe(f->want.basic);
	wipe(f->want.refresh);
	arena_reset(&f->arena);
	free(f);
}

static void
wait_free(struct token_wait *w)
{
	TAILQ_REMOVE(&w->fetch->waiting, w, entry);
	if (w->deadline != NULL)
		event_free(w->deadline);
	free(w);
}

/* Tells the waiters, who may ask and cancel meanwhile, and ends the fetch. */
static void
end(struct fetch *f, const struct token_answer *a)
{
	struct token_wait *w;

	LIST_REMOVE(f, entry); /* who asks now is not to join it */
	while ((w = TAILQ_FIRST(&f->waiting)) != NULL) {
		token_fn *told = w->told;
		void *arg = w->arg;

		wait_free(w);
		told(arg, a);
	}
	LIST_INSERT_HEAD(&f->ts->fetches, f, entry);
	fetch_free(f);
}

static void
fail(struct fetch *f, enum upstream_result result, const char *detail)
{
	const struct token_answer a = {.outcome = TOKEN_FAILED, .result = result, .detail = detail};

	if (f->claimed)
		shm_token_release(f->ts->shm, f->key, clock_ms() + TOKEN_FAILED_MS);
	f->claimed = false;
	log_warn("no token of %s://%s for %s: %s", f->want.realm.scheme, f->want.realm.host,
	    f->want.registry, detail);
	end(f, &a);
}

/* --- asking ----------------------------------------------------------------------------------- */

const char *
realm_token(const void *body, size_t n, struct arena *arena, uint64_t *life_ms)
{
	json_t *root = json_loadb(body, n, JSON_REJECT_DUPLICATES, NULL), *life;
	const char *text = json_string_value(json_object_get(root, "token"));
	char *token = NULL;

	if (text == NULL || *text == '\0')
		text = json_string_value(json_object_get(root, "access_token"));
	if (text != NULL && *text != '\0' &&
	    strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") ==
		strlen(text)) /* RFC 6750 section 2.1 */
		token = arena_strdup(arena, text);
	life = json_object_get(root, "expires_in");
	*life_ms = TOKEN_LEAST_MS;
	if (json_is_number(life) && json_number_value(life) > TOKEN_LEAST_MS / 1000.0)
		*life_ms = json_number_value(life) < 1e9 ? (uint64_t)(json_number_value(life) * 1000)
							 : (uint64_t)1000000000000;
	json_decref(root);
	return token == NULL || arena_failed(arena) ? NULL : token;
}

static void
got(struct fetch *f, const struct realm_answer *r)
{
	uint64_t life_ms, now = clock_ms();
	struct token_answer a = {
	    .outcome = TOKEN_GOT, .token = realm_token(r->body, r->n, &f->arena, &life_ms)};

	if (a.token == NULL) {
		fail(f, UPSTREAM_PROTOCOL, "its answer has no token in it");
		return;
	}
	shm_token_put(f->ts->shm, f->key, a.token, now + life_ms / 10 * 9, now + life_ms);
	f->claimed = false;
	log_debug("a token of %s://%s for %s: %s", f->want.realm.scheme, f->want.realm.host,
	    f->want.registry, f->want.scope != NULL ? f->want.scope : "");
	end(f, &a);
}

/* Until when nobody asks again. */
static uint64_t
refused_until(const struct realm_answer *r)
{
	uint64_t ms = TOKEN_REFUSED_MS;

	if (r->status == 429 && r->retry_after > TOKEN_REFUSED_MS / 1000)
		ms = 1000 * (uint64_t)(r->retry_after < TOKEN_LIMITED_MAX_S ? r->retry_after
									     : TOKEN_LIMITED_MAX_S);
	return clock_ms() + ms;
}

static void
on_answer(void *arg, const struct realm_answer *r)
{
	struct fetch *f = arg;
	const struct token_answer refused = {.outcome = TOKEN_REFUSED};

	f->call = NULL;
	if (r->result != UPSTREAM_OK) {
		fail(f, r->result, r->detail);
	} else if (r->status == 200) {
		got(f, r);
	} else if (r->status == 400 || r->status == 401 || r->status == 403 || r->status == 429) {
		log_warn("%s://%s refuses a token for %s (%d)", f->want.realm.scheme,
		    f->want.realm.host, f->want.registry, r->status);
		shm_token_refuse(f->ts->shm, f->key, refused_until(r));
		f->claimed = false;
		end(f, &refused);
	} else {
		fail(f, UPSTREAM_PROTOCOL,
		    arena_printf(&f->arena, r->status >= 300 && r->status < 400
			    ? "it redirects (%d), which is not followed with a credential"
			    : "it answered %d",
			r->status));
	}
}

/* Looks what is known, or asks. Run from the loop until somebody knows. */
static void
try_now(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval again = {0, LOOK_AGAIN_MS * 1000};
	struct fetch *f = arg;
	struct tokens *ts = f->ts;
	char text[SHM_TOKEN_SIZE];
	struct token_answer a = {.outcome = TOKEN_GOT, .token = text};
	uint64_t now = clock_ms();
	bool renew;
	enum shm_token_state state = shm_token_get(ts->shm, f->key, now, text, &renew);

	(void)fd;
	(void)what;
	if (state == SHM_TOKEN_REFUSED)
		a.outcome = TOKEN_REFUSED;
	if (state == SHM_TOKEN_REFUSED || (state == SHM_TOKEN_VALID && !renew)) {
		end(f, &a);
		explicit_bzero(text, sizeof(text));
		return;
	}
	if (shm_token_claim(ts->shm, ts->listener, f->key, now)) {
		f->claimed = true;
		shm_count(ts->shm, ts->listener, COUNT_TOKENS, 1);
		f->call = realm_ask(f->want.upstream, &f->want, on_answer, f);
	} else if (state == SHM_TOKEN_VALID) {
		end(f, &a); /* another renews it */
	} else if (now >= f->give_up_ms) {
		fail(f, UPSTREAM_TIMEOUT, "another listener asks for it and does not get it");
	} else {
		event_add(f->timer, &again);
	}
	explicit_bzero(text, sizeof(text));
}

/* --- callers ---------------------------------------------------------------------------------- */

struct tokens *
tokens_new(struct event_base *base, struct shm *shm, unsigned listener, struct secret *secret)
{
	struct tokens *ts = xcalloc(1, sizeof(*ts));

	*ts = (struct tokens){.base = base, .shm = shm, .listener = listener, .secret = secret};
	LIST_INIT(&ts->fetches);
	return ts;
}

void
tokens_free(struct tokens **ts)
{
	if (*ts == NULL)
		return;
	while (!LIST_EMPTY(&(*ts)->fetches))
		fetch_free(LIST_FIRST(&(*ts)->fetches));
	free(*ts);
	*ts = NULL;
}

static struct fetch *
fetch_of(struct tokens *ts, const struct token_want *w, const uint8_t key[SECRET_BYTES])
{
	static const struct timeval now = {0, 0};
	struct fetch *f;

	LIST_FOREACH(f, &ts->fetches, entry)
	if (memcmp(f->key, key, SECRET_BYTES) == 0)
		return f;
	f = fetch_new(ts, w, key);
	event_add(f->timer, &now);
	return f;
}

/* The fetch goes on: others may have more time. */
static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	const struct token_answer a = {.outcome = TOKEN_FAILED,
	    .result = UPSTREAM_TIMEOUT,
	    .detail = "its realm did not answer in time"};
	struct token_wait *w = arg;
	token_fn *told = w->told;
	void *who = w->arg;

	(void)fd;
	(void)what;
	wait_free(w);
	told(who, &a);
}

static void
set_deadline(struct token_wait *w, uint64_t deadline_ms)
{
	uint64_t now = clock_ms(), left = deadline_ms > now ? deadline_ms - now : 0;
	struct timeval after = {(time_t)(left / 1000), (suseconds_t)(left % 1000) * 1000};

	if (deadline_ms == 0)
		return;
	w->deadline = evtimer_new(w->fetch->ts->base, on_deadline, w);
	if (w->deadline == NULL || event_add(w->deadline, &after) != 0)
		panic("cannot make an event");
}

bool
tokens_ask(struct tokens *ts, const struct token_want *w, uint64_t deadline_ms, struct arena *arena,
    const char **token, token_fn *told, void *arg, struct token_wait **wait)
{
	char text[SHM_TOKEN_SIZE];
	uint8_t key[SECRET_BYTES];
	struct fetch *f;
	bool renew;

	key_of(ts, w, key);
	if (shm_token_get(ts->shm, key, clock_ms(), text, &renew) == SHM_TOKEN_VALID) {
		*token = arena_strdup(arena, text);
		explicit_bzero(text, sizeof(text));
		if (renew)
			(void)fetch_of(ts, w, key);
		return true;
	}
	f = fetch_of(ts, w, key);
	*wait = xcalloc(1, sizeof(**wait));
	**wait = (struct token_wait){.fetch = f, .told = told, .arg = arg};
	TAILQ_INSERT_TAIL(&f->waiting, *wait, entry);
	set_deadline(*wait, deadline_ms);
	return false;
}

/* The fetch goes on: the token will be wanted. */
void
tokens_cancel(struct token_wait **w)
{
	if (*w == NULL)
		return;
	wait_free(*w);
	*w = NULL;
}

void
tokens_drop(struct tokens *ts, const struct token_want *w, const char *token)
{
	uint8_t key[SECRET_BYTES];

	key_of(ts, w, key);
	shm_token_drop(ts->shm, key, token);
}
