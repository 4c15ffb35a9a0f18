/* The check: HEAD, the ladder to GET where HEAD is answered badly, and coalescing. What an answer
 * means for a client is not decided here.
 *
 * The life of an inquiry, which is one question upstream with all that wait for it:
 *   ASKING      HEAD or GET is on its way; may be joined
 *   TO_GET      HEAD was refused in a way that says little; GET goes out when its exchange has
 *               ended; may be joined
 *   COLLECTING  GET was refused, its body is being read; may be joined
 *   ANSWERED    the waiters were told; it only waits for its exchange to end
 */
#include "check.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "arena.h"
#include "buf.h"
#include "check_quirk.h"
#include "clock.h"
#include "log.h"
#include "xalloc.h"

enum { KEY_BYTES = 32, BUCKETS = 1024, MAX_BODY = 64 * 1024, HEAD_ARENA = 1024 * 1024 };

enum step { ASKING, TO_GET, COLLECTING, ANSWERED };

LIST_HEAD(inquiry_list, inquiry);

struct check {
	struct registries *registries;
	void (*counted)(void *arg, bool shared);
	void *arg;
	EVP_MAC_CTX *mac;                    /* keyed at start-up */
	struct inquiry_list bucket[BUCKETS]; /* those that may be joined */
	struct inquiry_list all;
	struct quirks quirks;
};

struct inquiry {
	LIST_ENTRY(inquiry) bucket_entry;
	LIST_ENTRY(inquiry) all_entry;
	struct check *check;
	enum step step;
	uint8_t key[KEY_BYTES];
	TAILQ_HEAD(, check_ticket) waiting;
	struct registry_call *call;

	struct check_question q; /* its strings are in `text` */
	char *text;
	size_t text_size;
	const char *upstream; /* scheme://host */

	unsigned host; /* of the registry, that answered last; 0: not known */
	bool by_get;
	bool head_refused;              /* HEAD said no; does GET say yes? */
	struct upstream_answer refusal; /* COLLECTING: copied to the arena */
	struct arena arena;
	struct buf body;
};

struct check_ticket {
	TAILQ_ENTRY(check_ticket) entry;
	struct inquiry *inquiry;
	check_fn *answer;
	void *arg;
};

/* --- keys --- */

static EVP_MAC_CTX *
new_mac(void)
{
	unsigned char key[KEY_BYTES];
	char sha256[] = "SHA256";
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_utf8_string("digest", sha256, 0), OSSL_PARAM_construct_end()};
	EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *ctx = hmac == NULL ? NULL : EVP_MAC_CTX_new(hmac);

	if (ctx == NULL || RAND_bytes(key, sizeof(key)) != 1 ||
	    EVP_MAC_init(ctx, key, sizeof(key), params) != 1)
		fatal("OpenSSL gives no HMAC key");
	EVP_MAC_free(hmac);
	explicit_bzero(key, sizeof(key));
	return ctx;
}

/* Absent and empty differ: the first byte says which. */
static int
mac_string(EVP_MAC_CTX *mac, const char *s)
{
	if (s == NULL)
		return EVP_MAC_update(mac, (const unsigned char *)"\0", 1);
	return EVP_MAC_update(mac, (const unsigned char *)"\1", 1) &&
	    EVP_MAC_update(mac, (const unsigned char *)s, strlen(s) + 1);
}

static void
key_of(struct check *c, const struct check_question *q, uint8_t key[KEY_BYTES])
{
	unsigned char flags = (unsigned char)((q->blob ? 1 : 0) | (q->want_body ? 2 : 0));
	size_t n = 0;

	if (!EVP_MAC_init(c->mac, NULL, 0, NULL) || !EVP_MAC_update(c->mac, &flags, 1) ||
	    !EVP_MAC_update(c->mac, (const unsigned char *)&q->registry, sizeof(q->registry)) ||
	    !mac_string(c->mac, q->scheme) || !mac_string(c->mac, q->host) ||
	    !mac_string(c->mac, q->target) || !mac_string(c->mac, q->accept) ||
	    !mac_string(c->mac, q->authorization) || !EVP_MAC_final(c->mac, key, &n, KEY_BYTES) ||
	    n != KEY_BYTES)
		panic("HMAC failed");
}

static struct inquiry_list *
bucket_of(struct check *c, const uint8_t key[KEY_BYTES])
{
	return &c->bucket[((unsigned)key[0] << 8 | key[1]) % BUCKETS];
}

static struct inquiry *
find(struct check *c, const uint8_t key[KEY_BYTES])
{
	struct inquiry *i;

	LIST_FOREACH(i, bucket_of(c, key), bucket_entry)
	if (memcmp(i->key, key, KEY_BYTES) == 0)
		return i;
	return NULL;
}

/* --- an inquiry's beginning and end --- */

static const char *
put_string(char **end, const char *s)
{
	char *here = *end;

	if (s == NULL)
		return NULL;
	*end = stpcpy(here, s) + 1;
	return here;
}

static size_t
room_for(const char *s)
{
	return s == NULL ? 0 : strlen(s) + 1;
}

static void
copy_question(struct inquiry *i, const struct check_question *q)
{
	char *end;

	i->text_size = 2 * (room_for(q->scheme) + room_for(q->host)) + 4 + room_for(q->target) +
	    room_for(q->accept) + room_for(q->authorization);
	i->text = end = xmalloc(i->text_size);
	i->q = *q;
	i->q.scheme = put_string(&end, q->scheme);
	i->q.host = put_string(&end, q->host);
	i->q.target = put_string(&end, q->target);
	i->q.accept = put_string(&end, q->accept);
	i->q.authorization = put_string(&end, q->authorization);
	i->upstream = end;
	snprintf(end, i->text_size - (size_t)(end - i->text), "%s://%s", q->scheme, q->host);
}

static struct inquiry *
inquiry_new(struct check *c, const struct check_question *q, const uint8_t key[KEY_BYTES])
{
	struct inquiry *i = xcalloc(1, sizeof(*i));

	i->check = c;
	memcpy(i->key, key, KEY_BYTES);
	TAILQ_INIT(&i->waiting);
	copy_question(i, q);
	arena_init(&i->arena, HEAD_ARENA);
	i->by_get = quirks_has(&c->quirks, i->upstream, q->blob, clock_ms());
	LIST_INSERT_HEAD(bucket_of(c, key), i, bucket_entry);
	LIST_INSERT_HEAD(&c->all, i, all_entry);
	return i;
}

/* Nobody joins it any more, and the credential is forgotten. */
static void
inquiry_close(struct inquiry *i)
{
	if (i->step == ANSWERED)
		return;
	i->step = ANSWERED;
	LIST_REMOVE(i, bucket_entry);
	explicit_bzero(i->text, i->text_size);
	i->q = (struct check_question){0};
}

static void
inquiry_free(struct inquiry *i)
{
	inquiry_close(i);
	registry_cancel(&i->call);
	LIST_REMOVE(i, all_entry);
	arena_reset(&i->arena);
	buf_free(&i->body);
	free(i->text);
	free(i);
}

/* Tells the waiters in the order in which they asked; they may ask and cancel meanwhile. The
 * inquiry may be gone then. */
static void
inquiry_answer(struct inquiry *i, const struct check_answer *a)
{
	struct check_ticket *t;

	inquiry_close(i);
	while ((t = TAILQ_FIRST(&i->waiting)) != NULL) {
		check_fn *answer = t->answer;
		void *arg = t->arg;

		TAILQ_REMOVE(&i->waiting, t, entry);
		free(t);
		answer(arg, a);
	}
}

static void
inquiry_fail(struct inquiry *i, enum upstream_result r, const char *detail)
{
	struct check_answer a = {.verdict = CHECK_FAILED,
	    .result = r,
	    .detail = detail,
	    .by_get = i->by_get,
	    .size = -1};

	inquiry_answer(i, &a);
}

/* --- what the registry says --- */

/* A login page, said with status 200: no registry gives a manifest that type, and a blob only
 * where somebody stored it so, which a redirect to a page of another host does not show. */
static bool
is_login_page(const struct inquiry *i, const struct upstream_answer *head)
{
	const char *type = upstream_header(head, "Content-Type", 0);

	return (!i->q.blob || head->redirects > 0) && type != NULL &&
	    strncasecmp(type, "text/html", 9) == 0;
}

/* Of the whole object: what Content-Range says after the slash, else the answer's own length. */
static int64_t
whole_size(const struct inquiry *i, const struct upstream_answer *head)
{
	const char *range = upstream_header(head, "Content-Range", 0);
	const char *slash = range == NULL ? NULL : strchr(range, '/');
	char *end;
	long long n;

	if (upstream_header(head, "Content-Encoding", 0) != NULL)
		return -1; /* then its length is another one (WIRE.md 3.2) */
	if (!i->by_get || head->status == 200)
		return head->content_length;
	if (slash == NULL || slash[1] < '0' || slash[1] > '9')
		return -1;
	n = strtoll(slash + 1, &end, 10);
	return *end == '\0' && n != LLONG_MAX ? n : -1;
}

static void
allow(struct inquiry *i, const struct upstream_answer *head)
{
	struct check_answer a = {.verdict = CHECK_ALLOWED, .head = head, .by_get = i->by_get};

	if (is_login_page(i, head)) {
		inquiry_fail(i, UPSTREAM_PROTOCOL, "the registry gave a text/html page");
		return;
	}
	a.size = whole_size(i, head);
	if (i->head_refused)
		quirks_note(&i->check->quirks, i->upstream, i->q.blob, clock_ms());
	inquiry_answer(i, &a);
}

static void
refuse(struct inquiry *i, const struct upstream_answer *head)
{
	struct check_answer a = {
	    .verdict = CHECK_REFUSED, .head = head, .by_get = i->by_get, .size = -1};

	a.body = buf_len(&i->body) > 0 ? buf_data(&i->body) : NULL;
	a.body_length = buf_len(&i->body);
	inquiry_answer(i, &a);
}

/* Is this refusal by HEAD worth asking again by GET? */
static bool
ladder_applies(const struct inquiry *i, const struct upstream_answer *head)
{
	int status = head->status;

	if (status == 403 || status == 405 || status == 501)
		return true;
	if (status == 401 && (i->q.authorization != NULL || head->asker == ASKER_HELD))
		return true;
	/* of a limit the body is not worth another request (WIRE.md 5.1) */
	return i->q.want_body && status >= 400 && status < 500 && status != 429;
}

static void
answered_head(struct inquiry *i, const struct upstream_answer *head)
{
	if (head->status >= 200 && head->status < 300)
		allow(i, head);
	else if (head->status < 400)
		inquiry_fail(i, UPSTREAM_REDIRECT,
		    "the registry answered with a redirection that leads nowhere");
	else if (ladder_applies(i, head))
		i->step = TO_GET;
	else
		refuse(i, head);
}

static void
collect(struct inquiry *i, const struct upstream_answer *head)
{
	struct upstream_header *h = arena_alloc(&i->arena, sizeof(*h) * (head->nheaders + 1));

	i->step = COLLECTING;
	i->refusal = *head;
	i->refusal.headers = h;
	for (size_t n = 0; h != NULL && n < head->nheaders; n++) {
		h[n].name = arena_strdup(&i->arena, head->headers[n].name);
		h[n].value = arena_strdup(&i->arena, head->headers[n].value);
	}
	if (head->registry_digest != NULL)
		i->refusal.registry_digest = arena_strdup(&i->arena, head->registry_digest);
	if (arena_failed(&i->arena))
		panic("a head within limits does not fit into its copy");
}

static void
answered_get(struct inquiry *i, const struct upstream_answer *head)
{
	if (head->status == 200 || head->status == 206 || head->status == 416)
		allow(i, head);
	else if (head->status >= 400)
		collect(i, head);
	else
		inquiry_fail(i, UPSTREAM_PROTOCOL,
		    "the registry answered GET with a status that makes no sense");
}

/* --- the exchange --- */

static void
on_head(void *arg, const struct upstream_answer *head)
{
	struct inquiry *i = arg;

	i->host = head->host;
	if (!i->by_get) {
		answered_head(i, head);
		return;
	}
	answered_get(i, head);
	if (i->step == ANSWERED) /* the object itself is not wanted */
		inquiry_free(i);
}

static void
on_data(void *arg, const void *p, size_t n)
{
	struct inquiry *i = arg;
	size_t room = MAX_BODY - buf_len(&i->body);

	if (i->step != COLLECTING)
		return;
	buf_append(&i->body, p, n < room ? n : room);
	if (buf_len(&i->body) < MAX_BODY)
		return;
	refuse(i, &i->refusal);
	inquiry_free(i);
}

static void ask_upstream(struct inquiry *i);

static void
on_done(void *arg, enum upstream_result r, const char *detail)
{
	struct inquiry *i = arg;

	i->call = NULL;
	switch (i->step) {
	case TO_GET:
		i->by_get = i->head_refused = true;
		i->step = ASKING;
		ask_upstream(i);
		return;
	case COLLECTING:
		refuse(i, &i->refusal);
		break;
	case ASKING:
		inquiry_fail(i, r, detail);
		break;
	case ANSWERED:
		break;
	}
	inquiry_free(i);
}

/* GET asks for one byte: it is the status that is wanted. */
static void
ask_upstream(struct inquiry *i)
{
	static const struct upstream_ops ops = {.head = on_head, .data = on_data, .done = on_done};
	const struct upstream_header accept = {"Accept", i->q.accept};
	const struct upstream_request r = {
	    .method = i->by_get ? "GET" : "HEAD",
	    .scheme = i->q.scheme,
	    .host = i->q.host,
	    .registry = i->q.registry,
	    .target = i->q.target,
	    .authorization = i->q.authorization,
	    .headers = &accept,
	    .nheaders = i->q.accept == NULL ? 0 : 1,
	    .range_first = i->by_get ? 0 : -1,
	    .range_last = i->by_get ? 0 : -1,
	    .follow = true,
	    .share_h2 = true,
	    .deadline_ms = i->q.deadline_ms,
	    .first_host = i->host,
	};

	i->call = registry_start(i->check->registries, &r, &ops, i);
}

/* --- callers --- */

struct check *
check_new(struct registries *rs, void (*counted)(void *arg, bool shared), void *arg)
{
	struct check *c = xcalloc(1, sizeof(*c));

	c->registries = rs;
	c->counted = counted;
	c->arg = arg;
	c->mac = new_mac();
	return c;
}

static void
free_waiting(struct inquiry *i)
{
	struct check_ticket *t;

	while ((t = TAILQ_FIRST(&i->waiting)) != NULL) {
		TAILQ_REMOVE(&i->waiting, t, entry);
		free(t);
	}
}

void
check_free(struct check **cp)
{
	struct check *c = *cp;

	if (c == NULL)
		return;
	*cp = NULL;
	while (!LIST_EMPTY(&c->all)) {
		free_waiting(LIST_FIRST(&c->all));
		inquiry_free(LIST_FIRST(&c->all));
	}
	quirks_free(&c->quirks);
	EVP_MAC_CTX_free(c->mac);
	free(c);
}

struct check_ticket *
check_ask(struct check *c, const struct check_question *q, check_fn *answer, void *arg)
{
	struct check_ticket *t = xcalloc(1, sizeof(*t));
	uint8_t key[KEY_BYTES];
	struct inquiry *i;
	bool shared;

	key_of(c, q, key);
	i = find(c, key);
	shared = i != NULL;
	if (!shared) {
		i = inquiry_new(c, q, key);
		ask_upstream(i);
	}
	*t = (struct check_ticket){.inquiry = i, .answer = answer, .arg = arg};
	TAILQ_INSERT_TAIL(&i->waiting, t, entry);
	if (c->counted != NULL)
		c->counted(c->arg, shared);
	return t;
}

void
check_cancel(struct check_ticket **tp)
{
	struct check_ticket *t = *tp;
	struct inquiry *i;

	*tp = NULL;
	if (t == NULL)
		return;
	i = t->inquiry;
	TAILQ_REMOVE(&i->waiting, t, entry);
	free(t);
	if (TAILQ_EMPTY(&i->waiting) && i->step != ANSWERED)
		inquiry_free(i);
}
