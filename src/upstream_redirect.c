/* Redirects (WIRE.md 9.1): where a 3xx leads and whether it may be followed. The rule on private
 * addresses is applied where an address is known: before a connection is opened, and again before a
 * request goes out on a kept one.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "upstream_private.h"

bool
redirect_wanted(const struct upstream_call *c)
{
	int s = c->head.status;

	if (!c->request.follow || !setup_repeatable(&c->request))
		return false;
	return s == 301 || s == 302 || s == 303 || s == 307 || s == 308;
}

/* --- addresses --- */

struct net4 {
	uint32_t net;
	unsigned bits;
};

/* Besides 169.254/16, what the IANA special-purpose registry does not call globally reachable. */
static const struct net4 private_nets[] = {
    {0x00000000, 8},
    {0x0a000000, 8},
    {0x64400000, 10},
    {0x7f000000, 8},
    {0xac100000, 12},
    {0xc0000000, 24},
    {0xc0a80000, 16},
    {0xc6120000, 15},
    {0xe0000000, 3},
};

static enum address_class
class4(uint32_t a)
{
	if (a >> 16 == 0xa9fe)
		return ADDRESS_LINK_LOCAL;
	for (size_t i = 0; i < sizeof(private_nets) / sizeof(private_nets[0]); i++)
		if ((a ^ private_nets[i].net) >> (32 - private_nets[i].bits) == 0)
			return ADDRESS_PRIVATE;
	return ADDRESS_PUBLIC;
}

static uint32_t
word4(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static enum address_class
class6(const struct in6_addr *in)
{
	static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
	const uint8_t *a = in->s6_addr;

	if (IN6_IS_ADDR_V4MAPPED(in) || memcmp(a, nat64, sizeof(nat64)) == 0)
		return class4(word4(a + 12));
	if (a[0] == 0x20 && a[1] == 0x02) /* 6to4 */
		return class4(word4(a + 2));
	if (IN6_IS_ADDR_LINKLOCAL(in))
		return ADDRESS_LINK_LOCAL;
	if ((a[0] & 0xe0) != 0x20) /* all that is globally routed is in 2000::/3 */
		return ADDRESS_PRIVATE;
	return ADDRESS_PUBLIC;
}

enum address_class
redirect_address_class(const char *ip)
{
	struct in_addr a4;
	struct in6_addr a6;

	if (inet_pton(AF_INET, ip, &a4) == 1)
		return class4(ntohl(a4.s_addr));
	if (inet_pton(AF_INET6, ip, &a6) == 1)
		return class6(&a6);
	return ADDRESS_PRIVATE;
}

/* A connection that does not go to the URL's own port goes to a proxy, whose address says
 * nothing of the target's. */
static bool
address_allowed(const struct upstream_call *c, long port, enum address_class class)
{
	if (!c->foreign || port != c->port || class == ADDRESS_PUBLIC)
		return true;
	if (class == ADDRESS_LINK_LOCAL)
		return c->registry_address == ADDRESS_LINK_LOCAL;
	return c->registry_address != ADDRESS_PUBLIC || c->u->config.allow_private_redirects;
}

static enum address_class
sockaddr_class(const struct sockaddr *sa, long *port)
{
	const struct sockaddr_in *in = (const void *)sa;
	const struct sockaddr_in6 *in6 = (const void *)sa;

	if (sa->sa_family == AF_INET) {
		*port = ntohs(in->sin_port);
		return class4(ntohl(in->sin_addr.s_addr));
	}
	*port = sa->sa_family == AF_INET6 ? ntohs(in6->sin6_port) : 0;
	return sa->sa_family == AF_INET6 ? class6(&in6->sin6_addr) : ADDRESS_PRIVATE;
}

curl_socket_t
redirect_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct upstream_call *c = arg;
	long port;
	enum address_class class = sockaddr_class(&address->addr, &port);

	(void)purpose;
	if (!address_allowed(c, port, class)) {
		c->address_refused = true; /* another address of the same name may do */
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

int
redirect_before_request(void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
	struct upstream_call *c = arg;

	(void)local_ip;
	(void)local_port;
	if (address_allowed(c, remote_port, redirect_address_class(remote_ip)))
		return CURL_PREREQFUNC_OK;
	c->address_refused = true;
	return CURL_PREREQFUNC_ABORT;
}

/* --- where it leads --- */

struct origin {
	char *scheme, *host, *port;
};

static bool
origin_of(CURLU *url, struct origin *o)
{
	*o = (struct origin){0};
	return curl_url_get(url, CURLUPART_SCHEME, &o->scheme, 0) == CURLUE_OK &&
	    curl_url_get(url, CURLUPART_HOST, &o->host, 0) == CURLUE_OK &&
	    curl_url_get(url, CURLUPART_PORT, &o->port, CURLU_DEFAULT_PORT) == CURLUE_OK;
}

static void
origin_free(struct origin *o)
{
	curl_free(o->scheme);
	curl_free(o->host);
	curl_free(o->port);
}

static bool
origin_equal(const struct origin *a, const struct origin *b)
{
	return strcasecmp(a->scheme, b->scheme) == 0 && strcasecmp(a->host, b->host) == 0 &&
	    strcmp(a->port, b->port) == 0;
}

/* The registry's own address, seen on the first hop. */
static void
note_registry_address(struct upstream_call *c, const struct origin *own)
{
	char *ip = NULL;
	long port = 0;

	curl_easy_getinfo(c->easy, CURLINFO_PRIMARY_IP, &ip);
	curl_easy_getinfo(c->easy, CURLINFO_PRIMARY_PORT, &port);
	if (ip != NULL && port == strtol(own->port, NULL, 10))
		c->registry_address = redirect_address_class(ip);
}

static bool
note_hop(struct upstream_call *c, CURLU *url, const struct origin *own, const struct origin *next)
{
	char *text = NULL;

	if (strcasecmp(next->scheme, "http") != 0 && strcasecmp(next->scheme, "https") != 0)
		return call_fault(
		    c, UPSTREAM_REDIRECT, "redirect to a scheme other than http and https");
	if (strncasecmp(c->url, "https:", 6) == 0 && strcasecmp(next->scheme, "https") != 0)
		return call_fault(c, UPSTREAM_REDIRECT, "redirect from https to http");
	curl_url_set(url, CURLUPART_FRAGMENT, NULL, 0);
	if (curl_url_get(url, CURLUPART_URL, &text, 0) != CURLUE_OK)
		return call_fault(c, UPSTREAM_REDIRECT, "redirect to something that is no URL");
	c->next_url = arena_strdup(&c->arena, text);
	curl_free(text);
	c->next_foreign = !origin_equal(own, next);
	c->next_port = strtol(next->port, NULL, 10);
	return true;
}

/* `own` is the call's origin; the Location may be relative to the hop's URL. */
static bool
resolve(struct upstream_call *c, const char *location, const struct origin *own)
{
	const unsigned flags =
	    CURLU_URLENCODE | CURLU_ALLOW_SPACE | CURLU_DISALLOW_USER | CURLU_NON_SUPPORT_SCHEME;
	CURLU *url = curl_url();
	struct origin next = {0};
	bool ok = url != NULL &&
	    curl_url_set(url, CURLUPART_URL, c->url, CURLU_PATH_AS_IS) == CURLUE_OK &&
	    curl_url_set(url, CURLUPART_URL, location, flags) == CURLUE_OK && origin_of(url, &next);

	if (ok)
		ok = note_hop(c, url, own, &next);
	else
		call_fault(c, UPSTREAM_REDIRECT, "redirect to something that is no URL for us");
	origin_free(&next);
	curl_url_cleanup(url);
	return ok;
}

static bool
resolve_from_own(struct upstream_call *c, const char *location)
{
	CURLU *url = curl_url();
	struct origin own = {0};
	char *first = arena_printf(&c->arena, "%s://%s/", c->request.scheme, c->request.host);
	bool ok = url != NULL && curl_url_set(url, CURLUPART_URL, first, 0) == CURLUE_OK &&
	    origin_of(url, &own);

	if (ok) {
		if (c->redirects == 0)
			note_registry_address(c, &own);
		ok = resolve(c, location, &own);
	} else {
		call_fault(c, UPSTREAM_PROTOCOL, "the registry's name is no host");
	}
	origin_free(&own);
	curl_url_cleanup(url);
	return ok;
}

bool
redirect_note(struct upstream_call *c)
{
	const char *digest = head_get(&c->head, "Docker-Content-Digest");
	const char *location = head_get(&c->head, "Location");

	if (!c->foreign && digest != NULL)
		c->registry_digest = arena_strdup(&c->arena, digest);
	if (c->redirects >= UPSTREAM_MAX_REDIRECTS)
		return call_fault(c, UPSTREAM_REDIRECT, "more than 10 redirects");
	if (location == NULL || *location == '\0')
		return call_fault(c, UPSTREAM_REDIRECT, "redirect without Location");
	return resolve_from_own(c, location);
}

void
redirect_take(struct upstream_call *c)
{
	c->url = c->next_url;
	c->next_url = NULL;
	c->foreign = c->next_foreign;
	c->port = c->next_port;
	c->auth_dropped |= c->foreign;
	c->redirects++;
	c->fresh = false;
	c->discarded = 0;
}
