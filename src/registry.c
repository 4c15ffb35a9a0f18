/* Calls to registries: between those who ask and upstream. */
#include "registry.h"

#include <stdlib.h>

#include "registry_auth.h"
#include "registry_hosts.h"
#include "xalloc.h"

struct registries {
	struct auths *auths;
};

struct registry_call {
	struct registries *rs;
	struct auth_call *call;
	struct upstream_ops ops;
	void *arg;
	bool ending; /* ops.done is running */
};

/* --- what is told ----------------------------------------------------------------------------- */

static void
on_head(void *arg, const struct upstream_answer *answer)
{
	struct registry_call *c = arg;

	if (c->ops.head != NULL)
		c->ops.head(c->arg, answer);
}

static void
on_data(void *arg, const void *p, size_t n)
{
	struct registry_call *c = arg;

	c->ops.data(c->arg, p, n);
}

static void
on_done(void *arg, enum upstream_result r, const char *detail)
{
	struct registry_call *c = arg;

	c->call = NULL;
	c->ending = true;
	c->ops.done(c->arg, r, detail);
	free(c);
}

static enum upstream_body
on_body(void *arg, void *to, size_t size, size_t *n)
{
	struct registry_call *c = arg;

	return c->ops.body(c->arg, to, size, n);
}

static void
on_turn(void *arg)
{
	struct registry_call *c = arg;

	if (c->ops.turn != NULL)
		c->ops.turn(c->arg);
}

static const struct upstream_ops relay = {on_head, on_data, on_done, on_body, on_turn};

/* --- callers ---------------------------------------------------------------------------------- */

struct registries *
registries_new(const struct registries_config *config)
{
	struct registries *rs = xcalloc(1, sizeof(*rs));

	rs->auths = auths_new(config);
	if (rs->auths == NULL)
		registries_free(&rs);
	return rs;
}

void
registries_free(struct registries **rs)
{
	if (*rs == NULL)
		return;
	auths_free(&(*rs)->auths);
	free(*rs);
	*rs = NULL;
}

struct upstream *
registry_upstream(const struct registries *rs, unsigned number)
{
	return hosts_upstream(auths_hosts(rs->auths), number);
}

enum upstream_asker
registries_asker(const struct registries *rs, unsigned registry)
{
	return auths_asker(rs->auths, registry);
}

struct registry_call *
registry_start(struct registries *rs, const struct upstream_request *r,
    const struct upstream_ops *ops, void *arg)
{
	struct registry_call *c = xcalloc(1, sizeof(*c));

	c->rs = rs;
	c->ops = *ops;
	c->arg = arg;
	c->call = auth_start(rs->auths, r, &relay, c);
	return c;
}

void
registry_pause(struct registry_call *c)
{
	auth_pause(c->call);
}

void
registry_resume(struct registry_call *c)
{
	auth_resume(c->call);
}

void
registry_retarget(struct registry_call *c, const struct upstream_ops *ops, void *arg)
{
	c->ops = *ops;
	c->arg = arg;
}

void
registry_cancel(struct registry_call **cp)
{
	struct registry_call *c = *cp;

	*cp = NULL;
	if (c == NULL || c->ending)
		return;
	auth_cancel(&c->call);
	free(c);
}
