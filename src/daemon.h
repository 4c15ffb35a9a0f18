/* Being a daemon: leaving the terminal, the pid file, and telling who started us how we are (the
 * waiting parent of -D, and a service manager by sd_notify(3)'s protocol). The master's only. */
#ifndef DAEMON_H
#define DAEMON_H

#include <stdbool.h>
#include <stdint.h>

/* Goes on in a process of its own session, without a controlling terminal, standard input from
 * /dev/null. The caller's process waits and exits: 0 when daemon_ready() was called, else 1 as soon
 * as the daemon has ended; what the daemon writes to standard error until it is ready is seen. */
void daemon_detach(void);

/* In a child of the daemon: lets go of what the waiting parent and its terminal see. */
void daemon_in_child(void);

/* Writes our pid to `path`, which is made or replaced. False with errno. */
bool daemon_write_pid(const char *path) __attribute__((warn_unused_result));
/* Removes it, if it holds our pid still. */
void daemon_remove_pid(const char *path);

/* The cache serves. After daemon_detach() the parent exits, and standard output and error become
 * /dev/null. Tells the service manager. Only the first call does something. */
void daemon_ready(void);
/* Tells the service manager that another configuration is read; daemon_reloaded() ends that. */
void daemon_reloading(void);
void daemon_reloaded(void);
void daemon_stopping(void);
/* The master's loop turned at `now_ms` (clock_ms): pats the service manager's watchdog, when it has
 * one and half of its time is over. */
void daemon_watchdog(uint64_t now_ms);

#endif
