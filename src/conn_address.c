/* A socket's address as text. */
#include "conn.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

void
conn_address_text(const struct sockaddr *peer, char text[CONN_ADDRESS_SIZE])
{
	const void *address = NULL;

	if (peer->sa_family == AF_INET)
		address = &((const struct sockaddr_in *)(const void *)peer)->sin_addr;
	else if (peer->sa_family == AF_INET6)
		address = &((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr;
	if (address == NULL || inet_ntop(peer->sa_family, address, text, CONN_ADDRESS_SIZE) == NULL)
		strcpy(text, "-");
}
