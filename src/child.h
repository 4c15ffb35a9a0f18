/* What a child process is given by the master at its fork, and what both kinds of children do
 * alike: noticing that the master died, heartbeats, signals. */
#ifndef CHILD_H
#define CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Connections in the queue of a listening socket; the kernel cuts it to net.core.somaxconn. */
enum { CHILD_BACKLOG = 4096 };

struct conf;
struct credential;
struct event_base;
struct shm;
struct tls_server;
struct users;

/* Everything is borrowed and lives as long as the process. */
struct child_start {
	const struct conf *conf;
	struct shm *shm;
	unsigned number;     /* child number in shm */
	uint64_t generation; /* its own, opened by the master */
	int life_fd;   /* read end of a pipe that the master holds: end of file when it is gone */
	const int *listen_fds; /* a listener's own listening sockets (non-blocking) … */
	unsigned nlisten;      /* … and how many; none for gc */
	pid_t master;
	int ready_fd;           /* eventfd that wakes the master when the child is ready */
	const struct users *users; /* who may use the cache; NULL: nobody is asked for a password */
	struct credential *const *credentials; /* one for each of server.registries; NULL: none */
	struct tls_server *tls; /* certificate and key, read by the master; NULL: plain HTTP */
	bool first;        /* gc: no listener of this run lives yet, so the index may be dropped */
	unsigned failures; /* how many before it, in a row, died before they were ready */
};

struct child;

/* Why a child is told to end. */
enum child_end {
	CHILD_END_STOP,   /* TERM, INT: the whole cache stops */
	CHILD_END_RETIRE, /* QUIT: a successor is serving already, or is about to be forked */
};

/* In the child, after the fork: arms PR_SET_PDEATHSIG (SIGKILL), the life pipe, TERM/INT/QUIT, USR1
 * (reopens the log file) and a heartbeat every second in `base`. The master forks with these
 * signals blocked and they are unblocked here, so that none is lost before. `drain` is called from
 * the loop when the process is to end: at most once for each reason, and not any more after
 * CHILD_END_STOP. A dead master ends the process at once. Owned by the caller. */
struct child *child_begin(struct event_base *base, const struct child_start *start,
    void (*drain)(enum child_end why, void *arg), void *arg);
/* Before child_begin(): gives up for good what the process has no use for, unless the configuration
 * says otherwise (confine.h). A kernel that refuses is told of in the log. */
void child_confine(const struct child_start *start);
/* Says CHILD_READY in shm: the master counts the child as up. */
void child_ready(struct child *c);
/* Says that the process is alive, for work that keeps it from its loop for more than a second. */
void child_beat(struct child *c);
/* Takes everything out of the loop again and frees. *c becomes NULL. */
void child_end(struct child **c);

#endif
