/* The users of the cache: reading their file, and finding one. */
#include "users.h"

#include <crypt.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "secret.h"
#include "xalloc.h"

struct user {
	const char *name, *hash;
};

struct users {
	char *text; /* the file's, cut into names and hashes */
	struct user *user;
	size_t n;
};

/* What old files hold, and what can be tried a million times a second, is not taken. */
static bool
is_strong(const char *hash)
{
	static const struct {
		const char *kind;
		size_t after; /* characters behind the last $ */
	} kinds[] = {{"$2a$", 53}, {"$2b$", 53}, {"$2y$", 53}, {"$5$", 43}, {"$6$", 86}, {"$y$", 43}};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strncmp(hash, kinds[i].kind, strlen(kinds[i].kind)) == 0)
			return strlen(strrchr(hash, '$') + 1) == kinds[i].after &&
			    crypt_checksalt(hash) != CRYPT_SALT_INVALID;
	return false;
}

static bool
is_name(const char *name)
{
	for (const char *p = name; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || *p == 127 || *p == '"')
			return false;
	return *name != '\0' && strlen(name) < 256;
}

/* NULL, or what is wrong with the line (static). Nothing is added for a line that says nothing. */
static const char *
add_line(struct users *u, char *line)
{
	char *colon = strchr(line, ':');

	if (*line == '\0' || *line == '#')
		return NULL;
	if (colon == NULL)
		return "not of the form name:hash";
	*colon = '\0';
	if (!is_name(line))
		return "the name is empty, too long, or has a space, a quote or a control character";
	if (!is_strong(colon + 1))
		return "the hash is none of bcrypt, sha-crypt and yescrypt (htpasswd -B makes bcrypt)";
	u->user = xrealloc(u->user, (u->n + 1) * sizeof(*u->user));
	u->user[u->n++] = (struct user){line, colon + 1};
	return NULL;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct user *)a)->name, ((const struct user *)b)->name);
}

/* NULL, or what is wrong. */
static char *
sort(struct users *u, const char *path)
{
	if (u->n == 0)
		return xasprintf("%s: no user in it", path);
	qsort(u->user, u->n, sizeof(*u->user), by_name);
	for (size_t i = 1; i < u->n; i++)
		if (by_name(&u->user[i - 1], &u->user[i]) == 0)
			return xasprintf("%s: the user %s stands twice", path, u->user[i].name);
	return NULL;
}

/* NULL, or what is wrong. */
static char *
read_lines(struct users *u, const char *path)
{
	unsigned number = 1;

	for (char *line = u->text, *next; line != NULL; line = next, number++) {
		const char *why;
		size_t n;

		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		n = strlen(line);
		if (n > 0 && line[n - 1] == '\r')
			line[n - 1] = '\0';
		why = add_line(u, line);
		if (why != NULL)
			return xasprintf("%s:%u: %s", path, number, why);
	}
	return sort(u, path);
}

struct users *
users_load(const char *path, char **error)
{
	struct users *u = xcalloc(1, sizeof(*u));
	size_t n;

	u->text = secret_read_file(path, S_IRWXO | S_IWGRP, USERS_MAX_BYTES, &n, error);
	if (*error == NULL)
		*error = read_lines(u, path);
	if (*error != NULL)
		users_free(&u);
	return u;
}

void
users_free(struct users **u)
{
	if (*u == NULL)
		return;
	secret_drop((*u)->text);
	free((*u)->user);
	free(*u);
	*u = NULL;
}

size_t
users_count(const struct users *u)
{
	return u->n;
}

const char *
users_hash(const struct users *u, const char *name)
{
	const struct user wanted = {name, NULL};
	const struct user *found = bsearch(&wanted, u->user, u->n, sizeof(*u->user), by_name);

	return found != NULL ? found->hash : NULL;
}

const char *
users_decoy(const struct users *u)
{
	return u->user[0].hash;
}
