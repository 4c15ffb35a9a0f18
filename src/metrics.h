/* The metrics of a cache: one table, from which /metrics and the manual's list are made. Takes
 * values, asks nobody.
 *
 * Label values are bounded: kinds, outcomes and the like are the words of an enum, upstreams are
 * those of shm_metrics.h. No digest, repository, tag or client is ever one. */
#ifndef METRICS_H
#define METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index.h"
#include "metrics_text.h"
#include "shm.h"
#include "shm_disk.h"
#include "shm_metrics.h"

/* What the table's rows read. Times are seconds since 1970. */
struct metrics_values {
	const struct metric_sum *sum;
	struct metric_cache cache;
	uint64_t counters[COUNT_MAX];
	uint64_t now;
	uint64_t ready; /* 1, 0: what /readyz says */
	uint64_t listeners_ready;
	uint64_t fills_running, fills_limit;
	uint64_t connections; /* open ones of clients */
	struct shm_disk_use disk;
	int64_t evicted_unused; /* seconds that the object evicted last had been unused; -1: none was */
	bool has_index;
	struct index_stats index;
};

/* Appends all of them to `out`. */
void metrics_write(const struct metrics_values *v, enum metrics_format format, struct buf *out);
/* The list for the manual page: the i-th metric, and the names of its labels (NULL: none). NULL: there
 * are not so many. */
const struct metrics_family *metrics_describe(size_t i, const char **labels);

#endif
