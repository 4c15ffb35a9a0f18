/* Whose turn it is. */
#include "turns.h"

#include "network.h"

unsigned
turns_client(const char *address)
{
	char client[NETWORK_CLIENT_SIZE];
	uint64_t h = 14695981039346656037u; /* FNV-1a */

	for (const char *c = network_client(address, client); *c != '\0'; c++)
		h = (h ^ (unsigned char)*c) * 1099511628211u;
	return (unsigned)(h ^ h >> 32) & (TURNS_CLIENTS - 1);
}

uint64_t
turns_due(const struct turns *t, unsigned client, uint64_t since_ms)
{
	uint64_t served = t->served[client % TURNS_CLIENTS];

	return served > since_ms ? served : since_ms;
}

void
turns_served(struct turns *t, unsigned client, uint64_t now_ms)
{
	t->served[client % TURNS_CLIENTS] = now_ms;
}
