/* Limits that registries set for a credential. */
#include "registry_limit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "http.h"
#include "http_date.h"
#include "log.h"
#include "notes.h"
#include "secret.h"
#include "shm.h"
#include "xalloc.h"

enum { LEAST_MS = 1000, MAX_FIELDS = 16 };

struct limits {
	struct shm *shm;
	unsigned listener;
	struct secret *secret;
	uint64_t unsaid_ms, most_ms;
};

struct limits *
limits_new(struct shm *shm, unsigned listener, struct secret *secret, uint64_t unsaid_ms,
    uint64_t most_ms)
{
	struct limits *l = xcalloc(1, sizeof(*l));

	*l = (struct limits){shm, listener, secret, unsaid_ms, most_ms};
	return l;
}

void
limits_free(struct limits **l)
{
	free(*l);
	*l = NULL;
}

/* --- what a request asks about ---------------------------------------------------------------- */

static bool
is_get_of_manifest(const struct upstream_request *r)
{
	const char *word = strstr(r->target, "/manifests/");

	return strcmp(r->method, "GET") == 0 && word != NULL &&
	    (size_t)(word - r->target) < strcspn(r->target, "?");
}

static void
add_key(struct limits *l, const struct upstream_request *r, const char *scope, struct limit_pass *p)
{
	const char *const words[] = {"limit", r->scheme, r->host, scope, r->authorization};
	uint8_t mac[SECRET_BYTES];

	secret_mac(l->secret, words, sizeof(words) / sizeof(words[0]), mac);
	memcpy(p->key[p->n++], mac, BREAKER_KEY_BYTES);
}

static void
begin(struct limits *l, const struct upstream_request *r, struct limit_pass *p)
{
	*p = (struct limit_pass){0};
	if (strcmp(r->method, "GET") != 0 && strcmp(r->method, "HEAD") != 0)
		return;
	if (is_get_of_manifest(r))
		add_key(l, r, "manifests", p);
	add_key(l, r, "all", p);
}

/* --- the answer in its place ------------------------------------------------------------------ */

/* `text` is "name: value\n" for each field that was kept, and becomes what the fields point to. */
static size_t
read_fields(char *text, struct upstream_header *h, size_t room)
{
	size_t n = 0;

	for (char *line = text, *end; n < room && (end = strchr(line, '\n')) != NULL; line = end + 1) {
		char *colon = strstr(line, ": ");

		*end = '\0';
		if (colon == NULL || colon > end)
			continue;
		*colon = '\0';
		h[n++] = (struct upstream_header){line, colon + 2};
	}
	return n;
}

static void
make_answer(const struct upstream_request *r, uint64_t wait_ms, const char *text,
    struct arena *arena, struct limit_answer *a)
{
	struct upstream_header *h = arena_alloc(arena, sizeof(*h) * (MAX_FIELDS + 2));
	uint64_t seconds = (wait_ms + 999) / 1000;
	const char *message = arena_printf(arena,
	    "the registry %s://%s limits this credential and is not asked before %" PRIu64 " s have passed",
	    r->scheme, r->host, seconds);
	size_t n;

	if (h == NULL)
		panic("no room for a 429");
	n = read_fields(arena_strdup(arena, text), h, MAX_FIELDS);
	h[n++] = (struct upstream_header){
	    "Retry-After", arena_printf(arena, "%" PRIu64, seconds)};
	h[n++] = (struct upstream_header){"Content-Type", "application/json"};
	a->body = strcmp(r->method, "HEAD") == 0
	    ? ""
	    : http_error_body(arena, "TOOMANYREQUESTS", message);
	a->head = (struct upstream_answer){
	    .status = 429,
	    .content_length = (int64_t)strlen(a->body),
	    .headers = h,
	    .nheaders = n,
	};
}

bool
limit_ask(struct limits *l, const struct upstream_request *r, struct limit_pass *pass,
    struct arena *arena, struct limit_answer *answer)
{
	char text[BREAKER_TEXT_SIZE];
	uint64_t now = clock_ms(), wait_ms;

	begin(l, r, pass);
	for (unsigned i = 0; i < pass->n; i++) {
		enum breaker_state state =
		    shm_breaker_ask(l->shm, pass->key[i], now, &wait_ms, text);

		pass->probe[i] = state == BREAKER_PROBE;
		if (state != BREAKER_OPEN)
			continue;
		shm_count(l->shm, l->listener, COUNT_LIMITED, 1);
		make_answer(r, wait_ms, text, arena, answer);
		return false;
	}
	return true;
}

/* --- what came of it -------------------------------------------------------------------------- */

/* A date is compared with the registry's own clock where it tells it. */
static uint64_t
wait_said(const struct limits *l, const struct upstream_answer *a)
{
	const char *value = upstream_header(a, "Retry-After", 0);
	const char *date = upstream_header(a, "Date", 0);
	int64_t now, seconds;
	uint64_t ms;

	if (date == NULL || !http_parse_date(date, &now))
		now = clock_wall();
	seconds = value == NULL ? -1 : http_parse_retry_after(value, now);
	ms = seconds < 0 ? l->unsaid_ms : (uint64_t)seconds * 1000;
	if (ms > l->most_ms)
		ms = l->most_ms;
	return ms < LEAST_MS ? LEAST_MS : ms;
}

/* Fields that tell of quotas; those that do not fit are left out. */
static void
write_fields(const struct upstream_answer *a, char text[BREAKER_TEXT_SIZE])
{
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < a->nheaders; i++) {
		const struct upstream_header *h = &a->headers[i];
		size_t size = strlen(h->name) + strlen(h->value) + 3;

		if (!notes_wants(h->name) || used + size >= BREAKER_TEXT_SIZE ||
		    strchr(h->value, '\n') != NULL)
			continue;
		stpcpy(stpcpy(stpcpy(stpcpy(text + used, h->name), ": "), h->value), "\n");
		used += size;
	}
}

void
limit_note(struct limits *l, const struct limit_pass *pass, const struct upstream_answer *a)
{
	char text[BREAKER_TEXT_SIZE];
	uint64_t ms;

	if (pass->n > 0 && a->status == 429) {
		ms = wait_said(l, a);
		write_fields(a, text);
		shm_breaker_open(l->shm, pass->key[0], clock_ms() + ms, text);
		shm_count(l->shm, l->listener, COUNT_LIMITS, 1);
		return;
	}
	for (unsigned i = 0; i < pass->n; i++)
		if (pass->probe[i])
			shm_breaker_close(l->shm, pass->key[i]);
}
