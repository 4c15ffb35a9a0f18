/* One exchange with a registry as somebody: with a credential that the cache holds, with none, or with a
 * client's own. For registry*.c only. The life of a call, and its callbacks, are those of upstream.h.
 *
 * A GET or HEAD that is about a repository is asked again, once what a 401 challenges for is there: a
 * token of the realm that it names (realm_allowed()), or Basic. A token that is refused is dropped and
 * asked for anew, once. What a registry asks for is remembered, so that the next call has its token
 * from the start.
 *
 * A client's own Basic is told to the registry as it is, and exchanged when that takes tokens only
 * (WIRE.md 6.8); where the realm gives none, the registry's own 401 is what the client gets. */
#ifndef REGISTRY_AUTH_H
#define REGISTRY_AUTH_H

#include "registry.h"

struct auths; /* one a process */
struct hosts;
struct auth_call;

/* Owned by the caller. */
struct auths *auths_new(const struct registries_config *config);
void auths_free(struct auths **as);
struct hosts *auths_hosts(const struct auths *as); /* borrowed */
enum upstream_asker auths_asker(const struct auths *as, unsigned registry);

struct auth_call *auth_start(struct auths *as, const struct upstream_request *r,
    const struct upstream_ops *ops, void *arg);
void auth_pause(struct auth_call *c);
void auth_resume(struct auth_call *c);
void auth_cancel(struct auth_call **c);

#endif
