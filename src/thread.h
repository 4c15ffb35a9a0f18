/* Threads, for the few things that would hold up a loop. */
#ifndef THREAD_H
#define THREAD_H

#include <pthread.h>

/* Starts one that no signal is delivered to: those are the loop's. 0, or an errno. The caller joins it. */
int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg)
    __attribute__((warn_unused_result));

#endif
