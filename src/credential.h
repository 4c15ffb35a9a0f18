/* A credential that the cache holds for a registry: user and password of a file. */
#ifndef CREDENTIAL_H
#define CREDENTIAL_H

enum { CREDENTIAL_MAX_BYTES = 16384 };

/* Its memory is left out of core dumps. */
struct credential {
	const char *user;
	const char *password;
	const char *basic; /* the Authorization value; NULL: the user is CREDENTIAL_REFRESH_USER, … */
	const char *refresh; /* … and this is its refresh token; else NULL */
};

/* As in docker's configuration: what follows is no password, but an OAuth2 refresh token. */
#define CREDENTIAL_REFRESH_USER "<token>"

/* Reads "user:password", one line, of a file that nobody but its owner may touch (mode 0600 or
 * less). NULL: *error says what is wrong (owned by the caller). Owned by the caller. */
struct credential *credential_load(const char *path, char **error);
/* Wipes it. */
void credential_free(struct credential **c);

#endif
