/* The gc process: recovery at the start, index sync, dead leases and their parts, reader slots. */
#ifndef GC_H
#define GC_H

struct child_start;

/* Runs until it is told to stop. Returns the exit status. */
int gc_run(const struct child_start *start);

#endif
