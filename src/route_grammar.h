/* The grammar of what a route is made of: names, tags, hosts (WIRE.md section 2.2). Text in,
 * verdict out. */
#ifndef ROUTE_GRAMMAR_H
#define ROUTE_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>

enum {
	ROUTE_NAME_MAX = 255,     /* bytes of a repository name */
	ROUTE_HOST_MAX = 255 + 6, /* a name, a colon, a port */
};

/* A repository name: components of lower-case letters and digits with single separators, joined
 * by "/". */
bool route_is_name(const char *s, size_t n);
bool route_is_tag(const char *s, size_t n);
/* host[:port], lower-case: a DNS name, an IPv4 address or [IPv6]. */
bool route_is_host(const char *s, size_t n);
/* Printable ASCII without spaces, as targets and URLs have to be. */
bool route_is_printable(const char *s);
/* The place of the colon before a host's port, or `n` when there is none. */
size_t route_port_at(const char *s, size_t n);

#endif
