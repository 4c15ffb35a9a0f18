/* One question to a realm: the request, by GET or as a form, and the whole answer. For registry*.c
 * only. */
#ifndef REGISTRY_REALM_H
#define REGISTRY_REALM_H

#include <stddef.h>

#include "upstream.h"

struct realm_call;
struct token_want;

/* Valid during the callback. */
struct realm_answer {
	enum upstream_result result;
	const char *detail; /* of another result than OK */
	int status;
	int64_t retry_after; /* seconds, of a 429; 0: it does not say */
	const void *body;
	size_t n;
};
typedef void realm_fn(void *arg, const struct realm_answer *a);

/* `w` is borrowed until the end: `told` is called, from the loop, or realm_cancel(). */
struct realm_call *realm_ask(
    struct upstream *u, const struct token_want *w, realm_fn *told, void *arg);
/* *c becomes NULL; nothing happens when it is NULL. */
void realm_cancel(struct realm_call **c);

#endif
