/* What the store*.c files share: the descriptors of the folders, and which entries are none of theirs. */
#ifndef STORE_PRIVATE_H
#define STORE_PRIVATE_H

#include <stdbool.h>
#include <string.h>

#include "digest.h"
#include "store.h"

/* Folders that were not there and could not be made are -1: opening below them fails with
 * EBADF, which store.c turns into the reason why. */
struct store {
	char *path;      /* dataPath */
	char *index_dir; /* dataPath/index */
	int root;
	int objects[DIGEST_SHA512 + 1]; /* objects/<algorithm>, by enum digest_algo */
	int parts;
	int index;
};

/* The folder itself, or the one above it? */
static inline bool
store_is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

#endif
