/* Walking over the files below objects/. */
#ifndef STORE_WALK_H
#define STORE_WALK_H

#include <stdbool.h>
#include <sys/stat.h>

#include "digest.h"

struct store;
struct store_walk;

/* One entry of a folder. */
struct store_found {
	const char *path; /* below dataPath; borrowed until the next step */
	struct stat st;   /* of the entry itself, links not followed */
	bool is_object;   /* a regular file whose name and place are an object's; else a stranger, */
	struct digest digest; /* and this is unset */
};

/* Owned by the caller; holds up to three descriptors. The store must live as long. */
struct store_walk *store_walk_begin(struct store *s);
void store_walk_end(struct store_walk **w);
/* The next object or stranger. Folders that belong there are not handed on; what is below one that
 * does not is not, either. False: that was all. What is made or removed while the walk is under way
 * may be seen or not. */
bool store_walk_next(struct store_walk *w, struct store_found *found) __attribute__((warn_unused_result));
/* How many folders it could not read, or not to their end (said in the log). */
unsigned store_walk_failures(const struct store_walk *w);

#endif
