/* Whose turn it is when places are few: the client that was served longest ago, so that one who
 * asks for hundreds waits for himself and not the others. Pure. */
#ifndef TURNS_H
#define TURNS_H

#include <stdint.h>

enum { TURNS_CLIENTS = 1024 }; /* a power of two; clients share them, seldom */

struct turns {
	uint64_t served[TURNS_CLIENTS]; /* clock_ms: when that client last had a place; 0: never */
};

/* The number of a client, by its address. */
unsigned turns_client(const char *address);
/* Who waits since then is due as if he had come when he was last served. The lowest is first, and of
 * equals who has waited longest. */
uint64_t turns_due(const struct turns *t, unsigned client, uint64_t since_ms);
void turns_served(struct turns *t, unsigned client, uint64_t now_ms);

#endif
