/* Addresses of clients: networks that they belong to, and what counts as one client. No I/O. */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sockaddr;

enum { NETWORK_CLIENT_SIZE = 64 };

struct network {
	int family;        /* AF_INET, AF_INET6; AF_UNIX: whoever comes by a Unix socket */
	unsigned bits;     /* how many of the bytes' bits count */
	uint8_t bytes[16]; /* in network order; the rest is zero */
};

/* Reads "10.0.0.0/8", "fd00::/8", an address alone, or "unix". NULL, or what is wrong (static: "has
 * …"). */
const char *network_parse(const char *text, struct network *out) __attribute__((warn_unused_result));
/* An IPv4 address in an IPv6 one (::ffff:…) is that IPv4 address. */
bool network_has(const struct network *n, const struct sockaddr *address);

/* What is counted and limited as one client: an IPv4 address, the /64 of an IPv6 address (which one
 * machine has in whole), or the text as it is. Returns `out`. */
const char *network_client(const char *address, char out[NETWORK_CLIENT_SIZE]);

#endif
