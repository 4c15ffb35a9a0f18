/* The words of a request: the options that an easy handle keeps, and those of each hop, with its
 * header list. Header lists are made anew for every hop, so that nothing of one origin's reaches
 * another by being left over.
 */
#include <string.h>
#include <strings.h>

#include "log.h"
#include "upstream_private.h"
#include "xalloc.h"

enum {
	SMALL_BUFFER = 4 * 1024,
	BULK_BUFFER = 128 * 1024,
	NO_UPLOAD_BUFFER = 16 * 1024, /* a request's head goes through it */
	UPLOAD_BUFFER = 64 * 1024,
};

/* Said by us or by libcurl, or not to be said on this connection. */
static const char *const ours[] = {"Accept-Encoding", "Authorization", "Connection",
    "Content-Length", "Expect", "Host", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection",
    "TE", "Trailer", "Transfer-Encoding", "Upgrade"};

/* What a redirect's target is told. */
static const char *const foreign_too[] = {"Accept", "Range", "If-Range", "User-Agent"};

#define IN_LIST(list, name) in_list(list, sizeof(list) / sizeof((list)[0]), name)

static bool
in_list(const char *const *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcasecmp(list[i], name) == 0)
			return true;
	return false;
}

#define SET(easy, option, value) \
	do { \
		CURLcode set_rc = curl_easy_setopt(easy, option, value); \
		if (set_rc != CURLE_OK) \
			return set_rc; \
	} while (0)

static CURLcode
set_callbacks(CURL *easy, struct upstream_call *c)
{
	SET(easy, CURLOPT_PRIVATE, c);
	SET(easy, CURLOPT_ERRORBUFFER, c->curl_error);
	SET(easy, CURLOPT_HEADERFUNCTION, stream_header);
	SET(easy, CURLOPT_HEADERDATA, c);
	SET(easy, CURLOPT_WRITEFUNCTION, stream_body);
	SET(easy, CURLOPT_WRITEDATA, c);
	SET(easy, CURLOPT_READFUNCTION, stream_upload);
	SET(easy, CURLOPT_READDATA, c);
	SET(easy, CURLOPT_OPENSOCKETFUNCTION, redirect_open_socket);
	SET(easy, CURLOPT_OPENSOCKETDATA, c);
	SET(easy, CURLOPT_PREREQDATA, c);
	SET(easy, CURLOPT_SSL_CTX_FUNCTION, trust_apply);
	SET(easy, CURLOPT_SSL_CTX_DATA, c->u);
	return CURLE_OK;
}

static CURLcode
set_policy(CURL *easy, const struct upstream *u)
{
	SET(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	SET(easy, CURLOPT_NOSIGNAL, 1L);
	SET(easy, CURLOPT_PATH_AS_IS, 1L);
	SET(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	SET(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)u->config.connect_timeout_ms);
	SET(easy, CURLOPT_SHARE, u->share);
	SET(easy, CURLOPT_CAINFO, NULL); /* trust_apply() gives the store */
	SET(easy, CURLOPT_CAPATH, NULL);
	SET(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);
	return CURLE_OK;
}

CURL *
setup_easy(struct upstream_call *c)
{
	CURL *easy = curl_easy_init();
	CURLcode rc;

	if (easy == NULL)
		panic("cannot make a libcurl handle");
	rc = set_callbacks(easy, c);
	if (rc == CURLE_OK)
		rc = set_policy(easy, c->u);
	if (rc == CURLE_OK)
		return easy;
	log_error("this libcurl (%s) lacks an option that is needed: %s", curl_version(),
	    curl_easy_strerror(rc));
	curl_easy_cleanup(easy);
	return NULL;
}

/* --- the header list --- */

struct list {
	struct arena *arena;
	struct curl_slist *first, **end;
};

/* The list and its text live in the call's arena: libcurl only reads them. */
static void
list_line(struct list *l, const char *text)
{
	struct curl_slist *item = arena_alloc(l->arena, sizeof(*item));

	if (item == NULL)
		return;
	item->data = (char *)text;
	*l->end = item;
	l->end = &item->next;
}

/* A value that would end the line is left out. */
static void
list_field(struct list *l, const char *name, const char *value)
{
	if (strpbrk(value, "\r\n") != NULL || strpbrk(name, "\r\n:; \t") != NULL || *name == '\0')
		return;
	if (*value == '\0')
		list_line(l, arena_printf(l->arena, "%s;", name));
	else
		list_line(l, arena_printf(l->arena, "%s: %s", name, value));
}

static bool
wanted(const struct upstream_call *c, const char *name)
{
	if (IN_LIST(ours, name) || (c->request.range_first >= 0 && strcasecmp(name, "Range") == 0))
		return false;
	return !c->foreign || IN_LIST(foreign_too, name);
}

static void
list_range(struct list *l, const struct upstream_request *r)
{
	if (r->range_first < 0)
		return;
	if (r->if_range != NULL)
		list_field(l, "If-Range", r->if_range);
	if (r->range_last < 0)
		list_line(
		    l, arena_printf(l->arena, "Range: bytes=%lld-", (long long)r->range_first));
	else
		list_line(l,
		    arena_printf(l->arena, "Range: bytes=%lld-%lld", (long long)r->range_first,
			(long long)r->range_last));
}

static struct curl_slist *
header_list(struct upstream_call *c)
{
	const struct upstream_request *r = &c->request;
	struct list l = {.arena = &c->arena, .end = &l.first};
	bool accept = false, agent = false;

	for (size_t i = 0; i < r->nheaders; i++) {
		if (!wanted(c, r->headers[i].name))
			continue;
		accept |= strcasecmp(r->headers[i].name, "Accept") == 0;
		agent |= strcasecmp(r->headers[i].name, "User-Agent") == 0;
		list_field(&l, r->headers[i].name, r->headers[i].value);
	}
	if (r->authorization != NULL && !c->auth_dropped)
		list_field(&l, "Authorization", r->authorization);
	list_range(&l, r);
	list_line(&l, "Accept-Encoding: identity");
	list_line(&l, "Expect:"); /* an empty value: libcurl shall not send its own */
	if (!accept)
		list_line(&l, "Accept:");
	if (!agent && c->u->user_agent != NULL)
		list_field(&l, "User-Agent", c->u->user_agent);
	return l.first;
}

/* --- a hop --- */

static bool
method_implies_body(const char *method)
{
	return strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
	    strcmp(method, "PATCH") == 0;
}

bool
setup_repeatable(const struct upstream_request *r)
{
	return !r->has_body && (strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0);
}

/* POST, PUT and PATCH without a body say Content-Length: 0 (RFC 9110 section 8.6). */
static CURLcode
set_method(CURL *easy, const struct upstream_request *r)
{
	bool upload = r->has_body || method_implies_body(r->method);
	bool plain = strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0;
	int64_t length = r->has_body ? r->body_length : 0;

	if (upload) {
		SET(easy, CURLOPT_UPLOAD, 1L);
		SET(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)length);
	} else {
		SET(easy, CURLOPT_HTTPGET, 1L);
		if (strcmp(r->method, "HEAD") == 0)
			SET(easy, CURLOPT_NOBODY, 1L);
	}
	SET(easy, CURLOPT_CUSTOMREQUEST, plain && !upload ? NULL : r->method);
	return CURLE_OK;
}

/* What cannot be said twice never goes out on a kept connection, which may turn out to be dead. */
static CURLcode
set_connection(CURL *easy, const struct upstream_call *c)
{
	bool h2 = c->request.share_h2;
	bool fresh = c->fresh || !setup_repeatable(&c->request);

	SET(easy, CURLOPT_HTTP_VERSION,
	    h2 ? (long)CURL_HTTP_VERSION_2TLS : (long)CURL_HTTP_VERSION_1_1);
	SET(easy, CURLOPT_PIPEWAIT, h2 && strncasecmp(c->url, "https:", 6) == 0 ? 1L : 0L);
	SET(easy, CURLOPT_FRESH_CONNECT, fresh ? 1L : 0L);
	SET(easy, CURLOPT_PREREQFUNCTION, c->foreign ? redirect_before_request : NULL);
	return CURLE_OK;
}

/* libcurl refuses to change the size of a buffer that a handle has kept, as HTTP/2 lets it: the
 * old one does as well. */
static void
set_buffers(CURL *easy, const struct upstream_request *r)
{
	curl_easy_setopt(
	    easy, CURLOPT_BUFFERSIZE, r->share_h2 ? (long)SMALL_BUFFER : (long)BULK_BUFFER);
	curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE,
	    r->has_body ? (long)UPLOAD_BUFFER : (long)NO_UPLOAD_BUFFER);
}

/* The target is sent as it is, so what would change its meaning in a URL is refused. */
static bool
url_is_plain(const struct upstream_request *r)
{
	return r->target[0] == '/' && strpbrk(r->host, "/?#@\\ ") == NULL &&
	    strchr(r->target, '#') == NULL;
}

bool
setup_hop(struct upstream_call *c)
{
	struct curl_slist *headers = header_list(c);
	CURLcode rc;

	if (arena_failed(&c->arena))
		return call_fault(c, UPSTREAM_PROTOCOL, "the request is too large");
	if (!url_is_plain(&c->request))
		return call_fault(
		    c, UPSTREAM_PROTOCOL, "the request's host or target cannot be put into a URL");
	rc = curl_easy_setopt(c->easy, CURLOPT_URL, c->url);
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, headers);
	if (rc == CURLE_OK)
		rc = set_method(c->easy, &c->request);
	if (rc == CURLE_OK)
		rc = set_connection(c->easy, c);
	set_buffers(c->easy, &c->request);
	return rc == CURLE_OK || call_fault(c, UPSTREAM_PROTOCOL, curl_easy_strerror(rc));
}

void
setup_copy_request(struct upstream_call *c, const struct upstream_request *r)
{
	struct arena *a = &c->arena;
	struct upstream_header *h = arena_alloc(a, sizeof(*h) * (r->nheaders + 1));

	c->request = *r;
	c->request.method = arena_strdup(a, r->method);
	c->request.scheme = arena_strdup(a, r->scheme);
	c->request.host = arena_strdup(a, r->host);
	c->request.target = arena_strdup(a, r->target);
	if (r->authorization != NULL)
		c->request.authorization = arena_strdup(a, r->authorization);
	if (r->if_range != NULL)
		c->request.if_range = arena_strdup(a, r->if_range);
	for (size_t i = 0; h != NULL && i < r->nheaders; i++) {
		h[i].name = arena_strdup(a, r->headers[i].name);
		h[i].value = arena_strdup(a, r->headers[i].value);
	}
	c->request.headers = h;
	c->url =
	    arena_printf(a, "%s://%s%s", c->request.scheme, c->request.host, c->request.target);
}
