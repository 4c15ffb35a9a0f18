/* Requests: from the bytes on a client's connection to its answer. One request a connection at a
 * time; what is pipelined waits in the connection's input.
 *
 * The life of a request (request_state_name; each state is one step function in request.c's table):
 *
 *   state      what its step does                                           goes to
 *   LOGIN      who is it? (where clients authenticate to the cache itself)   ROUTE, DONE
 *   ROUTE      head -> upstream, repository, kind, reference                LOOKUP, CHECK (a tag), PASS, TOKEN, DONE
 *   LOOKUP     the index, and opens the object                              CHECK, ADMIT, JOIN, UNCACHED, BODY
 *   CHECK      asks the upstream with the client's credentials              LOOKUP, ADMIT, RESOLVE, DONE
 *   RESOLVE    learns a tag's digest from the manifest itself                 LOOKUP, PASS, DONE
 *   JOIN       leads or follows a fill                                      FILL, LOOKUP, CHECK, UNCACHED
 *   FILL       waits until the fill has bytes for it, or ended              ADMIT, BODY, LOOKUP, RANGED, UNCACHED, DONE
 *   ADMIT      takes one of server.streamers places                         HEAD, DONE
 *   HEAD       status and fields, ranges and conditions                     BODY, UNCACHED, DONE
 *   BODY       what may be read is sent                                     DONE, FILL, RANGED
 *   RANGED     a range that is not on disk yet, from upstream               ADMIT, FILL, BODY, UNCACHED, DONE
 *   PASS       streams both ways                                            DONE
 *   UNCACHED   an object straight from upstream, its digest checked on the way   RANGED, DONE
 *   TOKEN      a token is asked for in the client's place (request_token.c)  DONE
 *   DONE       logged and freed; the connection goes on or is closed
 */
#ifndef REQUEST_H
#define REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "conn.h"
#include "shm_rate.h"
#include "turns.h"

struct check;
struct event_base;
struct fills;
struct index;
struct login;
struct request;
struct realms;
struct registries;
struct route_table;
struct secret;
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
	struct realms *realms; /* where registries' tokens come from */
	unsigned streamers;  /* 0: no limit */
	uint64_t timeout_ms; /* how long a request may wait for its turn */
	uint64_t grace_ms;   /* how long a permission outlives its registry; 0: not at all */
	struct secret *secret; /* for what is kept of credentials */
	uint64_t first_byte_ms; /* how long for a registry, over all its tries */
	size_t max_head;     /* bytes */
	int rate_limit_status; /* what clients are told where a registry says 429 */
	bool read_only, access_log;
	bool pass_ranges; /* fetch a range by itself where its fill has not come so far */
	struct login *login; /* clients give a user and password of the cache's; NULL: they need not */
	const char *realm;   /* … of this realm */
	bool wants_certificate; /* they show a certificate of server.tls.clientCaPath */
	bool draining;       /* answers close their connections */
	unsigned ranged;     /* ranges being fetched beside their fills */
	struct shm_rate request_rate; /* of a client; per_second 0: no limit */
	struct turns turns;           /* who had a place for a body, and when */
	bool admitting, none_left;    /* requests_admit() runs; no place was free when last tried */
	uint64_t last_id;
	struct request_queue waiting; /* in ADMIT, oldest first */
};

void services_init(struct services *s);

/* The hooks of every connection of a listener; conns_user() is its struct services. */
extern const struct conn_hooks request_hooks;

/* A place for a body may be free, or time has passed: looks at the requests in ADMIT. */
void requests_admit(struct services *s);
/* How many requests are in ADMIT. */
uint64_t requests_queued(const struct services *s);
/* Draining: closes the connection if it is between requests. */
void request_drain(struct conn *c);

#endif
