/* A registry's "no", kept to be relayed: status, header lines and up to 64 KiB of body, copied
 * from an answer that is valid during a callback only. */
#ifndef REFUSAL_H
#define REFUSAL_H

#include <stddef.h>

#include "buf.h"

struct upstream_answer;

enum { REFUSAL_MAX_BODY = 65536 };

struct refusal {
	int status;
	int asker; /* enum upstream_asker */
	size_t nheaders;
	struct refusal_header {
		char *name, *value;
	} *headers;
	struct buf body; /* what lies beyond REFUSAL_MAX_BODY is dropped */
};

/* Copies status and headers; owned by the caller. */
struct refusal *refusal_new(const struct upstream_answer *answer);
void refusal_add_body(struct refusal *r, const void *p, size_t n);
void refusal_free(struct refusal **r);

#endif
