/* URLs that a registry gives, as the client has to use them: with what names the registry in the
 * client's requests (WIRE.md 2.3). */
#include <string.h>
#include <strings.h>

#include "request_private.h"

/* A load balancer that ends TLS says so by its PROXY head or by this field (docker-registry goes by it,
 * too). Anybody may send the field: it changes what its own sender is answered, and makes nothing
 * http that is https. Of several balancers the first was the client's. */
const char *
request_scheme(const struct request *req)
{
	const char *said = http_header_get(&req->head, "X-Forwarded-Proto");
	bool https = said != NULL && strncasecmp(said, "https", 5) == 0 &&
	    (said[5] == '\0' || said[5] == ',' || said[5] == ' ');

	return https || conn_is_secure(req->conn) ? "https" : "http";
}

/* Of a registry's URL; the rest is its query or nothing. */
static size_t
path_length(const char *url)
{
	return strcspn(url, "?#");
}

static bool
is_below_api(const char *path)
{
	return strncmp(path, "/v2/", 4) == 0;
}

const char *
request_client_path(struct request *req, const char *path)
{
	const struct route *r = &req->route;
	bool api = is_below_api(path), query = path[path_length(path)] == '?';

	return arena_printf(&req->arena, "%s%s%s%s%s%s", api ? r->mount : "", api ? "/v2/" : "",
	    api ? r->prefix : "", path + (api ? 4 : 0),
	    *r->ns == '\0' ? "" : query ? "&" : "?", r->ns);
}

const char *
request_client_link(struct request *req, const char *value)
{
	const char *open = strchr(value, '<'), *close, *path;
	const char *done = "", *url;

	for (; open != NULL && (close = strchr(open, '>')) != NULL; open = strchr(value, '<')) {
		url = arena_strndup(&req->arena, open + 1, (size_t)(close - open - 1));
		path = request_path_on_upstream(req, url);
		if (path != NULL)
			url = request_client_path(req, path);
		done = arena_printf(
		    &req->arena, "%s%.*s<%s", done, (int)(open - value), value, url);
		value = close;
	}
	return arena_printf(&req->arena, "%s%s", done, value);
}
