/* The door of a listener: accepts connections, counts and refuses them, and reads what a load
 * balancer says of its client first (PROXY protocol).
 *
 * A connection:  accepted -> (from server.proxyProtocol: its PROXY head is awaited) -> a struct conn,
 * or refused, at any of these. */
#ifndef LISTENER_DOOR_H
#define LISTENER_DOOR_H

#include "child.h"

struct conns;
struct door;
struct event_base;

/* Begins to accept on start's sockets; what is welcome goes to `conns`. Everything is borrowed. NULL:
 * the events cannot be made. Owned by the caller. */
struct door *door_new(
    struct event_base *base, const struct child_start *start, struct conns *conns);
/* Ten times a second: accepts again after a pause, and ends what takes too long. */
void door_tick(struct door *d);
/* Accepts no more and closes the sockets. When the cache stops, clients in the queue of the kernel were
 * promised a connection: they are taken first. When a successor has the sockets too, it takes them. */
void door_close(struct door *d, enum child_end why);
/* Connections whose PROXY head has not come yet. */
unsigned door_waiting(const struct door *d);
void door_free(struct door **d);

#endif
