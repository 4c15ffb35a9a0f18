/* Request heads: where one ends, which are refused, and what the rest says. The words are found by
 * llhttp (http_lex.c); bodies, ranges and answers have files of their own.
 *
 * A head is read twice: find_end() looks for its last line whenever bytes came, which costs next to
 * nothing and refuses at once what can never become a head; everything else is done once, on a copy
 * in the arena.
 */
#include "http.h"

#include <string.h>
#include <strings.h>

#include "http_lex.h"

enum {
	MAX_EMPTY_LINES = 16, /* before a request line */
	MAX_METHOD = 16,      /* the longest that llhttp knows is shorter */
	MAX_HOST = 255 + 6,   /* a name, a colon, a port */
};

static const char version_at_end[] = " HTTP/1.x\r\n"; /* of each request line */
enum { VERSION_LEN = sizeof(version_at_end) - 1 };

/* A head's outline, known before its words are. */
struct outline {
	size_t bytes;        /* with the empty line at its end */
	size_t request_line; /* bytes, with CR LF */
	size_t fields;       /* lines */
};

/* What the fields say together. */
struct facts {
	struct http_head *head;
	const char *host;
	size_t host_len;
	unsigned hosts, lengths, codings;
	bool close, keep_alive;
};

static const char *const method_names[] = {
	[HTTP_GET] = "GET", [HTTP_HEAD] = "HEAD", [HTTP_POST] = "POST", [HTTP_PUT] = "PUT",
	[HTTP_PATCH] = "PATCH", [HTTP_DELETE] = "DELETE", [HTTP_OPTIONS] = "OPTIONS",
	[HTTP_OTHER] = "other",
};

/* --- where the head ends ---------------------------------------------------------------------- */

static size_t
skip_empty_lines(const char *p, size_t len)
{
	size_t at = 0;

	while (len - at >= 2 && at < 2 * MAX_EMPTY_LINES && p[at] == '\r' && p[at + 1] == '\n')
		at += 2;
	return at;
}

/* Bytes that no request begins with; `len` may be less than a method. */
static const char *
impossible_start(const char *p, size_t len)
{
	if (p[0] == 0x16)
		return "TLS on a plain HTTP port";
	if (len >= 4 && memcmp(p, "PRI ", 4) == 0)
		return "HTTP/2 without TLS is not served";
	for (size_t i = 0; i < len; i++) {
		if (p[i] == ' ' && i > 0)
			return NULL;
		if (i == MAX_METHOD || ((p[i] < 'A' || p[i] > 'Z') && p[i] != '-'))
			return "not an HTTP request";
	}
	return NULL;
}

/* The line at `p`, of `n` bytes with its LF, is the first. */
static const char *
check_request_line(const char *p, size_t n)
{
	const char *version = p + n - VERSION_LEN;

	if (n <= VERSION_LEN || memcmp(version, version_at_end, 8) != 0 || version[9] != '\r')
		return "not HTTP/1.0 or HTTP/1.1";
	return version[8] == '0' || version[8] == '1' ? NULL : "not HTTP/1.0 or HTTP/1.1";
}

static const char *
check_line(const char *p, size_t n, struct outline *o)
{
	if (n < 2 || memchr(p, '\r', n) != p + n - 2)
		return "a line that does not end with CR LF";
	if (memchr(p, '\0', n) != NULL)
		return "a NUL byte";
	if (o->request_line == 0) {
		o->request_line = n;
		return check_request_line(p, n);
	}
	if (n == 2)
		return NULL;
	if (*p == ' ' || *p == '\t')
		return "a folded header field";
	return ++o->fields > HTTP_MAX_HEADERS ? "too many header fields" : NULL;
}

/* The rest of the data, a line that has not ended yet, at `p`. */
static const char *
check_unfinished(const char *p, size_t n, const struct outline *o)
{
	const char *cr = memchr(p, '\r', n);

	if (cr != NULL && cr != p + n - 1)
		return "a line that does not end with CR LF";
	if (memchr(p, '\0', n) != NULL)
		return "a NUL byte";
	if (o->request_line == 0 && n > MAX_METHOD + HTTP_MAX_TARGET + VERSION_LEN)
		return "request target too long";
	return NULL;
}

static enum http_parse
find_end(const char *p, size_t len, struct outline *o, const char **error)
{
	const char *line = p, *end = p + len, *lf;

	if (len == 0 || (len == 1 && *p == '\r'))
		return HTTP_MORE;
	*error = impossible_start(p, len);
	while (*error == NULL && (lf = memchr(line, '\n', (size_t)(end - line))) != NULL) {
		size_t n = (size_t)(lf + 1 - line);

		*error = check_line(line, n, o);
		line = lf + 1;
		if (*error == NULL && n == 2) {
			o->bytes = (size_t)(line - p);
			return HTTP_OK;
		}
	}
	if (*error == NULL)
		*error = check_unfinished(line, (size_t)(end - line), o);
	return *error == NULL ? HTTP_MORE : HTTP_BAD;
}

/* --- the request line ------------------------------------------------------------------------- */

static enum http_method
method_of(const char *name)
{
	for (int m = HTTP_GET; m < HTTP_OTHER; m++)
		if (strcmp(name, method_names[m]) == 0)
			return m;
	return HTTP_OTHER;
}

/* A host with its port, by its characters only: a name, an IPv4 address or [IPv6]. */
static bool
is_host(const char *p, size_t n)
{
	if (n == 0 || n > MAX_HOST || *p == ':')
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= ':') ||
			c == '-' || c == '.' || c == '_' || c == '[' || c == ']'))
			return false;
	}
	return true;
}

static const char *
lower_copy(const char *p, size_t n, struct arena *arena)
{
	char *copy = arena_strndup(arena, p, n);

	for (char *c = copy; *c != '\0'; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c + ('a' - 'A'));
	return copy;
}

static bool
is_target(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] <= ' ' || p[i] > '~' || p[i] == '#') /* char may be signed or not */
			return false;
	return true;
}

/* "http://host/path" as a proxy's client sends it: its authority counts, not the Host field's
 * (RFC 9112 section 3.2.2). */
static const char *
cut_absolute_form(struct facts *f, struct arena *arena)
{
	const char *authority, *path;

	if (strncasecmp(f->head->target, "http://", 7) == 0)
		authority = f->head->target + 7;
	else if (strncasecmp(f->head->target, "https://", 8) == 0)
		authority = f->head->target + 8;
	else
		return "request target is neither a path nor a URL";
	path = authority + strcspn(authority, "/?");
	f->host = authority;
	f->host_len = (size_t)(path - authority);
	if (!is_host(authority, f->host_len))
		return "malformed authority in the request target";
	f->head->target = *path == '/' ? path : arena_printf(arena, "/%s", path);
	return NULL;
}

/* The words must fill the line: what lies between them would be read otherwise by somebody else. */
static const char *
read_request_line(char *text, const struct outline *o, const struct http_words *w, struct facts *f)
{
	const char *version = text + o->request_line - VERSION_LEN;

	if (w->method.at != text || w->target.at != text + w->method.len + 1 ||
	    w->target.at + w->target.len != version)
		return "malformed request line";
	if (w->target.len > HTTP_MAX_TARGET)
		return "request target too long";
	if (!is_target(w->target.at, w->target.len))
		return "a byte that is not allowed in the request target";
	text[w->method.len] = '\0';
	w->target.at[w->target.len] = '\0';
	f->head->method_name = text;
	f->head->method = method_of(text);
	f->head->target = w->target.at;
	f->head->minor = version[8] - '0';
	return NULL;
}

/* --- the fields ------------------------------------------------------------------------------- */

static const char *
take_host(struct facts *f, const char *value, size_t len)
{
	if (++f->hosts > 1)
		return "more than one Host";
	if (!is_host(value, len))
		return "malformed Host";
	f->host = value;
	f->host_len = len;
	return NULL;
}

static const char *
take_content_length(struct facts *f, const char *value, size_t len)
{
	int64_t n = 0;

	if (++f->lengths > 1 || len == 0)
		return "malformed or contradictory Content-Length";
	for (size_t i = 0; i < len; i++)
		if (value[i] < '0' || value[i] > '9' || __builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, value[i] - '0', &n))
			return "malformed or contradictory Content-Length";
	f->head->body_length = n;
	return NULL;
}

static const char *
take_transfer_encoding(struct facts *f, const char *value, size_t len)
{
	(void)len;
	if (++f->codings > 1 || strcasecmp(value, "chunked") != 0)
		return "Transfer-Encoding other than chunked";
	return NULL;
}

static bool
list_has(const char *list, const char *token)
{
	size_t n = strlen(token);

	for (;;) {
		size_t word;

		list += strspn(list, " \t,");
		if (*list == '\0')
			return false;
		word = strcspn(list, " \t,");
		if (word == n && strncasecmp(list, token, n) == 0)
			return true;
		list += word;
	}
}

static const char *
take_connection(struct facts *f, const char *value, size_t len)
{
	(void)len;
	f->close = f->close || list_has(value, "close");
	f->keep_alive = f->keep_alive || list_has(value, "keep-alive");
	return NULL;
}

static const char *
take_expect(struct facts *f, const char *value, size_t len)
{
	(void)len;
	if (f->head->minor > 0 && strcasecmp(value, "100-continue") == 0)
		f->head->expect_continue = true;
	return NULL;
}

static const struct {
	const char *name;
	size_t len;
	const char *(*take)(struct facts *f, const char *value, size_t len);
} known[] = {
	{"Host", 4, take_host},
	{"Expect", 6, take_expect},
	{"Connection", 10, take_connection},
	{"Content-Length", 14, take_content_length},
	{"Transfer-Encoding", 17, take_transfer_encoding},
};

static const char *
take_known(struct facts *f, const char *name, size_t name_len, const char *value, size_t len)
{
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].len == name_len && strcasecmp(known[i].name, name) == 0)
			return known[i].take(f, value, len);
	return NULL;
}

/* RFC 9110 section 5.6.2. llhttp lets an empty name and some more pass. */
static bool
is_token(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char lower = (unsigned char)p[i] | 0x20;

		if (!(lower >= 'a' && lower <= 'z') && !(p[i] >= '0' && p[i] <= '9') &&
		    p[i] != '-' && (p[i] == '\0' || strchr("_!#$%&'*+.^`|~", p[i]) == NULL))
			return false;
	}
	return n > 0;
}

static bool
is_value(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (((unsigned char)p[i] < 0x20 && p[i] != '\t') || p[i] == 0x7f)
			return false;
	return true;
}

/* Trims and terminates one field, in place. llhttp's place for an empty value is in the next
 * line, or nowhere. */
static const char *
read_field(struct http_line *line, struct http_header *out, struct facts *f)
{
	char *after = line->name.at + line->name.len, *value, *end;

	if (!is_token(line->name.at, line->name.len) || *after != ':')
		return "malformed name of a header field";
	value = after + 1 + strspn(after + 1, " \t");
	end = value + line->value.len;
	if ((line->value.len > 0 && line->value.at != value) || end[0] != '\r' || end[1] != '\n')
		return "malformed header field";
	if (!is_value(value, line->value.len))
		return "a control byte in a header field";
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	*after = '\0';
	*end = '\0';
	*out = (struct http_header){line->name.at, value};
	return take_known(f, line->name.at, line->name.len, value, (size_t)(end - value));
}

/* llhttp must have seen as many fields as there are lines: one that hides in another's line
 * would be lost to us. */
static const char *
read_fields(struct http_words *w, const struct outline *o, struct facts *f, struct arena *arena)
{
	struct http_header *headers = arena_alloc(arena, w->n * sizeof(*headers));
	const char *error = NULL;

	if (headers == NULL)
		return "request head too large";
	if (w->n != o->fields)
		return "malformed header field";
	for (size_t i = 0; i < w->n && error == NULL; i++)
		error = read_field(&w->lines[i], &headers[i], f);
	f->head->headers = headers;
	f->head->nheaders = w->n;
	return error;
}

/* What the fields mean together: framing (RFC 9112 section 6), the host (3.2) and persistence
 * (9.3). */
static const char *
conclude(struct facts *f, struct arena *arena)
{
	struct http_head *h = f->head;
	const char *error = NULL;

	if (f->codings > 0 && f->lengths > 0)
		return "both Content-Length and Transfer-Encoding";
	if (f->codings > 0 && h->minor == 0)
		return "Transfer-Encoding in HTTP/1.0";
	if (f->codings > 0) {
		h->chunked = true;
		h->body_length = -1;
	}
	if (f->hosts == 0 && h->minor > 0)
		return "no Host";
	if (*h->target != '/')
		error = cut_absolute_form(f, arena);
	h->host = f->host != NULL ? lower_copy(f->host, f->host_len, arena) : "";
	h->keep_alive = h->minor > 0 ? !f->close : f->keep_alive && !f->close;
	return error == NULL && arena_failed(arena) ? "request head too large" : error;
}

static const char *
read_head(const char *data, const struct outline *o, struct arena *arena, struct http_head *head)
{
	struct http_line lines[HTTP_MAX_HEADERS];
	struct http_words w = {.lines = lines, .max = HTTP_MAX_HEADERS};
	struct facts f = {.head = head};
	char *text = arena_strndup(arena, data, o->bytes);
	const char *error;

	*head = (struct http_head){0};
	if (arena_failed(arena))
		return "request head too large";
	error = http_lex(text, o->bytes, &w);
	if (error == NULL)
		error = read_request_line(text, o, &w, &f);
	if (error == NULL)
		error = read_fields(&w, o, &f, arena);
	return error != NULL ? error : conclude(&f, arena);
}

enum http_parse
http_parse_head(const char *data, size_t len, struct arena *arena, struct http_head *head,
    size_t *consumed, const char **error)
{
	size_t blank = skip_empty_lines(data, len);
	struct outline o = {0};
	enum http_parse r;

	*error = NULL;
	r = find_end(data + blank, len - blank, &o, error);
	if (r != HTTP_OK)
		return r;
	*error = read_head(data + blank, &o, arena, head);
	*consumed = blank + o.bytes;
	return *error == NULL ? HTTP_OK : HTTP_BAD;
}

/* --- looking at a head ------------------------------------------------------------------------ */

const char *
http_method_name(enum http_method m)
{
	return method_names[m];
}

bool
http_name_is(const char *name, const char *wanted)
{
	return strcasecmp(name, wanted) == 0;
}

const char *
http_header_get(const struct http_head *head, const char *name)
{
	for (size_t i = 0; i < head->nheaders; i++)
		if (http_name_is(head->headers[i].name, name))
			return head->headers[i].value;
	return NULL;
}

const char *
http_header_joined(const struct http_head *head, const char *name, struct arena *arena)
{
	const char *first = NULL;
	size_t size = 0, lines = 0;
	char *all, *to;

	for (size_t i = 0; i < head->nheaders; i++) {
		if (!http_name_is(head->headers[i].name, name))
			continue;
		size += strlen(head->headers[i].value) + 2;
		if (lines++ == 0)
			first = head->headers[i].value;
	}
	all = to = lines > 1 ? arena_alloc(arena, size) : NULL;
	if (all == NULL)
		return first;
	for (size_t i = 0; i < head->nheaders; i++) {
		if (!http_name_is(head->headers[i].name, name))
			continue;
		if (to != all)
			to = stpcpy(to, ", ");
		to = stpcpy(to, head->headers[i].value);
	}
	return all;
}
