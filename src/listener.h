/* A listener process: accepts clients, serves, checks and fills, in one libevent loop. */
#ifndef LISTENER_H
#define LISTENER_H

struct child_start;

/* Runs until it was told to drain and its transfers have ended. Returns the exit status. */
int listener_run(const struct child_start *start);

#endif
