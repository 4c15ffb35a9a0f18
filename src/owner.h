/* What a command makes or removes in a store is its owner's, as when the cache does it. */
#ifndef OWNER_H
#define OWNER_H

#include <stdbool.h>

/* Root becomes the owner of the folder `path`, for good; others stay who they are. False: said why on standard
 * error. */
bool owner_become(const char *path) __attribute__((warn_unused_result));

#endif
