/* server.checkGrace: while a registry cannot answer, what it allowed a credential a short time ago is
 * served to that credential from the cache; nothing else. Of a tag that is the digest that it was told
 * last, for the same Accept. A refusal ends what it contradicts at once: 404 the object, 401 and 403
 * all of that credential in the repository. */
#include <inttypes.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "request_private.h"
#include "secret.h"
#include "shm.h"
#include "shm_grant.h"

static bool
is_on(const struct request *req)
{
	return req->s->grace_ms > 0 &&
	    (req->route.kind == ROUTE_MANIFEST || req->route.kind == ROUTE_BLOB);
}

static void
hash(struct request *req, const char *const *words, size_t n, uint8_t out[GRANT_KEY_BYTES])
{
	uint8_t mac[SECRET_BYTES];

	secret_mac(req->s->secret, words, n, mac);
	memcpy(out, mac, GRANT_KEY_BYTES);
}

static void
make_object(struct request *req, const char *what, const char *accept, uint8_t out[GRANT_KEY_BYTES])
{
	const char *const words[] = {"grant", req->route.upstream, req->route.repository,
	    req->authorization,
	    req->route.kind == ROUTE_BLOB ? "blob" : "manifest", what, accept};

	hash(req, words, sizeof(words) / sizeof(words[0]), out);
}

static void
make_scope(struct request *req, uint8_t out[GRANT_KEY_BYTES])
{
	const char *const words[] = {"scope", req->route.upstream, req->route.repository,
	    req->authorization};

	hash(req, words, sizeof(words) / sizeof(words[0]), out);
}

static bool
is_tag(const struct request *req)
{
	return !req->route.has_digest;
}

/* Of the tag that was asked for, or of the digest. */
static void
make_key(struct request *req, bool of_tag, struct grant_key *k)
{
	char text[DIGEST_STR_SIZE];

	if (of_tag)
		make_object(req, req->route.reference, req->accept, k->object);
	else
		make_object(req, digest_str(&req->digest, text), NULL, k->object);
	make_scope(req, k->scope);
}

void
request_granted(struct request *req)
{
	struct grant_key k;
	uint64_t now = clock_us();

	if (!is_on(req) || !req->has_digest)
		return;
	make_key(req, false, &k);
	shm_grant_put(req->s->shm, &k, now, &req->digest);
	if (!is_tag(req))
		return;
	make_key(req, true, &k);
	shm_grant_put(req->s->shm, &k, now, &req->digest);
}

void
request_revoked(struct request *req, int status)
{
	struct grant_key k;

	if (!is_on(req) || (status != 401 && status != 403 && status != 404))
		return;
	make_key(req, !req->has_digest, &k);
	shm_grant_revoke(req->s->shm, status == 404 ? k.object : k.scope, clock_us());
}

/* How long ago it was allowed, in microseconds; -1: not within the grace. */
static int64_t
age_of_grant(struct request *req, bool of_tag, struct digest *d)
{
	struct grant_key k;
	uint64_t at, now = clock_us();

	make_key(req, of_tag, &k);
	if (!shm_grant_get(req->s->shm, &k, &at, d) || now > at + req->s->grace_ms * 1000)
		return -1;
	return now > at ? (int64_t)(now - at) : 0;
}

bool
request_by_grace(struct request *req)
{
	bool tag = is_tag(req) && !req->has_digest;
	struct digest d;
	int64_t age = 0;

	if (!is_on(req) || req->head_sent)
		return false;
	if (tag && age_of_grant(req, true, &req->digest) < 0)
		return false;
	req->has_digest = true;
	age = age_of_grant(req, false, &d);
	if (age < 0 || !(req->hit || request_find(req))) {
		req->has_digest = !tag;
		return false;
	}
	log_info("request %" PRIx64 ": served unchecked, allowed %" PRId64 " ms ago", req->id,
	    age / 1000);
	shm_count(req->s->shm, req->s->listener, COUNT_GRACE, 1);
	req->checked = req->by_grace = true;
	req->grace_age_s = (uint64_t)age / 1000000;
	request_goto(req, REQUEST_ADMIT);
	return true;
}

bool
request_may_be_grace(int status)
{
	return status == 408 || status == 429 || status >= 500;
}
