/* A walk over all that lies below objects/, in steps as small as the caller likes: folders are held
 * open between them, so it goes on where it was whatever is made or removed meanwhile. */
#include "store_walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "store_private.h"
#include "xalloc.h"

/* objects, objects/sha256, objects/sha256/ab */
enum { TOP, ALGORITHM, PAIR, LEVELS };

enum { HEX_PAIR = 2, PATH_SIZE = 512 /* names have at most 255 bytes */ };

struct store_walk {
	DIR *open[LEVELS];
	unsigned depth;           /* how many are open */
	unsigned failures;        /* folders that could not be read */
	enum digest_algo algo;    /* of the algorithm's folder */
	char pair[HEX_PAIR + 1];  /* of the pair's folder */
	char path[PATH_SIZE]; /* of what was handed on last, below dataPath */
};

/* --- folders --------------------------------------------------------------------------------- */

/* False: what has the name is no folder, or cannot be read (said why in the log). */
static bool
enter(struct store_walk *w, int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

	if (dir != NULL) {
		w->open[w->depth++] = dir;
		return true;
	}
	if (errno != ENOTDIR && errno != ELOOP && errno != ENOENT) {
		w->failures++;
		log_warn("store: cannot read the folder %s: %m", name);
	}
	if (fd >= 0)
		close(fd);
	return false;
}

static void
leave(struct store_walk *w)
{
	closedir(w->open[--w->depth]);
	w->open[w->depth] = NULL;
}

struct store_walk *
store_walk_begin(struct store *s)
{
	struct store_walk *w = xcalloc(1, sizeof(*w));

	(void)enter(w, s->root, "objects");
	return w;
}

void
store_walk_end(struct store_walk **w)
{
	if (*w == NULL)
		return;
	while ((*w)->depth > 0)
		leave(*w);
	free(*w);
	*w = NULL;
}

unsigned
store_walk_failures(const struct store_walk *w)
{
	return w->failures;
}

/* --- names ----------------------------------------------------------------------------------- */

static bool
is_algorithm(struct store_walk *w, const char *name)
{
	for (uint8_t a = DIGEST_SHA256; a <= DIGEST_SHA512; a++)
		if (strcmp(name, digest_algo_name(a)) == 0) {
			w->algo = (enum digest_algo)a;
			return true;
		}
	return false;
}

static bool
is_pair(struct store_walk *w, const char *name)
{
	if (strlen(name) != HEX_PAIR || strspn(name, "0123456789abcdef") != HEX_PAIR)
		return false;
	memcpy(w->pair, name, HEX_PAIR + 1);
	return true;
}

/* The name of an object, in the folder that is that object's? */
static bool
is_object(const struct store_walk *w, const char *name, struct digest *d)
{
	char text[DIGEST_STR_SIZE];
	int n = snprintf(text, sizeof(text), "%s:%s", digest_algo_name((uint8_t)w->algo), name);

	return n > 0 && (size_t)n < sizeof(text) && strncmp(name, w->pair, HEX_PAIR) == 0 &&
	    digest_parse(text, (size_t)n, d) == DIGEST_OK;
}

static void
note_path(struct store_walk *w, const char *name)
{
	const char *algo = digest_algo_name((uint8_t)w->algo);

	switch (w->depth - 1) {
	case TOP:
		snprintf(w->path, sizeof(w->path), "objects/%s", name);
		break;
	case ALGORITHM:
		snprintf(w->path, sizeof(w->path), "objects/%s/%s", algo, name);
		break;
	default:
		snprintf(w->path, sizeof(w->path), "objects/%s/%s/%s", algo, w->pair, name);
		break;
	}
}

/* --- steps ----------------------------------------------------------------------------------- */

/* A folder that belongs here is gone into. False: hand it on. */
static bool
descend(struct store_walk *w, const char *name)
{
	int at = dirfd(w->open[w->depth - 1]);

	if (w->depth - 1 == TOP && is_algorithm(w, name))
		return enter(w, at, name);
	if (w->depth - 1 == ALGORITHM && is_pair(w, name))
		return enter(w, at, name);
	return false;
}

/* False: it is gone already. */
static bool
look(struct store_walk *w, const char *name, struct store_found *found)
{
	if (fstatat(dirfd(w->open[w->depth - 1]), name, &found->st, AT_SYMLINK_NOFOLLOW) != 0)
		return false;
	note_path(w, name);
	found->path = w->path;
	found->is_object = w->depth - 1 == PAIR && S_ISREG(found->st.st_mode) &&
	    is_object(w, name, &found->digest);
	return true;
}

bool
store_walk_next(struct store_walk *w, struct store_found *found)
{
	struct dirent *e;

	*found = (struct store_found){0};
	while (w->depth > 0) {
		errno = 0;
		e = readdir(w->open[w->depth - 1]);
		if (e == NULL && errno != 0) {
			w->failures++;
			log_warn("store: cannot read a folder of objects: %m");
		}
		if (e == NULL)
			leave(w);
		else if (!store_is_dots(e->d_name) && !descend(w, e->d_name) && look(w, e->d_name, found))
			return true;
	}
	return false;
}
