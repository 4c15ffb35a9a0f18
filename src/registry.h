/* Registries: what the cache asks is asked through here. A call names a registry's primary host
 * and, when server.registries configures it, its number; whichever of its hosts answers is this
 * module's business. Callers see one exchange with the semantics of upstream.h.
 *
 * A struct registry_call lives as a struct upstream_call does: from registry_start() until
 * ops->done returned or registry_cancel(). Callbacks never run inside these functions.
 */
#ifndef REGISTRY_H
#define REGISTRY_H

#include "upstream.h"

struct registries; /* one a process */
struct registry_call;

/* `u` is borrowed. Owned by the caller. */
struct registries *registries_new(struct upstream *u);
/* Every call must have ended or been cancelled before. */
void registries_free(struct registries **rs);

/* As upstream_start(). */
struct registry_call *registry_start(struct registries *rs, const struct upstream_request *r,
    const struct upstream_ops *ops, void *arg);
void registry_pause(struct registry_call *c);
void registry_resume(struct registry_call *c);
/* What happens from now on is told there instead: the call changes hands. Best while it is
 * paused. */
void registry_retarget(struct registry_call *c, const struct upstream_ops *ops, void *arg);
/* *c becomes NULL; nothing happens when it is NULL. */
void registry_cancel(struct registry_call **c);

#endif
