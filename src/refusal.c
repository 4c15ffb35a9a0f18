/* A registry's "no", kept to be relayed. */
#include "refusal.h"

#include <stdlib.h>

#include "upstream.h"
#include "xalloc.h"

struct refusal *
refusal_new(const struct upstream_answer *answer)
{
	struct refusal *r = xcalloc(1, sizeof(*r));

	r->status = answer->status;
	r->asker = answer->asker;
	r->nheaders = answer->nheaders;
	r->headers = xcalloc(answer->nheaders, sizeof(*r->headers));
	for (size_t i = 0; i < answer->nheaders; i++) {
		r->headers[i].name = xstrdup(answer->headers[i].name);
		r->headers[i].value = xstrdup(answer->headers[i].value);
	}
	return r;
}

void
refusal_add_body(struct refusal *r, const void *p, size_t n)
{
	size_t room = REFUSAL_MAX_BODY - buf_len(&r->body);

	buf_append(&r->body, p, n < room ? n : room);
}

void
refusal_free(struct refusal **rp)
{
	struct refusal *r = *rp;

	if (r == NULL)
		return;
	for (size_t i = 0; i < r->nheaders; i++) {
		free(r->headers[i].name);
		free(r->headers[i].value);
	}
	free(r->headers);
	buf_free(&r->body);
	free(r);
	*rp = NULL;
}
