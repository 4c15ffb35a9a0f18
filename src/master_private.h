/* The master's own structures, shared by master.c (set-up, loop, phases), master_child.c (fork,
 * reap, respawn, watchdog), master_sockets.c (addresses, binding), master_reload.c (another
 * configuration), master_upgrade.c (another program) and master_doubt.c (a damaged index). For these files and their tests only.
 *
 * The phases of a run, moved by master.c alone:
 *
 *   phase              processes wanted      ends when
 *   MASTER_WAITING     none new              the children are gone: those of another program that
 *                                            cannot share their memory, or whose index is damaged
 *   MASTER_RECOVERING  gc                    gc is ready, or was tried often enough
 *   MASTER_SERVING     gc and all listeners  TERM or INT; a damaged index: WAITING
 *   MASTER_DRAINING    none new              the listeners are gone (drainTimeout: killed)
 *   MASTER_CLOSING     none new              gc is gone (MASTER_GC_STOP_MS: killed)
 *   MASTER_STOPPED     none
 *
 * The duty of a child's place, moved by master_reload.c, and to NONE by the death of the retired:
 *
 *   duty          its process                                  when that dies
 *   DUTY_NONE     none: the place is free                      -
 *   DUTY_COMING   a listener of the next edition, not serving  another is forked
 *                 alone before all of them are ready
 *   DUTY_SERVING  a listener of the current edition, or gc     another is forked
 *   DUTY_RETIRED  ends its transfers, takes no connections     DUTY_NONE
 */
#ifndef MASTER_PRIVATE_H
#define MASTER_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "log.h"
#include "master.h"

struct conf;
struct shm;
struct tls_server;
struct users;

enum {
	MASTER_GC_STOP_MS = 30000, /* what gc may take to sync and mark the store: without heartbeats … */
	MASTER_GC_STOP_MAX_MS = 600000, /* … and with them, from a disk that takes its time */
	MASTER_START_MS = 60000,   /* what a child may take to be ready */
	MASTER_GC_TRIES = 3,       /* deaths of gc before the listeners are started without it */
	MASTER_BOUND_SIZE = 128,   /* an address and port, or the path of a Unix socket, as text */
};

enum master_phase {
	MASTER_WAITING,
	MASTER_RECOVERING,
	MASTER_SERVING,
	MASTER_DRAINING,
	MASTER_CLOSING,
	MASTER_STOPPED
};
const char *master_phase_name(enum master_phase p);

/* Whom the children become. */
struct master_user {
	bool other;  /* than we are */
	bool change;
	char *name;
	uid_t uid;
	gid_t gid;
};

/* One reading of the configuration, and what was made of it. */
struct master_edition {
	struct conf *conf;
	struct tls_server *tls; /* NULL: plain */
	struct credential **credentials; /* one for each of server.registries; NULL: none */
	struct users *users;    /* NULL: clients give no password */
	struct master_user user;
	enum log_level level;
	int log_fd; /* -1: its log is no file, or was not opened */
};

/* A listening socket. A listener's share of them is what its index says, so that none is closed,
 * with connections in its queue, because there are fewer listeners than before. */
struct master_socket {
	char *address;                 /* as in the configuration */
	char bound[MASTER_BOUND_SIZE]; /* as it is */
	int fd;
};

enum master_duty { DUTY_NONE, DUTY_COMING, DUTY_SERVING, DUTY_RETIRED };

/* One child's place: its process may be replaced many times. Times are clock_ms. */
struct master_child {
	unsigned number; /* in shm */
	bool is_gc;
	enum master_duty duty;
	unsigned index; /* a listener's, among those of its edition */
	char role[24];  /* "listener 0", "gc" */
	pid_t pid;      /* 0: no process */
	uint64_t end_by; /* retired: killed then */
	uint64_t generation;
	uint64_t forked_at;
	uint64_t respawn_at; /* with pid 0: not before this */
	unsigned failures;   /* deaths in a row that came too early */
	bool was_ready;
	bool killed;  /* SIGKILL was sent */
	bool strange; /* of a program before this one: its heartbeats are in memory that is not ours */
	bool retired; /* gc: was told to end, so that another takes its place */
};

/* Whether the index is damaged. */
struct master_doubt {
	unsigned crashes;     /* or silences of children, since first_crash */
	uint64_t first_crash; /* clock_ms */
	uint64_t errors;      /* COUNT_INDEX_ERRORS when it was looked at last */
	uint64_t pause_until; /* clock_ms: no trial before */
	pid_t trial;          /* a process that looks at it; 0: none */
	bool damaged;         /* so it says */
};

struct master {
	struct master_edition *current;
	struct master_edition *next; /* its listeners are coming; NULL: none */
	struct master_start start;
	enum master_phase phase;
	struct shm *shm;
	int lock_fd; /* inherited by all children; -1: dataPath cannot be locked */
	int life_read, life_write;
	int ready_fd;
	struct master_child *children; /* a place for each listener that shm has room for, then gc */
	unsigned nchildren;
	struct master_socket *sockets;
	unsigned nsockets;
	unsigned old_sockets; /* how many there were before the edition that comes */
	struct master_socket *metrics; /* for gc */
	unsigned nmetrics;
	uint64_t deadline;   /* of the present phase, when it has one */
	uint64_t closing_since; /* MASTER_CLOSING */
	uint64_t last_turn;  /* of the loop … */
	uint64_t watch_from; /* … which stood still until then: no child is blamed for that */
	unsigned stops;      /* how often TERM or INT came */
	bool announced;      /* "ready" was said */
	bool want_reload, waits_for_places;
	bool changed; /* the configuration, but listeners of the last one may still accept */
	bool want_upgrade;
	pid_t tester;        /* tries the configuration out with the program to come; 0: none */
	bool tester_failed;
	char *program;       /* absolute; NULL: not known */
	struct master_doubt doubt;
};

/* --- master_sockets.c ------------------------------------------------------------------------ */

struct master_address {
	char host[256]; /* "": every address of this machine */
	char port[6];
	bool only6; /* not read: IPv6 takes no IPv4 */
};

/* Reads "host:port", "[v6]:port" or ":port" (port 0: the kernel picks). NULL, or what is wrong
 * (static). */
const char *master_parse_address(const char *text, struct master_address *out);
/* Opens `n` listening sockets that share one port (SO_REUSEPORT; non-blocking, close-on-exec) into
 * fds, and writes the address they are bound to. False: said why in the log, nothing is open. */
bool master_listen(const char *address, unsigned n, int *fds, char bound[MASTER_BOUND_SIZE])
    __attribute__((warn_unused_result));
/* Sees to it that each address of the edition has as many sockets as it has listeners; a Unix socket
 * is one for all of them. Those added to an address that has some do not
 * listen before their listener says so: until then the others get all connections. False: said why in the log; what was opened
 * is still to be closed. */
bool master_open_sockets(struct master *m, const struct master_edition *e)
    __attribute__((warn_unused_result));
/* Is this one of the addresses of `conf` (NULL: none is)? */
bool master_wants(const struct conf *conf, const char *address);
/* Closes those of addresses that are not of `conf` (NULL: all), and what there are more than `most` of
 * one; the file of a Unix socket goes with it. */
void master_close_sockets(struct master *m, const struct conf *conf, unsigned most);
/* Closes what was opened since there were `before` of them. There may be more than there are listeners: those
 * that a listener less has left, with connections in their queues. */
void master_close_new_sockets(struct master *m, unsigned before);
/* Gives the files of Unix sockets the mode and user of this edition. */
void master_set_all_unix(const struct master_edition *e);
/* Where clients connect, for people: "127.0.0.1:7000, [::1]:7000". Owned by the caller. */
char *master_bound_text(const struct master *m);

/* --- master_unix.c --------------------------------------------------------------------------- */

bool master_is_unix(const char *address);
/* Opens the listening socket `address`, "unix:/path", with this mode, for this user. A file that a
 * dead process left is replaced. -1: said why in the log. */
int master_listen_unix(const char *address, unsigned mode, const struct master_user *u);
/* Sets mode and owner of its file anew. */
void master_set_unix(const char *address, unsigned mode, const struct master_user *u);
/* Removes its file. */
void master_remove_unix(const char *address);

/* --- master_metrics.c ------------------------------------------------------------------------ */

/* Opens what this configuration wants and is not open. False: said why in the log. */
bool master_open_metrics(struct master *m, const struct conf *conf) __attribute__((warn_unused_result));
/* Closes what it does not want (NULL: all). */
void master_close_metrics(struct master *m, const struct conf *conf);
/* In a child: puts those that are for it into fds, closes the others. How many. */
unsigned master_share_metrics(const struct master *m, const struct master_child *c, int *fds);
/* Takes one that the program before this one has opened, as its state says. False: the line says
 * something else. */
bool master_inherit_metrics(struct master *m, const char *line) __attribute__((warn_unused_result));

/* --- master_child.c -------------------------------------------------------------------------- */

/* How long, in milliseconds, a replacement waits after `failures` early deaths in a row. */
uint64_t master_respawn_delay(unsigned failures);
/* Has a child in this state been silent for too long? Milliseconds since its fork, and since its
 * last heartbeat. */
bool master_overdue(
    bool ready, uint64_t since_fork, uint64_t since_heartbeat, uint64_t heartbeat_timeout);

/* In a child: user and groups for good, and no new privileges. Ends the process when that fails. */
void master_become_user(const struct master_user *u);
/* Each is one step of the loop, for all children. */
void master_reap(struct master *m, uint64_t now);
void master_respawn(struct master *m, uint64_t now);
void master_watchdog(struct master *m, uint64_t now);

/* When master_respawn() next has something to do; `latest` when not before it. */
uint64_t master_next_respawn(const struct master *m, uint64_t latest);
bool master_child_is_ready(const struct master *m, const struct master_child *c);
void master_signal_listeners(struct master *m, int sig);
void master_signal_gc(struct master *m, int sig);
/* Is there a listener with this duty, and are all of them ready? */
bool master_all_ready(const struct master *m, enum master_duty duty);
unsigned master_listeners_alive(const struct master *m);
struct master_child *master_gc(const struct master *m);
/* How many listeners with this duty there are places for. */
unsigned master_count(const struct master *m, enum master_duty duty);
/* Gives a free place to each of `n` listeners. There must be so many. */
void master_place(struct master *m, unsigned n, enum master_duty duty);
/* No more connections, and an end when the transfers are over, or by `end_by`. */
void master_retire(struct master_child *c, uint64_t end_by);
/* Its successor, where one is wanted, is forked when it has ended. */
void master_retire_gc(struct master *m);

/* --- master.c -------------------------------------------------------------------------------- */

/* The children reopen and write what the master makes as root. */
void master_give_to_user(const struct master_user *u, const char *path);

/* --- master_reload.c ------------------------------------------------------------------------- */

/* Reads certificate, key and user of `conf`, which it takes; `debug` as in struct master_start. NULL: *why says what is wrong (owned by
 * the caller); then conf is the caller's still. */
struct master_edition *edition_new(struct conf *conf, unsigned debug, char **why);
void edition_free(struct master_edition **e);
/* Opens log.path, when there is one. False with errno: what was open stays. */
bool edition_open_log(struct master_edition *e) __attribute__((warn_unused_result));
/* This process writes its log where the edition says. */
void edition_use_log(const struct master_edition *e);
/* Keeps its keys, when it has any, out of core dumps and debuggers. */
void edition_hide_secrets(const struct master_edition *e);
/* One step of the loop: begins, goes on with or ends a change of the configuration. */
void master_reload(struct master *m, uint64_t now);

/* --- master_doubt.c -------------------------------------------------------------------------- */

/* A child has crashed, or was killed because it was silent. */
void master_note_crash(struct master *m, uint64_t now);
/* The trial of the index has ended. */
void master_tried(struct master *m, int status);
/* One step of the loop: tries the index out when there is reason to doubt it. True: it is damaged, and all
 * children were killed; when they are gone recovery is to begin again. */
bool master_doubt(struct master *m, uint64_t now) __attribute__((warn_unused_result));

/* --- master_upgrade.c ------------------------------------------------------------------------ */

/* One step of the loop: tries the new program out, then becomes it. */
void master_upgrade(struct master *m);
/* The tester has ended. */
void master_tested(struct master *m, int status);
/* Is this program one that was become by an upgrade? Asked before master_inherit(). */
bool master_is_heir(void);
/* If it is, takes over what the one before it left: sockets, lock,
 * shared memory and children, which are retired when its own are ready. With false and *strange set,
 * the shared memory cannot be used and those children are to end first. */
bool master_inherit(struct master *m, bool *strange);

#endif
