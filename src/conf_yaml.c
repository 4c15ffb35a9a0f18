/* Builds a tree of the parser's events. The text is checked for UTF-8 and control characters before
 * libfyaml sees it, which keeps it out of endless loops, and depth and number of nodes are limited
 * here. */
#include "conf_yaml.h"

#include <stdlib.h>
#include <string.h>

#include <libfyaml.h>

#include "log.h"
#include "xalloc.h"

struct builder {
	const char *text;
	size_t len;
	struct arena *arena;
	struct conf_errors *errors;
	struct conf_node *root;
	struct conf_node *open;  /* the list or map that takes the next node; NULL at the top */
	struct conf_node **keys; /* of each open map, by depth: the key that waits for its value */
	unsigned depth, documents;
	size_t nodes;
	struct conf_mark last; /* of the last node: for those that have no place of their own */
	bool stop;             /* what follows is not worth reading … */
	bool broken;           /* … nor is what was read */
};

/* --- the text -------------------------------------------------------------------------------- */

/* How many bytes a UTF-8 character that begins with this byte has; 0: none begins so. */
static size_t
sequence_length(unsigned char first)
{
	if (first < 0x80)
		return 1;
	if (first < 0xc2 || first > 0xf4)
		return 0;
	return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* How many bytes the UTF-8 character at `p` has; 0: it is none. Overlong forms, surrogates and what
 * is beyond U+10FFFF are none. */
static size_t
utf8_length(const unsigned char *p, size_t left)
{
	size_t n = sequence_length(p[0]);

	if (n == 0 || n > left)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

/* Characters that no value of ours may hold, in a scalar of `n` bytes: control characters, C1
 * controls, line and paragraph separators, the byte order mark, and what is no character at all. */
static bool
is_forbidden(const unsigned char *p, size_t n)
{
	if (n == 1)
		return p[0] < 0x20 || p[0] == 0x7f;
	if (n == 2)
		return p[0] == 0xc2 && p[1] < 0xa0;
	if (n == 3)
		return (p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9)) ||
		    (p[0] == 0xef && p[1] == 0xbb && p[2] == 0xbf) ||
		    (p[0] == 0xef && p[1] == 0xbf && p[2] >= 0xbe);
	return false;
}

static bool
is_one_clean_line(const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;

	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_length(p + i, len - i);
		if (n == 0 || is_forbidden(p + i, n))
			return false;
	}
	return true;
}

/* Notes the first byte that is not UTF-8, or a control character other than tab and line break. */
static bool
check_text(const char *text, size_t len, struct conf_errors *errors)
{
	const unsigned char *p = (const unsigned char *)text;
	struct conf_mark at = {1, 1};
	size_t i = 0;

	if (len >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
		i = 3; /* a byte order mark is no column */
	for (size_t n; i < len; i += n, at.column++) {
		n = utf8_length(p + i, len - i);
		if (n == 0) {
			conf_error(errors, at,
			    "byte 0x%02x is not UTF-8, expected a text file in UTF-8", p[i]);
			return false;
		}
		if (p[i] == '\n' || (p[i] == '\r' && (i + 1 == len || p[i + 1] != '\n'))) {
			at.line++;
			at.column = 0;
		} else if ((p[i] < 0x20 && p[i] != '\t' && p[i] != '\r') || p[i] == 0x7f) {
			conf_error(
			    errors, at, "control character 0x%02x, expected a text file", p[i]);
			return false;
		}
	}
	return true;
}

/* --- the tree -------------------------------------------------------------------------------- */

/* `opening`: characters of which one may stand before the token and belongs to it ("'\"" for a
 * quoted scalar, whose mark is that of its content). */
static struct conf_mark
mark_of(struct builder *b, struct fy_token *token, const char *opening)
{
	const struct fy_mark *m = token == NULL ? NULL : fy_token_start_mark(token);
	unsigned column;

	if (m == NULL)
		return b->last;
	column = (unsigned)m->column + 1;
	if (m->input_pos > 0 && m->input_pos <= b->len && column > 1 &&
	    b->text[m->input_pos - 1] != '\0' && strchr(opening, b->text[m->input_pos - 1]) != NULL)
		column--;
	return (struct conf_mark){(unsigned)m->line + 1, column};
}

static struct conf_node *
new_node(struct builder *b, enum conf_node_kind kind, struct conf_mark at)
{
	struct conf_node *n = arena_alloc(b->arena, sizeof(*n));

	if (n == NULL)
		panic("arena too small for %u nodes", (unsigned)CONF_MAX_NODES);
	n->kind = kind;
	n->at = b->last = at;
	n->parent = b->open;
	if (++b->nodes == CONF_MAX_NODES) {
		conf_error(b->errors, at, "too many values, expected fewer than %u",
		    (unsigned)CONF_MAX_NODES);
		b->stop = b->broken = true;
	}
	return n;
}

static void
append(struct conf_node *parent, struct conf_node *n)
{
	if (parent->last != NULL)
		parent->last->next = n;
	else
		parent->first = n;
	parent->last = n;
}

static void
check_key(struct builder *b, struct conf_node *key)
{
	if (key->bad)
		return;
	if (key->kind == CONF_SCALAR && strcmp(key->text, "<<") != 0)
		return;
	if (key->kind == CONF_SCALAR)
		conf_error(
		    b->errors, key->at, "merge keys are not taken, expected a key of its own");
	else
		conf_error(b->errors, key->at, "a %s as a key, expected a plain word",
		    conf_node_kind_name(key));
	key->bad = true;
}

/* Puts a whole node where it belongs: the top, a list's item, a map's key or the value of one. */
static void
place(struct builder *b, struct conf_node *n)
{
	struct conf_node **key = &b->keys[b->depth];

	if (b->open == NULL) {
		b->root = n;
	} else if (b->open->kind == CONF_LIST) {
		append(b->open, n);
	} else if (*key == NULL) {
		append(b->open, n);
		*key = n;
		check_key(b, n);
	} else {
		(*key)->value = n;
		*key = NULL;
	}
}

static void
refuse_anchor_and_tag(struct builder *b, struct fy_token *anchor, struct fy_token *tag)
{
	if (anchor != NULL)
		conf_error(b->errors, mark_of(b, anchor, "&"),
		    "anchors are not taken, expected the value alone");
	if (tag != NULL)
		conf_error(
		    b->errors, mark_of(b, tag, ""), "tags are not taken, expected the value alone");
}

static bool
is_null_word(const char *s)
{
	return *s == '\0' || strcmp(s, "~") == 0 || strcmp(s, "null") == 0 ||
	    strcmp(s, "Null") == 0 || strcmp(s, "NULL") == 0;
}

/* The text of a single-quoted scalar, from the file itself: libfyaml 0.7.12 loses memory when there
 * are many quotes in it. A line break in it is left as it is, and refused as one. */
static const char *
single_quoted_text(struct builder *b, struct fy_token *value, size_t *len)
{
	const struct fy_mark *start = fy_token_start_mark(value), *end = fy_token_end_mark(value);
	char *text;

	if (start == NULL || end == NULL || start->input_pos > end->input_pos ||
	    end->input_pos > b->len)
		panic("the YAML parser gives a quoted text no place");
	text = arena_alloc(b->arena, end->input_pos - start->input_pos + 1);
	*len = 0;
	for (size_t i = start->input_pos; i < end->input_pos; i++) {
		text[(*len)++] = b->text[i];
		if (b->text[i] == '\'')
			i++; /* two stand for one */
	}
	return text;
}

static const char *
scalar_text(struct builder *b, struct fy_token *value, size_t *len)
{
	const char *text;

	if (fy_token_scalar_style(value) == FYSS_SINGLE_QUOTED)
		return single_quoted_text(b, value, len);
	text = fy_token_get_text(value, len);
	if (text == NULL)
		*len = 0;
	return text == NULL ? "" : text;
}

/* Where a scalar begins, with its quote. The parser's mark of a block scalar is that of its
 * content: the key before it is nearer to the truth. */
static struct conf_mark
scalar_mark(struct builder *b, struct fy_token *value)
{
	switch (fy_token_scalar_style(value)) {
	case FYSS_LITERAL:
	case FYSS_FOLDED:
		return b->last;
	case FYSS_SINGLE_QUOTED:
	case FYSS_DOUBLE_QUOTED:
		return mark_of(b, value, "'\"");
	default:
		return mark_of(b, value, "");
	}
}

static void
add_scalar(struct builder *b, struct fy_token *value)
{
	struct conf_node *n = new_node(b, CONF_SCALAR, scalar_mark(b, value));
	size_t len = 0;
	const char *text = scalar_text(b, value, &len);

	if (!is_one_clean_line(text, len)) {
		conf_error(b->errors, n->at,
		    "a line break or control character in a value, expected one line of text");
		n->bad = true;
		len = 0;
	}
	n->text = arena_strndup(b->arena, text, len);
	n->null = fy_token_scalar_style(value) == FYSS_PLAIN && is_null_word(n->text);
	place(b, n);
}

static void
add_alias(struct builder *b, struct fy_token *anchor)
{
	struct conf_node *n = new_node(b, CONF_SCALAR, mark_of(b, anchor, "*"));

	conf_error(b->errors, n->at, "aliases are not taken, expected the value itself");
	n->text = "";
	n->bad = true;
	place(b, n);
}

static void
open_node(struct builder *b, enum conf_node_kind kind, struct fy_token *token)
{
	struct conf_node *n = new_node(b, kind, mark_of(b, token, ""));

	place(b, n);
	if (++b->depth == CONF_MAX_DEPTH) {
		conf_error(b->errors, n->at, "nested too deeply, expected fewer than %u levels",
		    (unsigned)CONF_MAX_DEPTH);
		b->stop = b->broken = true;
		b->depth--;
		return;
	}
	b->open = n;
	b->keys[b->depth] = NULL;
}

static int
compare(unsigned a, unsigned b)
{
	return a < b ? -1 : a > b;
}

static int
by_text(const void *va, const void *vb)
{
	const struct conf_node *a = *(struct conf_node *const *)va;
	const struct conf_node *b = *(struct conf_node *const *)vb;
	int order = strcmp(a->text, b->text);

	if (order == 0)
		order = compare(a->at.line, b->at.line);
	return order != 0 ? order : compare(a->at.column, b->at.column);
}

/* libfyaml lets duplicate keys pass. Sorted, so that a large map costs no square of its size. */
static void
refuse_duplicates(struct builder *b, struct conf_node *map)
{
	struct conf_node **keys, *first = NULL;
	size_t n = 0;

	for (struct conf_node *k = map->first; k != NULL; k = k->next)
		n++;
	keys = xcalloc(n, sizeof(*keys));
	n = 0;
	for (struct conf_node *k = map->first; k != NULL; k = k->next)
		if (!k->bad)
			keys[n++] = k;
	qsort(keys, n, sizeof(*keys), by_text);
	for (size_t i = 0; i < n; i++) {
		if (first == NULL || strcmp(first->text, keys[i]->text) != 0) {
			first = keys[i];
			continue;
		}
		keys[i]->bad = true;
		conf_error(b->errors, keys[i]->at,
		    "duplicate key `%.*s`, first given at line %u, expected it once",
		    conf_shown(keys[i]->text), keys[i]->text, first->at.line);
	}
	free(keys);
}

static void
close_node(struct builder *b)
{
	if (b->open->kind == CONF_MAP)
		refuse_duplicates(b, b->open);
	b->open = b->open->parent;
	b->depth--;
}

static void
begin_document(struct builder *b, struct fy_token *token)
{
	if (++b->documents == 1)
		return;
	conf_error(b->errors, mark_of(b, token, ""), "a second document, expected one");
	b->stop = true;
}

static void
take_event(struct builder *b, struct fy_event *e)
{
	switch (e->type) {
	case FYET_DOCUMENT_START:
		begin_document(b, e->document_start.document_start);
		break;
	case FYET_SCALAR:
		refuse_anchor_and_tag(b, e->scalar.anchor, e->scalar.tag);
		add_scalar(b, e->scalar.value);
		break;
	case FYET_ALIAS:
		add_alias(b, e->alias.anchor);
		break;
	case FYET_MAPPING_START:
		refuse_anchor_and_tag(b, e->mapping_start.anchor, e->mapping_start.tag);
		open_node(b, CONF_MAP, e->mapping_start.mapping_start);
		break;
	case FYET_SEQUENCE_START:
		refuse_anchor_and_tag(b, e->sequence_start.anchor, e->sequence_start.tag);
		open_node(b, CONF_LIST, e->sequence_start.sequence_start);
		break;
	case FYET_MAPPING_END:
	case FYET_SEQUENCE_END:
		close_node(b);
		break;
	default:
		break;
	}
}

/* --- the parser ------------------------------------------------------------------------------ */

static void
print_nothing(struct fy_diag *diag, void *user, const char *buf, size_t len)
{
	(void)diag, (void)user, (void)buf, (void)len;
}

static struct fy_diag *
new_diag(void)
{
	struct fy_diag_cfg cfg;
	struct fy_diag *diag;

	fy_diag_cfg_default(&cfg);
	cfg.fp = NULL;
	cfg.output_fn = print_nothing;
	cfg.level = FYET_ERROR;
	cfg.colorize = false;
	diag = fy_diag_create(&cfg);
	if (diag == NULL)
		panic("out of memory for the YAML parser");
	fy_diag_set_collect_errors(diag, true);
	return diag;
}

/* The parser's own mistakes. Unlike its marks, these positions count from 1. */
static void
note_syntax(struct builder *b, struct fy_diag *diag)
{
	struct fy_diag_error *e;
	void *iter = NULL;
	bool any = false;

	while ((e = fy_diag_errors_iterate(diag, &iter)) != NULL) {
		struct conf_mark at = {
		    e->line > 0 ? (unsigned)e->line : 1, e->column > 0 ? (unsigned)e->column : 1};

		if (e->type < FYET_ERROR)
			continue;
		conf_error(b->errors, at, "%s, expected YAML", e->msg);
		any = true;
	}
	if (!any)
		conf_error(b->errors, b->last,
		    "something that the YAML parser cannot read, expected YAML");
}

static void
build(struct builder *b)
{
	struct fy_diag *diag = new_diag();
	struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG, .diag = diag};
	struct fy_parser *parser = fy_parser_create(&cfg);
	struct fy_event *event;
	bool ended = false;

	if (parser == NULL || fy_parser_set_string(parser, b->text, b->len) != 0)
		panic("out of memory for the YAML parser");
	while (!b->stop && (event = fy_parser_parse(parser)) != NULL) {
		ended = event->type == FYET_STREAM_END;
		take_event(b, event);
		fy_parser_event_free(parser, event);
	}
	if (!b->stop && (!ended || fy_parser_get_stream_error(parser))) {
		note_syntax(b, diag);
		b->broken = true;
	}
	fy_parser_destroy(parser);
	fy_diag_destroy(diag);
}

struct conf_node *
conf_yaml_parse(const char *text, size_t len, struct arena *arena, struct conf_errors *errors)
{
	struct conf_node *keys[CONF_MAX_DEPTH] = {NULL};
	struct builder b = {.text = text,
	    .len = len,
	    .arena = arena,
	    .errors = errors,
	    .keys = keys,
	    .last = {1, 1}};

	if (len > CONF_MAX_BYTES) {
		conf_error(errors, b.last, "the file is larger than 1 MiB, expected a smaller one");
		return NULL;
	}
	if (!check_text(text, len, errors))
		return NULL;
	if (len == 0) { /* libfyaml takes the length 0 for "to the NUL" */
		b.text = "\n";
		b.len = 1;
	}
	build(&b);
	if (b.broken)
		return NULL;
	if (b.root == NULL) {
		b.root = new_node(&b, CONF_SCALAR, (struct conf_mark){1, 1});
		b.root->text = "";
		b.root->null = true;
	}
	return b.root;
}

/* --- questions ------------------------------------------------------------------------------- */

static const struct conf_node *
find_key(const struct conf_node *map, const char *name, size_t len)
{
	for (const struct conf_node *k = map->first; k != NULL; k = k->next)
		if (!k->bad && k->kind == CONF_SCALAR && strncmp(k->text, name, len) == 0 &&
		    k->text[len] == '\0')
			return k;
	return NULL;
}

enum conf_found
conf_node_find(const struct conf_node *root, const char *path, const struct conf_node **at)
{
	const struct conf_node *map = root;

	*at = root;
	for (;;) {
		size_t len = strcspn(path, ".");
		const struct conf_node *key;

		if (map->bad || (map->kind != CONF_MAP && !map->null))
			return CONF_BROKEN;
		key = find_key(map, path, len);
		if (key == NULL)
			return CONF_ABSENT;
		*at = key;
		if (path[len] == '\0')
			return CONF_FOUND;
		map = key->value;
		path += len + 1;
	}
}

const char *
conf_node_kind_name(const struct conf_node *n)
{
	static const char *const names[] = {
	    [CONF_SCALAR] = "value", [CONF_LIST] = "list", [CONF_MAP] = "map"};

	return names[n->kind];
}
