/* One exchange with a registry: which of its hosts is asked, and which after it (registry.h); what
 * keeps it from being sent at all (registry_limit.h, registry_health.h), and the answer that is
 * given then. For registry*.c only. The life of a call, and its callbacks, are those of upstream.h.
 */
#ifndef REGISTRY_HOSTS_H
#define REGISTRY_HOSTS_H

#include "registry.h"

struct hosts; /* one a process */
struct hosts_call;

/* NULL: said why in the log. Owned by the caller. */
struct hosts *hosts_new(const struct registries_config *config);
void hosts_free(struct hosts **hs);

/* What talks to this registry's hosts (0: to any). Borrowed. */
struct upstream *hosts_upstream(const struct hosts *hs, unsigned number);
struct hosts_call *hosts_start(struct hosts *hs, const struct upstream_request *r,
    const struct upstream_ops *ops, void *arg);
void hosts_pause(struct hosts_call *c);
void hosts_resume(struct hosts_call *c);
void hosts_cancel(struct hosts_call **c);

#endif
