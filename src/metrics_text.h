/* Writing metrics as text: the Prometheus text format 0.0.4 ("Exposition formats" of its
 * documentation) and OpenMetrics 1.0.0, which differ in the names of counters, in units and in the
 * end. Pure: values in, bytes out. */
#ifndef METRICS_TEXT_H
#define METRICS_TEXT_H

#include <stddef.h>
#include <stdint.h>

struct buf;

enum metrics_format { METRICS_PROMETHEUS, METRICS_OPENMETRICS };
/* The value of Content-Type. */
const char *metrics_content_type(enum metrics_format f);
/* What a request with this Accept (joined; NULL: none) is given: OpenMetrics 1.0 where it prefers
 * that to plain text (RFC 9110 section 12.5.1). */
enum metrics_format metrics_choose(const char *accept);

enum metrics_type { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM, METRICS_INFO };
const char *metrics_type_name(enum metrics_type t);

/* `name` is without the program's prefix and without the suffix that its type gives it. Strings are
 * static. */
struct metrics_family {
	const char *name, *help, *unit; /* unit: "seconds", "bytes" or NULL */
	enum metrics_type type;
};

enum { METRICS_LABELS = 4, METRICS_NAME_SIZE = 128 };

struct metrics_text {
	struct buf *out;
	enum metrics_format format;
	const struct metrics_family *family; /* the one that is written */
	struct {
		const char *name, *value;
	} labels[METRICS_LABELS]; /* of the samples that come; borrowed */
	size_t nlabels;
};

/* The name by which its samples, or those of a histogram without their suffix, are known. */
const char *metrics_full_name(const struct metrics_family *f, char out[METRICS_NAME_SIZE]);
/* HELP, TYPE and UNIT. Samples that follow have no labels. */
void metrics_begin(struct metrics_text *t, const struct metrics_family *f);
/* From now on samples have this label (the last so far). */
void metrics_label(struct metrics_text *t, const char *name, const char *value);
/* Takes the last `n` labels away. */
void metrics_unlabel(struct metrics_text *t, size_t n);
void metrics_value(struct metrics_text *t, uint64_t value);
/* Written in seconds. */
void metrics_micros(struct metrics_text *t, uint64_t us);
/* `bucket` has `n` counts, not cumulative, the last for what is above all of the n - 1 bounds. */
void metrics_histogram(struct metrics_text *t, const uint64_t *bucket, const uint64_t *bounds_us,
    size_t n, uint64_t sum_us);
/* What ends the text. */
void metrics_end(struct metrics_text *t);

#endif
