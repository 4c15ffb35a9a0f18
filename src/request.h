/* Requests: from the bytes on a client's connection to its answer. One request a connection at a
 * time; what is pipelined waits in the connection's input.
 *
 * The life of a request (request_state_name; each state is one step function in request.c's table):
 *
 *   state      what its step does                                           goes to
 *   ROUTE      head -> upstream, repository, kind, reference                LOOKUP, CHECK (a tag), PASS, DONE
 *   LOOKUP     the index, and opens the object                              CHECK, ADMIT, JOIN, UNCACHED, BODY
 *   CHECK      asks the upstream with the client's credentials              LOOKUP, ADMIT, RESOLVE, DONE
 *   RESOLVE    learns a tag's digest from the manifest itself                 LOOKUP, PASS, DONE
 *   JOIN       leads or follows a fill                                      FILL, LOOKUP, CHECK, UNCACHED
 *   FILL       waits until the fill has bytes for it, or ended              ADMIT, BODY, LOOKUP, UNCACHED, DONE
 *   ADMIT      takes one of server.streamers places                         HEAD, DONE
 *   HEAD       status and fields, ranges and conditions                     BODY, DONE
 *   BODY       what may be read is sent                                     DONE, FILL
 *   PASS       streams both ways                                            DONE
 *   UNCACHED   an object straight from upstream, its digest checked on the way   DONE
 *   DONE       logged and freed; the connection goes on or is closed
 */
#ifndef REQUEST_H
#define REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "conn.h"

struct check;
struct event_base;
struct fills;
struct index;
struct request;
struct registries;
struct route_table;
struct shm;
struct store;
struct upstream;

TAILQ_HEAD(request_queue, request);

/* What requests of one listener work with. Everything is borrowed. */
struct services {
	struct event_base *base;
	struct shm *shm;
	unsigned listener;
	struct index *index; /* NULL: none */
	struct store *store; /* likewise */
	struct upstream *upstream;
	struct registries *registries;
	struct check *check;
	struct fills *fills;
	const struct route_table *routes;
	unsigned streamers;  /* 0: no limit */
	uint64_t timeout_ms; /* how long a request may wait for its turn */
	size_t max_head;     /* bytes */
	bool read_only, access_log, tls;
	bool draining;       /* answers close their connections */
	uint64_t last_id;
	struct request_queue waiting; /* in ADMIT, oldest first */
};

void services_init(struct services *s);

/* The hooks of every connection of a listener; conns_user() is its struct services. */
extern const struct conn_hooks request_hooks;

/* A place for a body may be free, or time has passed: looks at the requests in ADMIT. */
void requests_admit(struct services *s);
/* Draining: closes the connection if it is between requests. */
void request_drain(struct conn *c);

#endif
