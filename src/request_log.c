/* The access line of a request, and its id. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "request_private.h"

enum { ID_MAX = 128, DIGEST_SHOWN = 19, FIELDS_MAX = 24 };

/* A client's own id is taken when it is plain: it goes into lines and fields as it is. */
static bool
is_plain(const char *id)
{
	size_t n = strspn(id,
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/+=@-");

	return n > 0 && n <= ID_MAX && id[n] == '\0';
}

const char *
request_id(struct request *req)
{
	const char *given = http_header_get(&req->head, "X-Request-Id");

	if (req->given_id == NULL)
		req->given_id = given != NULL && is_plain(given)
		    ? given
		    : arena_printf(&req->arena, "%" PRIx64 "-%" PRIx64, req->id, req->started_ms);
	return req->given_id;
}

static struct log_field
text(const char *name, const char *value)
{
	return (struct log_field){name, value != NULL ? value : "", 0};
}

static struct log_field
number(const char *name, uint64_t value)
{
	return (struct log_field){name, NULL, value};
}

/* "sha256:" and the first twelve digits name an object well enough for people. */
static const char *
short_digest(const struct request *req, char out[DIGEST_STR_SIZE])
{
	if (!req->has_digest)
		return "";
	digest_str(&req->digest, out);
	out[DIGEST_SHOWN] = '\0';
	return out;
}

/* A query is not logged: what it holds may be a secret (the state of an upload, a token). Nor is the
 * URL of a request that was refused for it: it may hold a password. */
static const char *
path_of(const struct request *req, char out[513])
{
	const char *target = req->head.target != NULL && *req->head.target == '/' ? req->head.target : "";

	snprintf(out, 513, "%.*s", (int)strcspn(target, "?"), target);
	return out;
}

void
request_log(struct request *req)
{
	char id[20], path[513], digest[DIGEST_STR_SIZE];
	uint64_t now = clock_ms();
	struct log_field f[FIELDS_MAX];
	size_t n = 0;

	snprintf(id, sizeof(id), "%" PRIx64, req->id);
	f[n++] = text("id", id);
	f[n++] = text("client", conn_address(req->conn));
	if (req->user != NULL)
		f[n++] = text("user", req->user);
	f[n++] = text("method", req->head.method_name);
	f[n++] = text("upstream", req->route.upstream);
	f[n++] = text("repository", req->route.repository);
	f[n++] = text("reference", req->route.reference);
	f[n++] = text("digest", short_digest(req, digest));
	f[n++] = text("target", path_of(req, path));
	f[n++] = text("outcome", req->outcome != NULL ? req->outcome : "error");
	f[n++] = number("status", (uint64_t)req->status);
	f[n++] = number("bytes", req->bytes);
	f[n++] = number("ms", now - req->started_ms);
	if (req->answered_ms != 0)
		f[n++] = number("first_ms", req->answered_ms - req->started_ms);
	if (req->check_began_ms != 0)
		f[n++] = number("check_ms", req->check_ms);
	f[n++] = text("request", request_id(req));
	if (req->code != NULL)
		f[n++] = text("code", req->code);
	log_access(f, n);
}
