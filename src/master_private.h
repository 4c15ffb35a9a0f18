/* The master's own structures, shared by master.c (set-up, loop, phases), master_child.c (fork,
 * reap, respawn, watchdog) and master_sockets.c (addresses, binding). For these files and their
 * tests only.
 *
 * The phases of a run, moved by master.c alone:
 *
 *   phase              processes wanted      ends when
 *   MASTER_RECOVERING  gc                    gc is ready, or was tried often enough
 *   MASTER_SERVING     gc and all listeners  TERM or INT
 *   MASTER_DRAINING    none new              the listeners are gone (drainTimeout: killed)
 *   MASTER_CLOSING     none new              gc is gone (MASTER_GC_STOP_MS: killed)
 *   MASTER_STOPPED     none
 */
#ifndef MASTER_PRIVATE_H
#define MASTER_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct conf;
struct shm;
struct tls_server;

enum {
	MASTER_GC_STOP_MS = 30000, /* what gc may take to sync and mark the store */
	MASTER_START_MS = 60000,   /* what a child may take to be ready */
	MASTER_GC_TRIES = 3,       /* deaths of gc before the listeners are started without it */
	MASTER_BOUND_SIZE = 64,    /* an address and port as text */
};

enum master_phase {
	MASTER_RECOVERING,
	MASTER_SERVING,
	MASTER_DRAINING,
	MASTER_CLOSING,
	MASTER_STOPPED
};
const char *master_phase_name(enum master_phase p);

/* One child place: its process may be replaced many times. Times are clock_ms. */
struct master_child {
	unsigned number; /* in shm */
	bool is_gc;
	char role[24]; /* "listener 0", "gc" */
	int listen_fd; /* -1: none (gc), or closed for draining */
	pid_t pid;     /* 0: no process */
	uint64_t generation;
	uint64_t forked_at;
	uint64_t respawn_at; /* with pid 0: not before this */
	unsigned failures;   /* deaths in a row that came too early */
	bool was_ready;
	bool killed; /* SIGKILL was sent */
};

/* Whom the children become. */
struct master_user {
	bool change;
	char *name;
	uid_t uid;
	gid_t gid;
};

struct master {
	const struct conf *conf;
	enum master_phase phase;
	struct shm *shm;
	struct tls_server *tls; /* NULL: plain */
	struct master_user user;
	int lock_fd; /* inherited by all children; -1: dataPath cannot be locked */
	int life_read, life_write;
	int ready_fd;
	struct master_child *children; /* the listeners, then gc, as in shm */
	unsigned nchildren;
	char bound[MASTER_BOUND_SIZE];
	uint64_t deadline;   /* of the present phase, when it has one */
	uint64_t last_turn;  /* of the loop … */
	uint64_t watch_from; /* … which stood still until then: no child is blamed for that */
	unsigned stops;      /* how often TERM or INT came */
	bool announced;      /* "ready" was said */
};

/* --- master_sockets.c ------------------------------------------------------------------------ */

struct master_address {
	char host[256]; /* "": every address of this machine */
	char port[6];
};

/* Reads "host:port", "[v6]:port" or ":port" (port 0: the kernel picks). NULL, or what is wrong
 * (static). */
const char *master_parse_address(const char *text, struct master_address *out);
/* Opens `n` listening sockets that share one port (SO_REUSEPORT; non-blocking, close-on-exec) into
 * fds, and writes the address they are bound to. False: said why in the log, nothing is open. */
bool master_listen(const char *address, unsigned n, int *fds, char bound[MASTER_BOUND_SIZE])
    __attribute__((warn_unused_result));

/* --- master_child.c -------------------------------------------------------------------------- */

/* How long, in milliseconds, a replacement waits after `failures` early deaths in a row. */
uint64_t master_respawn_delay(unsigned failures);
/* Has a child in this state been silent for too long? Milliseconds since its fork, and since its
 * last heartbeat. */
bool master_overdue(
    bool ready, uint64_t since_fork, uint64_t since_heartbeat, uint64_t heartbeat_timeout);

/* Each is one step of the loop, for all children. */
void master_reap(struct master *m, uint64_t now);
void master_respawn(struct master *m, uint64_t now);
void master_watchdog(struct master *m, uint64_t now);

/* When master_respawn() next has something to do; `latest` when not before it. */
uint64_t master_next_respawn(const struct master *m, uint64_t latest);
bool master_child_is_ready(const struct master *m, const struct master_child *c);
void master_signal_listeners(struct master *m, int sig);
void master_signal_gc(struct master *m, int sig);
unsigned master_listeners_alive(const struct master *m);
struct master_child *master_gc(const struct master *m);

#endif
