/* The check: may this client have this object? HEAD to the registry with the client's own
 * credentials, the ladder where a registry answers HEAD badly (WIRE.md 6.1), and coalescing of
 * identical checks in flight.
 *
 * Identical: same upstream, path, Accept, Authorization and `want_body`. Keys are HMAC-SHA-256
 * under a key made at start-up; no credential is kept once its check has ended. Nothing is shared
 * across credentials, and no answer outlives its check.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "registry.h"

struct check; /* one a process */

struct check_question {
	const char *scheme, *host, *target; /* as in struct upstream_request */
	unsigned registry;                  /* likewise */
	const char *accept;                 /* joined; NULL: none was sent */
	const char *authorization;          /* NULL: anonymous */
	uint64_t deadline_ms;               /* as there, for all that it takes; 0: none */
	bool blob; /* for the memory of quirks: blobs and manifests differ */
	/* A refusal's body is wanted (the client sent GET): then every refusal by HEAD but 429 and
	 * 5xx is asked again by GET with Range: bytes=0-0. */
	bool want_body;
};

enum check_verdict {
	CHECK_ALLOWED, /* 2xx by HEAD, or 200, 206, 416 by the ladder's GET */
	CHECK_REFUSED, /* the registry said no: relay status, headers and body */
	CHECK_FAILED,  /* no answer: `result` says why */
};

/* Valid during the callback only. */
struct check_answer {
	enum check_verdict verdict;
	enum upstream_result result;        /* CHECK_FAILED */
	const char *detail;                 /* CHECK_FAILED: text for the log */
	const struct upstream_answer *head; /* ALLOWED and REFUSED */
	/* `head` is of the ladder's GET: its Content-Length may be of a range; see `size`. */
	bool by_get;
	/* ALLOWED: of the whole object (Content-Length of the HEAD, total of a Content-Range);
	 * -1 when not said. */
	int64_t size;
	const void *body; /* REFUSED, by GET: at most 64 KiB of it */
	size_t body_length;
};

typedef void check_fn(void *arg, const struct check_answer *a);

struct check_ticket; /* one waiter */

/* `counted` (may be NULL) is called with shared = false when a check goes upstream and true when
 * a question joins one in flight. */
struct check *check_new(struct registries *rs, void (*counted)(void *arg, bool shared), void *arg);
void check_free(struct check **c);

/* The answer comes from the event loop, never from inside this call. The ticket ends with its
 * callback or check_cancel(). */
struct check_ticket *check_ask(
    struct check *c, const struct check_question *q, check_fn *answer, void *arg);
/* *t becomes NULL. The request upstream goes on while others wait for it, and is cancelled with
 * its last waiter. */
void check_cancel(struct check_ticket **t);

#endif
