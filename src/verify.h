/* The offline check (registry-cache --verify): hashes every object of a store that no cache runs on. */
#ifndef VERIFY_H
#define VERIFY_H

#include <stdbool.h>

struct verify_options {
	const char *data_path; /* borrowed */
	bool repair;           /* removes what is bad */
};

enum { VERIFY_MAX_THREADS = 4 }; /* one a CPU, but no more */

/* Exit statuses (registry-cache(8)). */
enum verify_result {
	VERIFY_GOOD = 0,
	VERIFY_BAD = 1,        /* at least one object is corrupt or lost by the disk, removed or not */
	VERIFY_IMPOSSIBLE = 3, /* a cache runs on the store, there is none, or what could be read of it
	                        * is right, but not all could */
};

/* Says on standard output which objects are bad, one a line, and on standard error how far it is. */
enum verify_result verify_run(const struct verify_options *o) __attribute__((warn_unused_result));

#endif
