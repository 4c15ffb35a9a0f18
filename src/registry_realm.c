/* One question to a realm: GET with Basic; a form by POST with a refresh token, or where GET is not known
 * (404, 405). The client's names are distribution's: docs/spec/auth/token.md and oauth.md. */
#include "registry_realm.h"

#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "buf.h"
#include "clock.h"
#include "http_basic.h"
#include "http_date.h"
#include "log.h"
#include "registry_token.h"
#include "xalloc.h"

enum { ANSWER_MAX = 64 * 1024, CALL_ARENA = 256 * 1024 };

static const char client_id[] = "registry-cache";

struct realm_call {
	struct upstream *upstream;
	const struct token_want *w;
	realm_fn *told;
	void *arg;
	struct upstream_call *call;
	bool by_form;
	char *form; /* what is left of it is at form + sent */
	size_t sent;
	int status;
	int64_t retry_after;
	struct buf body;
	struct arena arena;
};

/* --- what is asked ---------------------------------------------------------------------------- */

/* RFC 3986 section 2.3: unreserved; ":" "/" and "," stay too, for readers of a realm's log. */
static void
add(struct buf *to, const char *name, const char *value)
{
	if (value == NULL)
		return;
	buf_printf(to, "%s%s=", buf_len(to) > 0 ? "&" : "", name);
	for (; *value != '\0'; value++)
		if (strchr("-._~:/,", *value) != NULL ||
		    (*value >= '0' && *value <= '9') || (*value >= 'A' && *value <= 'Z') ||
		    (*value >= 'a' && *value <= 'z'))
			buf_append(to, value, 1);
		else
			buf_printf(to, "%%%02X", (unsigned)(unsigned char)*value);
}

static char *
text_of(struct buf *b)
{
	char *text;

	buf_append(b, "", 1);
	text = xstrdup((const char *)buf_data(b));
	explicit_bzero(buf_data(b), buf_len(b));
	buf_free(b);
	return text;
}

static void
add_common(struct buf *b, const struct token_want *w)
{
	add(b, "service", w->service);
	add(b, "client_id", client_id);
	add(b, "scope", w->scope);
}

static char *
make_query(const struct token_want *w)
{
	struct buf b = {0};

	add_common(&b, w);
	add(&b, "account", w->user);
	return text_of(&b);
}

static char *
make_form(const struct token_want *w)
{
	struct buf b = {0};
	struct http_basic who;

	add(&b, "grant_type", w->refresh != NULL ? "refresh_token" : "password");
	add_common(&b, w);
	add(&b, "refresh_token", w->refresh);
	if (w->refresh == NULL && http_basic_read(w->basic, &who)) {
		add(&b, "username", who.name);
		add(&b, "password", who.password);
		explicit_bzero(&who, sizeof(who));
	}
	return text_of(&b);
}

/* --- the exchange ----------------------------------------------------------------------------- */

static void
forget_form(struct realm_call *c)
{
	if (c->form == NULL)
		return;
	explicit_bzero(c->form, strlen(c->form));
	free(c->form);
	c->form = NULL;
}

static void
call_free(struct realm_call *c)
{
	forget_form(c);
	if (buf_len(&c->body) > 0)
		explicit_bzero(buf_data(&c->body), buf_len(&c->body));
	buf_free(&c->body);
	arena_reset(&c->arena);
	free(c);
}

static void
on_head(void *arg, const struct upstream_answer *a)
{
	struct realm_call *c = arg;
	const char *retry = upstream_header(a, "Retry-After", 0);

	c->status = a->status;
	c->retry_after = retry != NULL ? http_parse_retry_after(retry, clock_wall()) : 0;
}

static void
on_data(void *arg, const void *p, size_t n)
{
	struct realm_call *c = arg;
	size_t room = ANSWER_MAX - buf_len(&c->body);

	buf_append(&c->body, p, n < room ? n : room);
}

static enum upstream_body
on_body(void *arg, void *to, size_t size, size_t *n)
{
	struct realm_call *c = arg;
	size_t left = strlen(c->form + c->sent);

	*n = left < size ? left : size;
	memcpy(to, c->form + c->sent, *n);
	c->sent += *n;
	return UPSTREAM_BODY_DATA;
}

static void ask(struct realm_call *c);

static void
on_done(void *arg, enum upstream_result r, const char *detail)
{
	struct realm_call *c = arg;
	struct realm_answer a = {.result = r, .detail = detail, .status = c->status};

	c->call = NULL;
	if (r == UPSTREAM_OK && !c->by_form && c->w->basic != NULL &&
	    (c->status == 404 || c->status == 405)) {
		c->by_form = true;
		buf_consume(&c->body, buf_len(&c->body));
		ask(c);
		return;
	}
	if (detail == NULL || *detail == '\0')
		a.detail = upstream_result_name(r);
	a.body = buf_len(&c->body) > 0 ? (const void *)buf_data(&c->body) : "";
	a.n = buf_len(&c->body);
	a.retry_after = c->retry_after > 0 ? c->retry_after : 0;
	c->told(c->arg, &a);
	call_free(c);
}

static void
ask(struct realm_call *c)
{
	static const struct upstream_ops ops = {on_head, on_data, on_done, on_body, NULL};
	static const struct upstream_header fields[] = {{"Accept", "application/json"},
	    {"Content-Type", "application/x-www-form-urlencoded"}};
	const struct token_want *w = c->w;
	struct upstream_request r = {
	    .method = c->by_form ? "POST" : "GET",
	    .scheme = w->realm.scheme,
	    .host = w->realm.host,
	    .target = w->realm.target,
	    .headers = fields,
	    .nheaders = c->by_form ? 2 : 1,
	    .range_first = -1,
	    .range_last = -1,
	    .has_body = c->by_form,
	};

	if (c->by_form) {
		forget_form(c);
		c->form = make_form(w);
		c->sent = 0;
		r.body_length = (int64_t)strlen(c->form);
	} else {
		char *query = make_query(w);

		r.authorization = w->basic;
		r.target = arena_printf(&c->arena, "%s%s%s", w->realm.target,
		    strchr(w->realm.target, '?') != NULL ? "&" : "?", query);
		free(query);
	}
	c->call = upstream_start(c->upstream, &r, &ops, c);
}

struct realm_call *
realm_ask(struct upstream *u, const struct token_want *w, realm_fn *told, void *arg)
{
	struct realm_call *c = xcalloc(1, sizeof(*c));

	c->upstream = u;
	c->w = w;
	c->told = told;
	c->arg = arg;
	c->by_form = w->refresh != NULL;
	arena_init(&c->arena, CALL_ARENA);
	ask(c);
	return c;
}

void
realm_cancel(struct realm_call **cp)
{
	struct realm_call *c = *cp;

	*cp = NULL;
	if (c == NULL)
		return;
	upstream_cancel(&c->call);
	call_free(c);
}
