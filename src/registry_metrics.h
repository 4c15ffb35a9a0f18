/* What exchanges with registries add to the metrics. For registry*.c only. */
#ifndef REGISTRY_METRICS_H
#define REGISTRY_METRICS_H

#include "registry.h"

/* Whom this request asks, as a number of shm_metrics.h. */
unsigned measure_target(const struct registries_config *c, const struct upstream_request *r);
void measure_head(
    const struct registries_config *c, unsigned target, const struct upstream_answer *a);
void measure_data(const struct registries_config *c, unsigned target, size_t n);
/* `answered`: there was a head before. */
void measure_end(const struct registries_config *c, unsigned target, enum upstream_result r,
    bool answered);

#endif
