/* Writing metrics as text. Label values are escaped, help texts are ours and have nothing to escape. */
#include "metrics_text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "buf.h"
#include "log.h"

static const char prefix[] = "registry_cache_";

/* --- which format ----------------------------------------------------------------------------- */

const char *
metrics_content_type(enum metrics_format f)
{
	return f == METRICS_OPENMETRICS
	    ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
	    : "text/plain; version=0.0.4; charset=utf-8";
}

/* The value of parameter `name` in ";a=b;c=d", up to `end`; NULL: it is not there. */
static const char *
parameter(const char *p, const char *end, const char *name)
{
	size_t n = strlen(name);

	while ((p = memchr(p, ';', (size_t)(end - p))) != NULL) {
		p += 1 + strspn(p + 1, " \t");
		if (p + n < end && strncasecmp(p, name, n) == 0 && p[n] == '=')
			return p + n + 1 + (p[n + 1] == '"');
	}
	return NULL;
}

/* Between 0 and 1; 0 is "not this". */
static double
quality(const char *p, const char *end)
{
	const char *q = parameter(p, end, "q");

	return q == NULL ? 1 : strtod(q, NULL);
}

static bool
is_type(const char *p, const char *end, const char *type)
{
	size_t n = strlen(type);

	return (size_t)(end - p) >= n && strncasecmp(p, type, n) == 0 &&
	    (p + n == end || strchr("; \t", p[n]) != NULL);
}

/* Is this a version that we write, or none in particular? */
static bool
has_version(const char *p, const char *end)
{
	const char *version = parameter(p, end, "version");

	return version == NULL || strncmp(version, "1.0.0", 5) == 0;
}

enum metrics_format
metrics_choose(const char *accept)
{
	double open = 0, plain = 0, q;

	for (const char *p = accept, *end; p != NULL && *p != '\0'; p = end + (*end == ',')) {
		p += strspn(p, " \t");
		end = p + strcspn(p, ",");
		q = quality(p, end);
		if (is_type(p, end, "application/openmetrics-text") && has_version(p, end))
			open = q > open ? q : open;
		else if (is_type(p, end, "text/plain") || is_type(p, end, "text/*"))
			plain = q > plain ? q : plain;
	}
	return open > 0 && open >= plain ? METRICS_OPENMETRICS : METRICS_PROMETHEUS;
}

/* --- families --------------------------------------------------------------------------------- */

const char *
metrics_type_name(enum metrics_type t)
{
	static const char *const names[] = {"counter", "gauge", "histogram", "info"};

	return names[t];
}

static const char *
suffix_of(enum metrics_type t)
{
	return t == METRICS_COUNTER ? "_total" : t == METRICS_INFO ? "_info" : "";
}

const char *
metrics_full_name(const struct metrics_family *f, char out[METRICS_NAME_SIZE])
{
	snprintf(out, METRICS_NAME_SIZE, "%s%s%s", prefix, f->name, suffix_of(f->type));
	return out;
}

/* OpenMetrics calls a family what its samples are called without their suffix. */
void
metrics_begin(struct metrics_text *t, const struct metrics_family *f)
{
	bool open = t->format == METRICS_OPENMETRICS;
	const char *suffix = open ? "" : suffix_of(f->type);
	enum metrics_type type = !open && f->type == METRICS_INFO ? METRICS_GAUGE : f->type;

	t->family = f;
	t->nlabels = 0;
	buf_printf(t->out, "# HELP %s%s%s %s\n", prefix, f->name, suffix, f->help);
	buf_printf(t->out, "# TYPE %s%s%s %s\n", prefix, f->name, suffix, metrics_type_name(type));
	if (open && f->unit != NULL)
		buf_printf(t->out, "# UNIT %s%s %s\n", prefix, f->name, f->unit);
}

void
metrics_end(struct metrics_text *t)
{
	if (t->format == METRICS_OPENMETRICS)
		buf_printf(t->out, "# EOF\n");
}

/* --- samples ---------------------------------------------------------------------------------- */

void
metrics_label(struct metrics_text *t, const char *name, const char *value)
{
	if (t->nlabels == METRICS_LABELS)
		panic("a metric with more than %d labels", METRICS_LABELS);
	t->labels[t->nlabels].name = name;
	t->labels[t->nlabels++].value = value;
}

void
metrics_unlabel(struct metrics_text *t, size_t n)
{
	t->nlabels -= n;
}

/* Bytes outside of printable ASCII would have to be UTF-8: none of ours are. */
static void
write_escaped(struct buf *out, const char *s)
{
	for (; *s != '\0'; s++)
		if (*s == '\\' || *s == '"')
			buf_printf(out, "\\%c", *s);
		else if (*s == '\n')
			buf_append(out, "\\n", 2);
		else if ((unsigned char)*s < ' ' || (unsigned char)*s > '~')
			buf_append(out, "?", 1);
		else
			buf_append(out, s, 1);
}

/* The sample's name and labels; `le` may be NULL. */
static void
write_name(struct metrics_text *t, const char *suffix, const char *le)
{
	size_t n = t->nlabels;

	buf_printf(t->out, "%s%s%s", prefix, t->family->name, suffix);
	for (size_t i = 0; i < n; i++) {
		buf_printf(t->out, "%s%s=\"", i == 0 ? "{" : ",", t->labels[i].name);
		write_escaped(t->out, t->labels[i].value);
		buf_append(t->out, "\"", 1);
	}
	if (le != NULL)
		buf_printf(t->out, "%sle=\"%s\"", n == 0 ? "{" : ",", le);
	buf_append(t->out, n > 0 || le != NULL ? "} " : " ", n > 0 || le != NULL ? 2 : 1);
}

void
metrics_value(struct metrics_text *t, uint64_t value)
{
	write_name(t, suffix_of(t->family->type), NULL);
	buf_printf(t->out, "%" PRIu64 "\n", value);
}

/* As few digits as say it, but always one behind the point: OpenMetrics wants "1.0". */
static const char *
seconds(uint64_t us, char out[32])
{
	int n = snprintf(out, 32, "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);

	while (out[n - 1] == '0' && out[n - 2] != '.')
		out[--n] = '\0';
	return out;
}

void
metrics_micros(struct metrics_text *t, uint64_t us)
{
	char text[32];

	write_name(t, suffix_of(t->family->type), NULL);
	buf_printf(t->out, "%s\n", seconds(us, text));
}

void
metrics_histogram(struct metrics_text *t, const uint64_t *bucket, const uint64_t *bounds_us,
    size_t n, uint64_t sum_us)
{
	char text[32];
	uint64_t count = 0;

	for (size_t i = 0; i < n; i++) {
		count += bucket[i];
		write_name(t, "_bucket", i + 1 < n ? seconds(bounds_us[i], text) : "+Inf");
		buf_printf(t->out, "%" PRIu64 "\n", count);
	}
	write_name(t, "_sum", NULL);
	buf_printf(t->out, "%s\n", seconds(sum_us, text));
	write_name(t, "_count", NULL);
	buf_printf(t->out, "%" PRIu64 "\n", count);
}
