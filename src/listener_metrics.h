/* What a listener adds to the metrics besides its requests and fills. */
#ifndef LISTENER_METRICS_H
#define LISTENER_METRICS_H

struct child_start;
struct services;

/* Before the first request: the upstreams of the configuration have their places before names that
 * clients choose, and TLS handshakes are counted from now on. */
void listener_name_upstreams(const struct child_start *start);
/* Now and then: what is waiting now. */
void listener_measure(const struct child_start *start, const struct services *s);

#endif
