/* Path and query: what is asked for, and what to ask the upstream. Which upstream that is says
 * route_rules.c.
 *
 * A path that the cache acts upon has to be plain: no encoding but "%3A" in a reference, no dot
 * segments, so that no upstream reads another object in it than we do. What is passed through is
 * checked for climbing only.
 */
#include "route.h"

#include <string.h>

#include "piece.h"
#include "route_carrier.h"
#include "route_grammar.h"
#include "route_rules.h"

/* /v2/<name>/<kind>/<reference>, split from the right. */
struct parts {
	enum route_kind kind; /* ROUTE_PASS: not of this form */
	struct piece name, reference;
};

/* --- bytes and escapes ------------------------------------------------------------------------ */

static bool
is_control(unsigned char c)
{
	return c < 0x20 || c == 0x7f;
}

/* --- dangerous paths -------------------------------------------------------------------------- */

/* ".." as any server between here and the object may read it: encoded, or between backslashes;
 * and encoded controls. */
static bool
climbs(struct piece path)
{
	const char *end = path.at + path.len;
	size_t dots = 0, others = 0, used;

	for (const char *p = path.at; p < end; p += used) {
		unsigned char c = piece_decoded(p, end, &used);

		if (is_control(c))
			return true;
		if (c == '/' || c == '\\') {
			if (dots == 2 && others == 0)
				return true;
			dots = others = 0;
		} else if (c == '.') {
			dots++;
		} else {
			others++;
		}
	}
	return dots == 2 && others == 0;
}

/* Escapes that would make another path of this one. */
static bool
has_false_escape(struct piece path)
{
	const char *end = path.at + path.len;
	size_t used;

	for (const char *p = path.at; p < end; p += used) {
		unsigned char c = piece_decoded(p, end, &used);

		if (used == 3 && (c == '/' || c == '\\' || c == '.' || is_control(c)))
			return true;
	}
	return false;
}

/* A segment that is empty (the last may be) or of dots only. */
static bool
has_odd_segment(struct piece path)
{
	const char *p = path.at + 1, *end = path.at + path.len, *next;

	for (; p <= end; p = next + 1) {
		struct piece segment;

		next = memchr(p, '/', (size_t)(end - p));
		if (next == NULL)
			next = end;
		segment = (struct piece){p, (size_t)(next - p)};
		if ((segment.len == 0 && next < end) || piece_is(segment, ".") ||
		    piece_is(segment, ".."))
			return true;
	}
	return false;
}

/* --- the query -------------------------------------------------------------------------------- */

static bool
is_ns(struct piece parameter)
{
	const char *equals = memchr(parameter.at, '=', parameter.len);

	if (equals != NULL)
		parameter.len = (size_t)(equals - parameter.at);
	return piece_decodes_to(parameter, "ns");
}

/* Copies the query ("?…" or nothing) without its ns parameters; returns its end. `to` has room
 * for strlen(query). */
static char *
copy_query(const char *query, char *to)
{
	char *start = to;

	if (*query == '\0')
		return to;
	for (;;) {
		struct piece parameter = {query + 1, strcspn(query + 1, "&")};
		const char *end = parameter.at + parameter.len;

		if (!is_ns(parameter)) {
			*to = to == start ? '?' : '&';
			to++;
			to = mempcpy(to, parameter.at, parameter.len);
		}
		if (*end == '\0')
			return to;
		query = end;
	}
}

static const char *
make_target(struct arena *arena, struct piece path, const char *rest, const char *query)
{
	char *target = arena_alloc(arena, path.len + strlen(rest) + strlen(query) + 1);

	if (target == NULL)
		return "";
	*copy_query(query, stpcpy(mempcpy(target, path.at, path.len), rest)) = '\0';
	return target;
}

/* --- manifests, blobs and referrers ----------------------------------------------------------- */

/* What comes after the last "/" of `p`, which loses it and the slash; empty when there is no
 * slash. */
static struct piece
cut_last(struct piece *p)
{
	const char *slash = memrchr(p->at, '/', p->len);
	struct piece last = {p->at, 0};

	if (slash == NULL)
		return last;
	last = (struct piece){slash + 1, (size_t)(p->at + p->len - slash - 1)};
	p->len = (size_t)(slash - p->at);
	return last;
}

static struct parts
split(struct piece path)
{
	struct parts s = {.name = {path.at + 4, path.len - 4}}; /* after "/v2/" */
	struct piece word;

	s.reference = cut_last(&s.name);
	word = cut_last(&s.name);
	if (piece_is(word, "manifests"))
		s.kind = ROUTE_MANIFEST;
	else if (piece_is(word, "blobs") && !piece_is(s.reference, "uploads"))
		s.kind = ROUTE_BLOB;
	else if (piece_is(word, "referrers") && s.reference.len > 0)
		s.kind = ROUTE_REFERRERS;
	return s;
}

/* A copy with "%3A" as ":"; nothing else is decoded. */
static char *
decode_colons(struct arena *arena, struct piece p)
{
	char *copy = arena_strndup(arena, p.at, p.len), *to = copy;
	const char *end = p.at + p.len;
	size_t used;

	if (arena_failed(arena))
		return copy;
	for (const char *from = p.at; from < end; from += used) {
		unsigned char c = piece_decoded(from, end, &used);

		if (used == 3 && c != ':')
			used = 1;
		*to++ = used == 3 ? ':' : *from;
	}
	*to = '\0';
	return copy;
}

static enum route_result
read_reference(const char *text, struct route *out)
{
	size_t len = strlen(text);

	if (strchr(text, ':') == NULL) {
		if (out->kind != ROUTE_MANIFEST)
			return ROUTE_BAD_DIGEST;
		return route_is_tag(text, len) ? ROUTE_OK : ROUTE_BAD_REFERENCE;
	}
	switch (digest_parse(text, len, &out->digest)) {
	case DIGEST_OK: out->has_digest = out->kind != ROUTE_REFERRERS; return ROUTE_OK;
	case DIGEST_UNKNOWN: out->kind = ROUTE_PASS; return ROUTE_OK;
	case DIGEST_BAD: break;
	}
	return ROUTE_BAD_DIGEST;
}

static enum route_result
read_object(struct piece path, const struct parts *s, const char *query, struct arena *arena,
    struct route *out)
{
	const char *reference;
	enum route_result r;

	if (has_false_escape(path) || has_odd_segment(path))
		return ROUTE_BAD_PATH;
	if (!route_is_name(s->name.at, s->name.len))
		return ROUTE_BAD_NAME;
	reference = decode_colons(arena, s->reference);
	out->kind = s->kind;
	r = read_reference(reference, out);
	if (r != ROUTE_OK || out->kind == ROUTE_PASS)
		return r;
	out->repository = arena_strndup(arena, s->name.at, s->name.len);
	out->reference = reference;
	path.len -= s->reference.len;
	out->target = make_target(arena, path, reference, query);
	return ROUTE_OK;
}

/* --- all together ----------------------------------------------------------------------------- */

static enum route_result
read_target(const char *target, bool reading, struct arena *arena, struct route *out)
{
	struct piece path = {target, strcspn(target, "?")};
	const char *query = target + path.len;
	struct parts s = {.kind = ROUTE_PASS};
	enum route_result r = ROUTE_OK;

	if (*target != '/' || !route_is_printable(target))
		return ROUTE_BAD_PATH;
	if (piece_is(path, "/v2"))
		path = (struct piece){"/v2/", 4};
	if (reading && piece_is(path, "/v2/"))
		out->kind = ROUTE_PING;
	else if (reading && path.len > 4 && memcmp(path.at, "/v2/", 4) == 0)
		s = split(path);
	if (s.kind != ROUTE_PASS)
		r = read_object(path, &s, query, arena, out);
	else if (climbs(path))
		return ROUTE_BAD_PATH;
	if (r == ROUTE_OK && out->target == NULL)
		out->target = make_target(arena, path, "", query);
	return r;
}

/* Of nobody: the cache's own part of the API, which it has when a path can name a registry. */
static bool
is_own(const struct carriers *cs, const struct route_question *q, struct route *out)
{
	struct piece path = {q->target, strcspn(q->target, "?")};

	if (out->carrier != ROUTE_BY_DEFAULT || !carriers_in_path(cs))
		return false;
	if (piece_is(path, "/token"))
		out->kind = ROUTE_TOKEN;
	else if (q->reading && (piece_is(path, "/v2") || piece_is(path, "/v2/")))
		out->kind = ROUTE_OWN_PING;
	else
		return false;
	out->scheme = out->host = out->upstream = "";
	out->target = q->target;
	return true;
}

static enum route_result
finish(const struct route_choice *choice, struct arena *arena, struct route *out)
{
	out->scheme = arena_strdup(arena, choice->scheme);
	out->host = choice->host;
	out->trusted = choice->trusted;
	out->registry = choice->registry;
	out->upstream = arena_printf(arena, "%s://%s", out->scheme, out->host);
	return arena_failed(arena) ? ROUTE_BAD_PATH : ROUTE_OK;
}

static void
choose_registry(const struct carriers *cs, unsigned number, struct route_choice *choice)
{
	const struct route_registry *r = carriers_get(cs, number);

	*choice = (struct route_choice){
	    .scheme = r->scheme, .host = r->hosts[0], .trusted = r->trusted, .registry = number};
}

enum route_result
route_request(const struct route_table *t, const struct route_question *q, struct arena *arena,
    struct route *out)
{
	const struct carriers *cs = route_carriers_of(t);
	struct route_choice choice;
	struct carried carried = {.target = q->target};
	enum route_result chosen = route_choose(t, q->host, arena, &choice), r = ROUTE_OK;

	*out = (struct route){
	    .kind = ROUTE_PASS, .repository = "", .reference = "", .mount = "", .prefix = "", .ns = ""};
	if (chosen == ROUTE_BAD_HOST || (chosen != ROUTE_OK && cs == NULL))
		return chosen;
	if (*q->target != '/' || !route_is_printable(q->target))
		return ROUTE_BAD_PATH;
	if (cs != NULL)
		r = carriers_read(cs, q, chosen == ROUTE_OK ? &choice : NULL, arena, out, &carried);
	if (r != ROUTE_OK)
		return r;
	out->carrier = cs == NULL && choice.by_rule ? ROUTE_BY_RULE : carried.carrier;
	if (carried.number > 0)
		choose_registry(cs, carried.number, &choice);
	else if (cs != NULL && is_own(cs, q, out))
		return arena_failed(arena) ? ROUTE_BAD_PATH : ROUTE_OK;
	else if (chosen != ROUTE_OK)
		return chosen;
	r = read_target(carried.target, q->reading, arena, out);
	return r == ROUTE_OK ? finish(&choice, arena, out) : r;
}

const char *
route_repository(const struct route_table *t, const char *name, size_t n, struct arena *arena,
    unsigned *number)
{
	const struct carriers *cs = route_carriers_of(t);
	const char *slash = memchr(name, '/', n);
	struct piece below;
	bool library;

	*number = 0;
	if (cs == NULL || slash == NULL)
		return NULL;
	*number = carriers_component(cs, name, (size_t)(slash - name));
	below = (struct piece){slash + 1, (size_t)(name + n - slash - 1)};
	if (*number == 0 || !route_is_name(below.at, below.len))
		return NULL;
	library = carriers_get(cs, *number)->library && memchr(below.at, '/', below.len) == NULL;
	return arena_printf(
	    arena, "%s%.*s", library ? "library/" : "", (int)below.len, below.at);
}

bool
route_to(
    const struct route_table *t, unsigned number, struct arena *arena, struct route *out)
{
	struct route_choice choice;

	choose_registry(route_carriers_of(t), number, &choice);
	return finish(&choice, arena, out) == ROUTE_OK;
}

const struct route_registry *
route_registry(const struct route_table *t, unsigned number)
{
	return number > 0 ? carriers_get(route_carriers_of(t), number) : NULL;
}

bool
route_default(const struct route_table *t, struct arena *arena, struct route *out)
{
	struct route_choice choice;

	return route_choose_default(t, arena, &choice) == ROUTE_OK &&
	    finish(&choice, arena, out) == ROUTE_OK;
}

bool
route_only(const struct route_table *t, struct arena *arena, struct route *out)
{
	const struct carriers *cs = route_carriers_of(t);
	struct route_choice choice;
	bool has_default = route_choose_default(t, arena, &choice) == ROUTE_OK;
	size_t others = has_default && choice.registry == 0 ? 1 : 0;

	if ((cs != NULL ? carriers_count(cs) : 0) + others != 1)
		return false;
	return cs != NULL ? route_to(t, 1, arena, out) : finish(&choice, arena, out) == ROUTE_OK;
}

const char *
route_kind_name(enum route_kind k)
{
	switch (k) {
	case ROUTE_PASS: return "pass";
	case ROUTE_PING: return "ping";
	case ROUTE_MANIFEST: return "manifest";
	case ROUTE_BLOB: return "blob";
	case ROUTE_REFERRERS: return "referrers";
	case ROUTE_OWN_PING: return "own ping";
	case ROUTE_TOKEN: return "token";
	}
	return "unknown";
}
