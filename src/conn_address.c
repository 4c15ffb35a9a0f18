/* What a connection is, as text: a phase, an address. */
#include "conn.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

void
conn_address_text(const struct sockaddr *peer, char text[CONN_ADDRESS_SIZE])
{
	const void *address = NULL;
	int family = peer->sa_family;

	if (peer->sa_family == AF_INET)
		address = &((const struct sockaddr_in *)(const void *)peer)->sin_addr;
	else if (peer->sa_family == AF_INET6)
		address = &((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr;
	if (peer->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)address)) {
		family = AF_INET; /* as everywhere else: it came to a socket for both */
		address = (const char *)address + 12;
	}
	if (address == NULL || inet_ntop(family, address, text, CONN_ADDRESS_SIZE) == NULL)
		strcpy(text, peer->sa_family == AF_UNIX ? "unix" : "-");
}

const char *
conn_phase_name(enum conn_phase p)
{
	static const char *const names[] = {"idle", "reading", "busy", "linger", "closed"};

	return names[p];
}
