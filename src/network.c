/* Addresses of clients: networks that they belong to, and what counts as one client. */
#include "network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { V4_BITS = 32, V6_BITS = 128, CLIENT_BITS = 64, TEXT_MAX = INET6_ADDRSTRLEN + 4 };

/* The bits after the slash. -1: no number that fits. */
static int
read_bits(const char *text, unsigned most)
{
	size_t n = strlen(text);
	int bits;

	if (n < 1 || n > 3 || strspn(text, "0123456789") != n || (n > 1 && *text == '0'))
		return -1;
	bits = atoi(text);
	return bits <= (int)most ? bits : -1;
}

/* Is there a bit set behind the first `bits`? */
static bool
has_more_bits(const uint8_t *bytes, unsigned bits, unsigned all)
{
	for (unsigned i = bits; i < all; i++)
		if (bytes[i / 8] & 0x80 >> i % 8)
			return true;
	return false;
}

const char *
network_parse(const char *text, struct network *out)
{
	char host[TEXT_MAX];
	size_t n = strcspn(text, "/");
	unsigned all;
	int bits;

	*out = (struct network){.family = AF_UNIX};
	if (strcmp(text, "unix") == 0)
		return NULL;
	if (n >= sizeof(host))
		return "is no IP address";
	memcpy(host, text, n);
	host[n] = '\0';
	out->family = strchr(host, ':') != NULL ? AF_INET6 : AF_INET;
	if (inet_pton(out->family, host, out->bytes) != 1)
		return "is no IP address";
	all = out->family == AF_INET ? V4_BITS : V6_BITS;
	bits = text[n] == '/' ? read_bits(text + n + 1, all) : (int)all;
	if (bits < 0)
		return "has no number of bits after its '/'";
	out->bits = (unsigned)bits;
	return has_more_bits(out->bytes, out->bits, all) ? "has bits set behind its network" : NULL;
}

/* The address' bytes; NULL: it is not of that family. */
static const uint8_t *
bytes_of(const struct sockaddr *address, int family)
{
	const struct sockaddr_in *in = (const void *)address;
	const struct sockaddr_in6 *in6 = (const void *)address;
	bool mapped = address->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr);

	if (family == AF_INET && mapped)
		return in6->sin6_addr.s6_addr + 12;
	if (family != address->sa_family || mapped)
		return NULL;
	return family == AF_INET ? (const uint8_t *)&in->sin_addr : in6->sin6_addr.s6_addr;
}

bool
network_has(const struct network *n, const struct sockaddr *address)
{
	const uint8_t *bytes;
	unsigned whole = n->bits / 8, rest = n->bits % 8;

	if (n->family == AF_UNIX)
		return address->sa_family == AF_UNIX;
	bytes = bytes_of(address, n->family);
	return bytes != NULL && memcmp(bytes, n->bytes, whole) == 0 &&
	    (rest == 0 || (bytes[whole] ^ n->bytes[whole]) >> (8 - rest) == 0);
}

const char *
network_client(const char *address, char out[NETWORK_CLIENT_SIZE])
{
	struct in6_addr six;
	char text[INET6_ADDRSTRLEN];

	snprintf(out, NETWORK_CLIENT_SIZE, "%s", address);
	if (strchr(address, ':') == NULL || inet_pton(AF_INET6, address, &six) != 1 ||
	    IN6_IS_ADDR_V4MAPPED(&six))
		return out;
	memset(six.s6_addr + CLIENT_BITS / 8, 0, sizeof(six) - CLIENT_BITS / 8);
	if (inet_ntop(AF_INET6, &six, text, sizeof(text)) != NULL)
		snprintf(out, NETWORK_CLIENT_SIZE, "%s/%d", text, CLIENT_BITS);
	return out;
}
