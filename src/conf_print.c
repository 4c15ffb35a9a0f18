/* Writes a configuration as a file, and the table as the manual's list of options. */
#include "conf.h"

#include <stdlib.h>
#include <string.h>

#include "conf_table.h"
#include "conf_value.h"
#include "xalloc.h"

/* --- YAML ------------------------------------------------------------------------------------ */

static void
indent(FILE *out, unsigned depth)
{
	for (unsigned i = 0; i < depth; i++)
		fputs("  ", out);
}

static bool
is_plain(const char *s)
{
	static const char words[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._:-";
	size_t len = strlen(s);

	if (len == 0 || *s == '-' || *s == ':' || s[len - 1] == ':' || strspn(s, words) != len)
		return false;
	return strcmp(s, "null") != 0 && strcmp(s, "Null") != 0 && strcmp(s, "NULL") != 0;
}

/* Values hold no control characters, so quotes and backslashes are all that needs care. */
static void
put_text(const char *s, FILE *out)
{
	if (is_plain(s)) {
		fputs(s, out);
		return;
	}
	fputc('"', out);
	for (; *s != '\0'; s++) {
		if (*s == '"' || *s == '\\')
			fputc('\\', out);
		fputc(*s, out);
	}
	fputc('"', out);
}

static const char *
last_part(const char *path)
{
	const char *dot = strrchr(path, '.');

	return dot == NULL ? path : dot + 1;
}

/* Writes the names of sections that `path` is in and `before` (NULL: none) is not; returns how many
 * it is in. */
static unsigned
put_sections(const char *path, const char *before, unsigned depth, FILE *out)
{
	unsigned in = 0;
	bool same = before != NULL;

	for (const char *dot; (dot = strchr(path, '.')) != NULL; path = dot + 1, in++) {
		size_t len = (size_t)(dot - path) + 1;

		if (same && strncmp(before, path, len) == 0) {
			before += len;
			continue;
		}
		same = false;
		indent(out, depth + in);
		fprintf(out, "%.*s:\n", (int)len - 1, path);
	}
	return in;
}

static void print_struct(
    const struct conf_table *t, const void *base, unsigned depth, bool in_item, FILE *out);

static void
print_list(const char *name, char *const *items, size_t n, FILE *out)
{
	fprintf(out, "%s: [", name);
	for (size_t i = 0; i < n; i++) {
		fputs(i == 0 ? "" : ", ", out);
		put_text(items[i], out);
	}
	fputs("]\n", out);
}

static void
print_conf_list(const struct conf_option *o, const void *base, FILE *out)
{
	const struct conf_list *list = (const void *)((const char *)base + o->offset);

	print_list(last_part(o->path), list->items, list->n, out);
}

static void
print_rules(const struct conf *c, unsigned depth, FILE *out)
{
	fputs(c->server.nrules == 0 ? "upstreamRules: []\n" : "upstreamRules:\n", out);
	for (size_t i = 0; i < c->server.nrules; i++) {
		indent(out, depth);
		fputs("- ", out);
		print_struct(&conf_rule_table, &c->server.rules[i], depth + 1, true, out);
	}
}

static void
print_certificates(const struct conf *c, unsigned depth, FILE *out)
{
	fputs(c->server.tls.ncertificates == 0 ? "certificates: []\n" : "certificates:\n", out);
	for (size_t i = 0; i < c->server.tls.ncertificates; i++) {
		indent(out, depth);
		fputs("- ", out);
		print_struct(
		    &conf_certificate_table, &c->server.tls.certificates[i], depth + 1, true, out);
	}
}

static void
print_registries(const struct conf *c, unsigned depth, FILE *out)
{
	fputs(c->server.nregistries == 0 ? "registries: {}\n" : "registries:\n", out);
	for (size_t i = 0; i < c->server.nregistries; i++) {
		indent(out, depth + 1);
		put_text(c->server.registries[i].name, out);
		fputs(":\n", out);
		print_struct(&conf_registry_table, &c->server.registries[i], depth + 2, false, out);
	}
}

static void
print_scalar(const struct conf_option *o, const void *field, FILE *out)
{
	char *text = conf_value_write(o, field);

	if (text == NULL) {
		fprintf(out, "# %s: not given\n", last_part(o->path));
		return;
	}
	fprintf(out, "%s: ", last_part(o->path));
	put_text(text, out);
	fputc('\n', out);
	free(text);
}

/* `in_item`: the first line goes on after a list item's dash. */
static void
print_struct(const struct conf_table *t, const void *base, unsigned depth, bool in_item, FILE *out)
{
	const struct conf_registry *registry = base; /* when the table is of one */

	for (size_t i = 0; i < t->n; i++) {
		const struct conf_option *o = &t->rows[i];
		unsigned at =
		    depth + put_sections(o->path, i == 0 ? NULL : t->rows[i - 1].path, depth, out);

		if (i > 0 || !in_item)
			indent(out, at);
		switch (o->type) {
		case CONF_SOCKETS:
		case CONF_NETWORKS:
			print_conf_list(o, base, out);
			break;
		case CONF_HOSTS:
			print_list(o->path, registry->hosts, registry->nhosts, out);
			break;
		case CONF_NAMES:
			print_list(o->path, registry->aliases, registry->naliases, out);
			break;
		case CONF_RULES:
			print_rules(base, at, out);
			break;
		case CONF_CERTIFICATES:
			print_certificates(base, at, out);
			break;
		case CONF_REGISTRIES:
			print_registries(base, at, out);
			break;
		default:
			print_scalar(o, (const char *)base + o->offset, out);
			break;
		}
	}
}

void
conf_print(const struct conf *c, FILE *out)
{
	print_struct(&conf_table, c, 0, false, out);
}

/* --- mdoc ------------------------------------------------------------------------------------ */

enum { MDOC_COLUMNS = 78 };

void
conf_put_mdoc(const char *s, FILE *out)
{
	size_t column = 0;
	bool ended = false; /* the last word ended a sentence */

	while (*s != '\0') {
		size_t len = strcspn(s, " ");

		if (column > 0) {
			bool wrap = ended || column + 1 + len > MDOC_COLUMNS;

			fputc(wrap ? '\n' : ' ', out);
			column = wrap ? 0 : column + 1;
		}
		fwrite(s, 1, len, out);
		column += len;
		ended = s[len - 1] == '.';
		s += len + strspn(s + len, " ");
	}
	fputc('\n', out);
}

static void
print_mdoc_row(const struct conf_option *o, const char *prefix, FILE *out)
{
	char *expected = conf_value_expected(o), *text;

	if (o->required)
		text = xasprintf("%s Takes %s; it must be given.", o->about, expected);
	else if (o->fallback != NULL)
		text =
		    xasprintf("%s Takes %s; the default is %s.", o->about, expected, o->fallback);
	else
		text = xasprintf("%s Takes %s.", o->about, expected);
	fprintf(out, ".It Cm %s%s\n", prefix, o->path);
	conf_put_mdoc(text, out);
	free(text);
	free(expected);
}

static void
print_mdoc_table(const struct conf_table *t, const char *prefix, FILE *out)
{
	for (size_t i = 0; i < t->n; i++) {
		print_mdoc_row(&t->rows[i], prefix, out);
		if (t->rows[i].type == CONF_RULES)
			print_mdoc_table(&conf_rule_table, "server.upstreamRules[].", out);
		else if (t->rows[i].type == CONF_CERTIFICATES)
			print_mdoc_table(&conf_certificate_table, "server.tls.certificates[].", out);
		else if (t->rows[i].type == CONF_REGISTRIES)
			print_mdoc_table(&conf_registry_table, "server.registries.NAME.", out);
	}
}

void
conf_print_mdoc(FILE *out)
{
	fputs(".Bl -tag -width Ds\n", out);
	print_mdoc_table(&conf_table, "", out);
	fputs(".El\n", out);
}
