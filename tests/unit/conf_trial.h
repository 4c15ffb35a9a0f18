/* What the tests of the configuration share: a text goes in, a configuration or its messages come
 * out. */
#ifndef CONF_TRIAL_H
#define CONF_TRIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/CUnit.h>

#include "conf.h"
#include "xalloc.h"

#define MINIMAL \
	"dataPath: /c\nserver:\n  address: :7000\n  defaultBackend:\n    host: registry.example\n"
/* Ends in the section `server`, so that a test's own lines may follow. */
#define SERVER "dataPath: /c\nserver:\n  address: :7000\n"

/* What conf_parse() made of a text, as the file "t". */
struct outcome {
	struct conf *conf;
	char *errors; /* all lines */
};

static inline struct outcome
parse_bytes(const char *text, size_t len)
{
	struct outcome o = {0};
	size_t size;
	FILE *f = open_memstream(&o.errors, &size);
	char *copy = xmalloc(len);

	/* a copy, so that a sanitizer sees a read beyond the end, or a kept pointer */
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	memcpy(copy, text, len);
	o.conf = conf_parse("t", copy, len, f);
	free(copy);
	fclose(f);
	return o;
}

static inline struct outcome
parse(const char *text)
{
	return parse_bytes(text, strlen(text));
}

static inline void
drop(struct outcome *o)
{
	conf_free(&o->conf);
	free(o->errors);
	*o = (struct outcome){0};
}

/* The text is refused with exactly these lines; "…" at the end of `lines` stands for whatever
 * follows. */
static inline void
refused(const char *text, const char *lines)
{
	struct outcome o = parse(text);
	size_t n = strlen(lines);
	bool open_end = n >= strlen("…") && strcmp(lines + n - strlen("…"), "…") == 0;
	bool same = open_end ? strncmp(o.errors, lines, n - strlen("…")) == 0
			     : strcmp(o.errors, lines) == 0;

	if (!same)
		fprintf(
		    stderr, "--- for\n%s\n--- got\n%s--- expected\n%s\n", text, o.errors, lines);
	CU_ASSERT_TRUE(same);
	CU_ASSERT_PTR_NULL(o.conf);
	drop(&o);
}

static inline struct conf *
accepted(const char *text)
{
	struct outcome o = parse(text);

	if (o.conf == NULL)
		fprintf(stderr, "--- for\n%s\n--- got\n%s", text, o.errors);
	CU_ASSERT_PTR_NOT_NULL_FATAL(o.conf);
	CU_ASSERT_STRING_EQUAL(o.errors, "");
	free(o.errors);
	return o.conf;
}

static inline char *
data_path(const char *name)
{
	const char *top = getenv("srcdir");

	return xasprintf("%s/tests/unit/conf/%s", top == NULL ? "." : top, name);
}

static inline char *
read_data(const char *name)
{
	char *path = data_path(name), *text = NULL;
	FILE *f = fopen(path, "r");
	size_t size = 0;
	ssize_t n;

	if (f == NULL)
		fprintf(stderr, "cannot open %s\n", path);
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	n = getdelim(&text, &size, '\0', f);
	CU_ASSERT_FATAL(n > 0);
	fclose(f);
	free(path);
	return text;
}

static inline char *
print(const struct conf *c)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	conf_print(c, f);
	fclose(f);
	return text;
}

/* Is what conf_print() writes read back to the same? */
static inline bool
survives_printing(const struct conf *c)
{
	char *once = print(c), *twice = NULL;
	struct outcome o = parse(once);
	bool same = false;

	if (o.conf != NULL) {
		twice = print(o.conf);
		same = strcmp(once, twice) == 0;
	}
	if (!same)
		fprintf(stderr, "--- printed\n%s--- read\n%s%s", once, o.errors,
		    twice == NULL ? "" : twice);
	free(once);
	free(twice);
	drop(&o);
	return same;
}

static inline uint64_t
random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

#endif
