/* What store.c and store_state.c share: the descriptors of the folders. */
#ifndef STORE_PRIVATE_H
#define STORE_PRIVATE_H

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

#endif
