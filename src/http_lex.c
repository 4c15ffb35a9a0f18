/* The words of a complete request head, found by llhttp. */
#include "http_lex.h"

#include <stdbool.h>

#include "llhttp.h"

struct lexer {
	struct http_words *words;
	char *text;    /* what llhttp reads: the places it names are in here */
	bool in_value; /* the last field's value has begun */
	bool too_many;
	bool complete;
};

/* A word may come in several pieces; they follow one another in the text. */
static void
extend(struct lexer *x, struct http_word *w, const char *at, size_t len)
{
	if (w->at == NULL)
		w->at = x->text + (at - x->text);
	w->len = (size_t)(at - w->at) + len;
}

static int
on_method(llhttp_t *p, const char *at, size_t len)
{
	struct lexer *x = p->data;

	extend(x, &x->words->method, at, len);
	return 0;
}

static int
on_target(llhttp_t *p, const char *at, size_t len)
{
	struct lexer *x = p->data;

	extend(x, &x->words->target, at, len);
	return 0;
}

static int
on_name(llhttp_t *p, const char *at, size_t len)
{
	struct lexer *x = p->data;
	struct http_words *w = x->words;

	if (w->n == 0 || x->in_value) {
		if (w->n == w->max) {
			x->too_many = true;
			return -1;
		}
		w->lines[w->n++] = (struct http_line){0};
		x->in_value = false;
	}
	extend(x, &w->lines[w->n - 1].name, at, len);
	return 0;
}

static int
on_value(llhttp_t *p, const char *at, size_t len)
{
	struct lexer *x = p->data;

	if (x->words->n == 0)
		return -1;
	x->in_value = true;
	extend(x, &x->words->lines[x->words->n - 1].value, at, len);
	return 0;
}

/* Without this an empty value's field would run into the next one. */
static int
on_value_complete(llhttp_t *p)
{
	struct lexer *x = p->data;

	x->in_value = true;
	return 0;
}

/* The body is not llhttp's business: stop here. */
static int
on_head_complete(llhttp_t *p)
{
	struct lexer *x = p->data;

	x->complete = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
	.on_method = on_method,
	.on_url = on_target,
	.on_header_field = on_name,
	.on_header_value = on_value,
	.on_header_value_complete = on_value_complete,
	.on_headers_complete = on_head_complete,
};

static const char *
why(llhttp_errno_t e)
{
	switch (e) {
	case HPE_INVALID_METHOD: return "unknown method";
	case HPE_INVALID_URL: return "malformed request target";
	case HPE_INVALID_CONSTANT:
	case HPE_INVALID_VERSION: return "not HTTP/1.0 or HTTP/1.1";
	case HPE_INVALID_HEADER_TOKEN: return "malformed header field";
	case HPE_INVALID_CONTENT_LENGTH:
	case HPE_UNEXPECTED_CONTENT_LENGTH: return "malformed or contradictory Content-Length";
	case HPE_INVALID_TRANSFER_ENCODING: return "Transfer-Encoding other than chunked";
	default: return "malformed request head";
	}
}

const char *
http_lex(char *text, size_t len, struct http_words *w)
{
	struct lexer x = {.words = w, .text = text};
	llhttp_t parser;
	llhttp_errno_t e;

	w->method = w->target = (struct http_word){0};
	w->n = 0;
	llhttp_init(&parser, HTTP_REQUEST, &settings);
	parser.data = &x;
	e = llhttp_execute(&parser, text, len);
	if (x.too_many)
		return "too many header fields";
	if (!x.complete)
		return e == HPE_OK ? "malformed request head" : why(e);
	if (w->method.at == NULL || w->target.at == NULL)
		return "malformed request line";
	return NULL;
}
