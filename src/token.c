/* Scopes and tokens: what clients say and what registries are told. */
#include "token.h"

#include <string.h>
#include <strings.h>

#include "piece.h"
#include "route.h"
#include "route_grammar.h"

static const char mark[] = "registry-cache.1.";
static const char base64[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_";
static const char digits[] = "0123456789abcdef";

enum { MAX_SCOPES = 64, MAX_SCOPE = 1024, LIFETIME_S = 3600 };

/* --- tokens of ours --------------------------------------------------------------------------- */

static const char *
to_hex(struct arena *arena, const char *text)
{
	char *out = arena_alloc(arena, 2 * strlen(text) + 1), *to = out;

	for (; out != NULL && *text != '\0'; text++) {
		*to++ = digits[(unsigned char)*text >> 4];
		*to++ = digits[(unsigned char)*text & 15];
	}
	return out != NULL ? out : "";
}

/* NULL: it is none. */
static const char *
from_hex(struct arena *arena, const char *hex, size_t n)
{
	char *out = arena_alloc(arena, n / 2 + 1), *to = out;

	if (out == NULL || n % 2 != 0)
		return NULL;
	for (size_t i = 0; i < n; i += 2) {
		const char *high = memchr(digits, hex[i], 16), *low = memchr(digits, hex[i + 1], 16);

		if (high == NULL || low == NULL)
			return NULL;
		*to++ = (char)((high - digits) << 4 | (low - digits));
	}
	return out;
}

/* What follows the scheme, when it is this one; NULL: it is another. */
static const char *
after_scheme(const char *authorization, const char *scheme)
{
	size_t n = strlen(scheme);

	if (authorization == NULL || strncasecmp(authorization, scheme, n) != 0 ||
	    authorization[n] != ' ')
		return NULL;
	return authorization + n + strspn(authorization + n, " ");
}

const char *
token_write(struct arena *arena, const char *registry, const char *basic)
{
	const char *secret = basic != NULL ? after_scheme(basic, "Basic") : "";

	if (secret == NULL || secret[strspn(secret, base64)] != '\0')
		return NULL;
	return arena_printf(arena, "%s%s.%s", mark, to_hex(arena, registry), secret);
}

bool
token_read(const char *authorization, struct arena *arena, const char **registry,
    const char **basic)
{
	const char *text = after_scheme(authorization, "Bearer"), *dot;

	*registry = "";
	*basic = NULL;
	if (text == NULL || strncmp(text, mark, sizeof(mark) - 1) != 0)
		return false;
	text += sizeof(mark) - 1;
	dot = strchr(text, '.');
	if (dot == NULL || dot[1 + strspn(dot + 1, base64)] != '\0')
		return true;
	*registry = from_hex(arena, text, (size_t)(dot - text));
	if (*registry == NULL)
		*registry = "";
	else if (dot[1] != '\0')
		*basic = arena_printf(arena, "Basic %s", dot + 1);
	return true;
}

const char *
token_document(struct arena *arena, const char *token)
{
	return arena_printf(arena, "{\"token\":\"%s\",\"access_token\":\"%s\",\"expires_in\":%d}",
	    token, token, LIFETIME_S);
}

/* --- parameters ------------------------------------------------------------------------------- */

/* As Go's url.QueryEscape, but for the space, which servers of any kind read as "%20". */
static const char *
escaped(struct arena *arena, const char *text)
{
	static const char plain[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
	char *out = arena_alloc(arena, 3 * strlen(text) + 1), *to = out;

	for (; out != NULL && *text != '\0'; text++) {
		if (strchr(plain, *text) != NULL) {
			*to++ = *text;
			continue;
		}
		*to++ = '%';
		*to++ = "0123456789ABCDEF"[(unsigned char)*text >> 4];
		*to++ = "0123456789ABCDEF"[(unsigned char)*text & 15];
	}
	return out != NULL ? out : "";
}

const char *
token_parameters(struct arena *arena, const struct token_question *q, const char *service)
{
	if (service == NULL)
		return q->parameters;
	return arena_printf(arena, "%s%sservice=%s", q->parameters,
	    *q->parameters != '\0' ? "&" : "", escaped(arena, service));
}

/* --- scopes ----------------------------------------------------------------------------------- */

/* "type:name:actions" or "type(class):name:actions"; the name may have colons in it. False: it is not
 * about a repository. */
static bool
split(struct piece scope, struct piece *type, struct piece *name, struct piece *actions)
{
	const char *first = memchr(scope.at, ':', scope.len);
	const char *last = memrchr(scope.at, ':', scope.len);

	if (first == NULL || first == last)
		return false;
	*type = (struct piece){scope.at, (size_t)(first - scope.at)};
	*name = (struct piece){first + 1, (size_t)(last - first - 1)};
	*actions = (struct piece){last + 1, (size_t)(scope.at + scope.len - last - 1)};
	return type->len >= 10 && memcmp(type->at, "repository", 10) == 0 &&
	    (type->len == 10 || type->at[10] == '(');
}

/* The scopes of one question, mapped. */
struct reading {
	const struct route_table *t;
	struct arena *arena;
	struct token_question *q;
	const char *known[MAX_SCOPES];
	size_t nknown;
};

/* False: it was there before. */
static bool
is_new(struct reading *r, const char *scope)
{
	for (size_t i = 0; i < r->nknown; i++)
		if (strcmp(r->known[i], scope) == 0)
			return false;
	if (r->nknown < MAX_SCOPES)
		r->known[r->nknown++] = scope;
	else
		r->q->trouble = "too many scopes";
	return true;
}

static void
note_registry(struct reading *r, unsigned number, const char *repository)
{
	if (r->q->names && r->q->number != number)
		r->q->trouble = "the scopes are of more than one registry";
	if (!r->q->names)
		r->q->repository = repository;
	r->q->names = true;
	r->q->number = number;
}

/* The scope as the registry knows it. */
static const char *
mapped(struct reading *r, struct piece scope)
{
	struct piece type, name, actions;
	const char *repository;
	unsigned number;

	if (!split(scope, &type, &name, &actions))
		return arena_strndup(r->arena, scope.at, scope.len);
	repository = route_repository(r->t, name.at, name.len, r->arena, &number);
	if (repository == NULL)
		repository = arena_strndup(r->arena, name.at, name.len);
	if (!route_is_name(repository, strlen(repository)))
		r->q->trouble = "a scope with no valid repository name";
	note_registry(r, number, repository);
	return arena_printf(r->arena, "%.*s:%s:%.*s", (int)type.len, type.at, repository,
	    (int)actions.len, actions.at);
}

/* The value of one parameter `scope`: several may be joined by spaces. */
static const char *
mapped_scopes(struct reading *r, const char *text)
{
	const char *out = "";

	while (*(text += strspn(text, " ")) != '\0') {
		struct piece one = {text, strcspn(text, " ")};
		const char *scope = mapped(r, one);

		if (is_new(r, scope))
			out = arena_printf(r->arena, "%s%s%s", out, *out != '\0' ? " " : "", scope);
		text += one.len;
	}
	return out;
}

static void
keep(struct reading *r, const char *parameter)
{
	r->q->parameters = arena_printf(r->arena, "%s%s%s", r->q->parameters,
	    *r->q->parameters != '\0' ? "&" : "", parameter);
}

static void
read_scope(struct reading *r, struct piece value)
{
	char text[MAX_SCOPES * MAX_SCOPE / 4];
	const char *scopes;

	if (!piece_decode(value, true, text, sizeof(text))) {
		r->q->trouble = "a scope that cannot be read";
		return;
	}
	scopes = mapped_scopes(r, text);
	if (*scopes != '\0')
		keep(r, arena_printf(r->arena, "scope=%s", escaped(r->arena, scopes)));
}

static const char *
decoded(struct reading *r, struct piece value)
{
	char *out = arena_alloc(r->arena, value.len + 1);

	return out != NULL && piece_decode(value, true, out, value.len + 1) ? out : NULL;
}

static void
read_parameter(struct reading *r, struct piece name, struct piece value)
{
	if (name.len == 0 || piece_decodes_to(name, "service"))
		return;
	if (piece_decodes_to(name, "scope")) {
		read_scope(r, value);
		return;
	}
	if (piece_decodes_to(name, "grant_type"))
		r->q->grant_type = decoded(r, value);
	else if (piece_decodes_to(name, "username"))
		r->q->username = decoded(r, value);
	else if (piece_decodes_to(name, "password"))
		r->q->password = decoded(r, value);
	keep(r, arena_printf(r->arena, "%.*s=%.*s", (int)name.len, name.at, (int)value.len, value.at));
}

void
token_question_read(
    const struct route_table *t, const char *text, struct arena *arena, struct token_question *q)
{
	struct reading r = {.t = t, .arena = arena, .q = q};
	struct piece name, value;

	*q = (struct token_question){.parameters = ""};
	while (piece_parameter(&text, &name, &value))
		read_parameter(&r, name, value);
	if (arena_failed(arena))
		q->trouble = "the request is too large";
}

const char *
token_client_scopes(struct arena *arena, const char *prefix, const char *scopes)
{
	const char *out = "";

	if (strpbrk(scopes, "\"\\") != NULL)
		return NULL;
	while (*(scopes += strspn(scopes, " ")) != '\0') {
		struct piece one = {scopes, strcspn(scopes, " ")}, type, name, actions;
		const char *space = *out != '\0' ? " " : "";

		if (split(one, &type, &name, &actions))
			out = arena_printf(arena, "%s%s%.*s:%s%.*s:%.*s", out, space, (int)type.len,
			    type.at, prefix, (int)name.len, name.at, (int)actions.len, actions.at);
		else
			out = arena_printf(arena, "%s%s%.*s", out, space, (int)one.len, one.at);
		scopes += one.len;
	}
	return out;
}
