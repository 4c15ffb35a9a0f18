/* The users of the cache: a file of "name:hash" lines, as htpasswd and nginx have it. */
#ifndef USERS_H
#define USERS_H

#include <stddef.h>

struct users;

enum { USERS_MAX_BYTES = 1 << 20 };

/* Reads a file that others can neither read nor write. Hashes are bcrypt ($2a$, $2b$, $2y$), sha-crypt
 * ($5$, $6$) and yescrypt ($y$); empty lines and those that begin with # are skipped. NULL: *error says
 * what is wrong, with the line (owned by the caller). Owned by the caller. */
struct users *users_load(const char *path, char **error);
void users_free(struct users **u);
size_t users_count(const struct users *u);

/* NULL: there is no such user. Borrowed. */
const char *users_hash(const struct users *u, const char *name);
/* The hash of some user: who gives an unknown name is to wait as long as who gives a wrong password. */
const char *users_decoy(const struct users *u);

#endif
