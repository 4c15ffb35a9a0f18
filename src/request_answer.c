/* Answers that are not objects: errors of ours, refusals of a registry's, and which fields are
 * relayed. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "clock.h"
#include "http_date.h"
#include "log.h"
#include "refusal.h"
#include "request_private.h"
#include "shm.h"

enum { RETRY_AFTER_MAX = 86400 /* seconds; nobody means more */ };

struct buf *
request_begin(struct request *req, int status)
{
	struct buf *out = conn_output(req->conn);

	req->status = status;
	req->head_sent = true;
	req->answered_us = clock_us();
	req->answered_ms = req->answered_us / 1000;
	http_begin(out, status, !req->keep_alive);
	http_field(out, "X-Request-Id", request_id(req));
	http_field(out, "Docker-Distribution-Api-Version", "registry/2.0");
	if (req->route.ns_name != NULL)
		http_field(out, "OCI-Namespace", req->route.ns_name);
	return out;
}

enum step
request_cut(struct request *req, const char *why)
{
	req->outcome = "error";
	log_info("request %" PRIx64 ": cut after %" PRIu64 " bytes: %s", req->id, req->bytes, why);
	req->keep_alive = false;
	return STEP_DONE;
}

static void
count_outcome(struct request *req, int status)
{
	if (req->outcome != NULL)
		return;
	req->outcome =
	    status == 401 || status == 403 || status == 404 || status == 429 ? "denied" : "error";
}

enum step
request_end_json(struct request *req, struct buf *out, const char *body)
{
	http_field(out, "Content-Type", "application/json");
	http_field_u64(out, "Content-Length", strlen(body));
	http_end(out);
	if (req->head.method != HTTP_HEAD)
		buf_append(out, body, strlen(body));
	return STEP_DONE;
}

enum step
request_fail(struct request *req, int status, const char *code, const char *fmt, ...)
{
	char message[512];
	const char *body;
	struct buf *out;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	req->outcome = "error";
	req->code = code;
	if (req->head_sent)
		return request_cut(req, message);
	log_info("request %" PRIx64 ": %d %s: %s", req->id, status, code, message);
	if (req->head.chunked || req->head.body_length != 0)
		req->keep_alive = false; /* the request's body was not read */
	body = http_error_body(&req->arena, code, message);
	out = request_begin(req, status);
	if (status == 503 || req->retry_after > 0)
		http_field_u64(out, "Retry-After", req->retry_after > 0 ? req->retry_after : 1);
	if (status == 401)
		request_challenge(req, out);
	if (status == 405)
		http_field(out, "Allow", "GET, HEAD");
	return request_end_json(req, out, body);
}

/* --- relaying --------------------------------------------------------------------------------- */

/* Fields that mean something for one hop or one host only, or that the cache sets itself.
 * X-Registry-Supports-Signatures would send podman to an API that is not cached (WIRE.md 2.4). */
static bool
is_relayed(const char *name)
{
	static const char *const dropped[] = {"Content-Length", "Date", "Set-Cookie", "Set-Cookie2",
	    "X-Request-Id", "Location", "Alt-Svc", "Strict-Transport-Security", "Docker-Distribution-Api-Version",
	    "X-Registry-Supports-Signatures"};

	if (http_is_hop_by_hop(name))
		return false;
	for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++)
		if (http_name_is(name, dropped[i]))
			return false;
	return true;
}

const char *
request_path_on_upstream(const struct request *req, const char *url)
{
	const char *scheme = req->route.scheme;
	const char *host = req->answer_host != NULL ? req->answer_host : req->route.host;
	const char *port = strcmp(scheme, "https") == 0 ? ":443" : ":80";
	size_t n = strlen(scheme), bare = strlen(host), tail = strlen(port);

	if (strncmp(url, "//", 2) != 0 && url[strcspn(url, ":/?")] != ':')
		return url;
	if (strncasecmp(url, scheme, n) != 0 || strncmp(url + n, "://", 3) != 0)
		return NULL;
	url += n + 3;
	if (bare > tail && strcmp(host + bare - tail, port) == 0)
		bare -= tail;
	if (strncasecmp(url, host, bare) != 0)
		return NULL;
	url += bare;
	if (strncmp(url, port, tail) == 0)
		url += tail;
	return *url == '/' || *url == '\0' || *url == '?' ? url : NULL;
}

/* Clients resolve a relative Location badly, so it is absolute, on the host that the client
 * asked. */
static void
relay_location(struct request *req, struct buf *out, const char *url)
{
	const char *path = request_path_on_upstream(req, url);
	bool rooted = path != NULL && *path == '/';

	if (path == NULL || (!rooted && path == url))
		http_field(out, "Location", url);
	else
		http_field(out, "Location",
		    arena_printf(&req->arena, "%s://%s%s%s", request_scheme(req),
			req->head.host, rooted ? "" : "/", request_client_path(req, path)));
}

/* Location is for pushes and the state of an upload; elsewhere the cache has followed it or it means
 * nothing (WIRE.md 4.3). */
static bool
has_location(const struct request *req)
{
	bool reading = req->head.method == HTTP_GET || req->head.method == HTTP_HEAD;

	return !reading || strstr(req->route.target, "/blobs/uploads/") != NULL;
}

/* Clients compare the type of a list of referrers exactly (WIRE.md 10.1). */
static void
relay_type(struct request *req, struct buf *out, const char *value)
{
	bool index = req->route.kind == ROUTE_REFERRERS &&
	    strncasecmp(value, REQUEST_INDEX_TYPE, strlen(REQUEST_INDEX_TYPE)) == 0;

	http_field(out, "Content-Type", index ? REQUEST_INDEX_TYPE : value);
}

static void
relay_field(struct request *req, struct buf *out, const struct upstream_header *h)
{
	if (http_name_is(h->name, "WWW-Authenticate") && request_has_own_realm(req))
		return; /* request_own_challenge() */
	if (http_name_is(h->name, "Location") && has_location(req))
		relay_location(req, out, h->value);
	else if (http_name_is(h->name, "Link"))
		http_field(out, "Link", request_client_link(req, h->value));
	else if (http_name_is(h->name, "Content-Type"))
		relay_type(req, out, h->value);
	else if (is_relayed(h->name))
		http_field(out, h->name, h->value);
}

void
request_relay_fields(
    struct request *req, struct buf *out, const struct upstream_header *h, size_t n)
{
	const char *connection = NULL;

	for (size_t i = 0; i < n; i++)
		if (http_name_is(h[i].name, "Connection"))
			connection = h[i].value;
	for (size_t i = 0; i < n; i++)
		if (!http_connection_names(connection, h[i].name))
			relay_field(req, out, &h[i]);
}

/* --- refusals --------------------------------------------------------------------------------- */

static const char *
code_for(const struct request *req, int status)
{
	switch (status) {
	case 401:
		return "UNAUTHORIZED";
	case 403:
		return "DENIED";
	case 404:
		return req->route.kind == ROUTE_BLOB ? "BLOB_UNKNOWN" : "MANIFEST_UNKNOWN";
	case 429:
		return "TOOMANYREQUESTS";
	default:
		return "UNSUPPORTED";
	}
}

static void
write_own_challenge(struct request *req, struct buf *out, const struct refusal *r)
{
	struct upstream_header *h = arena_alloc(&req->arena, r->nheaders * sizeof(*h) + 1);

	for (size_t i = 0; h != NULL && i < r->nheaders; i++)
		h[i] = (struct upstream_header){r->headers[i].name, r->headers[i].value};
	if (h != NULL && request_has_own_realm(req))
		request_own_challenge(req, out, h, r->nheaders);
}

enum step
request_bad_status(struct request *req, int status, const char *retry_after)
{
	int64_t seconds = retry_after != NULL ? http_parse_retry_after(retry_after, clock_wall()) : 0;

	if (seconds > 0)
		req->retry_after = seconds < RETRY_AFTER_MAX ? (unsigned)seconds : RETRY_AFTER_MAX;
	return request_fail(req, request_mapped(status), "UNAVAILABLE",
	    "the registry %s answered %d", req->route.upstream, status);
}

static const char *
field_of(const struct refusal *r, const char *name)
{
	for (size_t i = 0; i < r->nheaders; i++)
		if (http_name_is(r->headers[i].name, name))
			return r->headers[i].value;
	return NULL;
}

enum step
request_refuse(struct request *req, const struct refusal *r)
{
	struct buf *out;
	const char *body = (const char *)buf_data(&r->body);
	size_t n = buf_len(&r->body);
	bool ours = n == 0;

	request_revoked(req, r->status);
	if (request_is_own(r->asker, r->status))
		return request_refuse_own(req, r->asker, r->status);
	if (!request_is_refusal(r->status))
		return request_bad_status(req, r->status, field_of(r, "Retry-After"));
	if (req->head_sent)
		return request_cut(req, "the registry refused to go on");
	count_outcome(req, r->status);
	req->code = code_for(req, r->status);
	shm_count(req->s->shm, req->s->listener, COUNT_DENIED, 1);
	if (ours) {
		body = http_error_body(
		    &req->arena, req->code, "the registry refused, without saying more");
		n = strlen(body);
	}
	out = request_begin(req, request_told(req, r->status));
	for (size_t i = 0; i < r->nheaders; i++) {
		struct upstream_header h = {r->headers[i].name, r->headers[i].value};

		if (ours && http_name_is(h.name, "Content-Type"))
			continue;
		request_relay_fields(req, out, &h, 1);
	}
	if (ours)
		http_field(out, "Content-Type", "application/json");
	if (r->status == 401)
		write_own_challenge(req, out, r);
	http_field_u64(out, "Content-Length", n);
	http_end(out);
	if (req->head.method != HTTP_HEAD)
		buf_append(out, body, n);
	return STEP_DONE;
}

enum step
request_no_answer(struct request *req, enum upstream_result result, const char *detail)
{
	bool late = result == UPSTREAM_TIMEOUT || result == UPSTREAM_SILENT;

	return request_fail(req, late ? 504 : 502, "UNAVAILABLE",
	    "the registry %s: %s%s%s", req->route.upstream, upstream_result_name(result),
	    detail != NULL && *detail != '\0' ? ": " : "", detail != NULL ? detail : "");
}
