/* A tag whose registry does not say its digest: the manifest is fetched into memory and hashed,
 * then the request goes on with that digest (WIRE.md 4.1). What is larger than any client takes
 * for a manifest is passed through. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "log.h"
#include "media.h"
#include "notes.h"
#include "refusal.h"
#include "registry.h"
#include "request_private.h"
#include "xalloc.h"

struct resolve {
	struct request *req;
	struct registry_call *call;
	struct hasher *hasher;
	struct refusal *refusal;
	uint64_t got;
	int64_t promised; /* -1: not said */
	bool is_page, too_large;
};

void
resolve_free(struct resolve **rp)
{
	struct resolve *r = *rp;

	if (r == NULL)
		return;
	registry_cancel(&r->call);
	hasher_free(&r->hasher);
	refusal_free(&r->refusal);
	free(r);
	*rp = NULL;
}

static void
pass_instead(struct resolve *r)
{
	struct request *req = r->req;

	request_goto(req, REQUEST_PASS);
	resolve_free(&req->resolve);
	request_drive(req->conn);
}

static void
on_head(void *arg, const struct upstream_answer *a)
{
	struct resolve *r = arg;
	const char *type = upstream_header(a, "Content-Type", 0);

	if (a->status != 200) {
		r->refusal = refusal_new(a);
		return;
	}
	r->req->first_host = a->host;
	if (type != NULL && media_is_signed(type)) {
		pass_instead(r); /* its digest is the registry's to say */
		return;
	}
	notes_take(&r->req->notes, a);
	r->promised = a->content_length;
	r->is_page = type != NULL && strncasecmp(type, "text/html", 9) == 0;
	if (type != NULL)
		r->req->media_type = arena_strndup(&r->req->arena, type, strcspn(type, "; \t"));
}

static void
on_data(void *arg, const void *p, size_t n)
{
	struct resolve *r = arg;

	if (r->refusal != NULL) {
		refusal_add_body(r->refusal, p, n);
		return;
	}
	r->got += n;
	hasher_update(r->hasher, p, n);
	if (r->got > MEDIA_DOCUMENT_MAX)
		pass_instead(r);
}

static void
resolved(struct resolve *r)
{
	struct request *req = r->req;
	char text[DIGEST_STR_SIZE];

	hasher_final(r->hasher, &req->digest);
	req->has_digest = true;
	req->checked = true; /* it was given the whole manifest */
	req->size = (int64_t)r->got;
	req->route.target = arena_printf(&req->arena, "/v2/%s/manifests/%s", req->route.repository,
	    digest_str(&req->digest, text));
	request_granted(req);
	request_goto(req, REQUEST_LOOKUP);
}

static bool
is_no_answer(const struct resolve *r, enum upstream_result result)
{
	return r->refusal != NULL ? request_may_be_grace(r->refusal->status)
				  : result != UPSTREAM_OK;
}

static void
on_done(void *arg, enum upstream_result result, const char *detail)
{
	struct resolve *r = arg;
	struct request *req = r->req;
	bool is_short = r->promised >= 0 && r->got < (uint64_t)r->promised;

	r->call = NULL;
	request_goto(req, REQUEST_DONE);
	if (is_no_answer(r, result) && request_by_grace(req))
		;
	else if (r->refusal != NULL)
		(void)request_refuse(req, r->refusal);
	else if (result != UPSTREAM_OK)
		(void)request_no_answer(req, result, detail);
	else if (r->is_page)
		(void)request_no_answer(
		    req, UPSTREAM_PROTOCOL, "a page of HTML instead of a manifest");
	else if (is_short)
		(void)request_no_answer(req, UPSTREAM_BROKEN, "the manifest ended early");
	else
		resolved(r);
	resolve_free(&req->resolve);
	request_drive(req->conn);
}

enum step
step_resolve(struct request *req)
{
	static const struct upstream_ops ops = {on_head, on_data, on_done, NULL, NULL};
	struct upstream_header accept;
	struct upstream_request q = request_get(req, &accept);

	if (req->resolve != NULL)
		return STEP_WAIT;
	req->resolve = xcalloc(1, sizeof(*req->resolve));
	req->resolve->req = req;
	req->resolve->promised = -1;
	req->resolve->hasher = hasher_new(DIGEST_SHA256);
	req->resolve->call = registry_start(req->s->registries, &q, &ops, req->resolve);
	return STEP_WAIT;
}
