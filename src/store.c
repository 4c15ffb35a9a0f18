/* Object files and part files: their names, and what is done with them, all below descriptors
 * of the folders. Folders that vanish while the cache runs are made again. The mark and the
 * lock are in store_state.c. */
#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "store_private.h"
#include "xalloc.h"

enum {
	ID_DIGITS = 16,
	PART_NAME_SIZE = DIGEST_STR_SIZE + 1 + ID_DIGITS,
	OBJECT_NAME_SIZE = 3 + DIGEST_STR_SIZE, /* "ab/" and the hex */
};

/* --- folders --------------------------------------------------------------------------------- */

static int
open_folder(int at, const char *name)
{
	return openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/* Makes the folder when it is missing. -1 with errno. */
static int
make_folder(int at, const char *name)
{
	int fd = open_folder(at, name);

	if (fd >= 0 || errno != ENOENT)
		return fd;
	if (mkdirat(at, name, 0700) != 0 && errno != EEXIST)
		return -1;
	return open_folder(at, name);
}

/* What is missing because nothing can be made is no reason to stop: nothing is found there,
 * either. */
static bool
tolerable(int error)
{
	return error == EROFS || error == ENOSPC || error == EDQUOT;
}

static bool
open_below(int at, const char *name, int *fd)
{
	*fd = make_folder(at, name);
	if (*fd >= 0)
		return true;
	if (tolerable(errno))
		log_warn("store: cannot make the folder %s: %m", name);
	else
		log_error("store: cannot open the folder %s: %m", name);
	return tolerable(errno);
}

static bool
open_objects(struct store *s)
{
	int objects;
	bool ok = open_below(s->root, "objects", &objects);

	for (uint8_t a = DIGEST_SHA256; ok && objects >= 0 && a <= DIGEST_SHA512; a++)
		ok = open_below(objects, digest_algo_name(a), &s->objects[a]);
	if (objects >= 0)
		close(objects);
	return ok;
}

/* dataPath itself may be a link. -1: said why in the log. */
static int
open_root(const char *path)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	int fd = open(path, flags);

	if (fd < 0 && errno == ENOENT && mkdir(path, 0700) == 0)
		fd = open(path, flags);
	if (fd < 0)
		log_error("store: cannot open the folder %s: %m", path);
	return fd;
}

struct store *
store_open(const char *path)
{
	struct store *s = xcalloc(1, sizeof(*s));

	s->path = xstrdup(path);
	s->index_dir = xasprintf("%s/index", path);
	s->parts = s->index = -1;
	for (size_t i = 0; i < sizeof(s->objects) / sizeof(*s->objects); i++)
		s->objects[i] = -1;
	s->root = open_root(path);
	if (s->root < 0 || !open_objects(s) || !open_below(s->root, "parts", &s->parts) ||
	    !open_below(s->root, "index", &s->index))
		store_close(&s);
	return s;
}

static void
close_folder(int fd)
{
	if (fd >= 0)
		close(fd);
}

void
store_close(struct store **s)
{
	if (*s == NULL)
		return;
	for (size_t i = 0; i < sizeof((*s)->objects) / sizeof(*(*s)->objects); i++)
		close_folder((*s)->objects[i]);
	close_folder((*s)->parts);
	close_folder((*s)->index);
	close_folder((*s)->root);
	free((*s)->path);
	free((*s)->index_dir);
	free(*s);
	*s = NULL;
}

const char *
store_index_dir(const struct store *s)
{
	return s->index_dir;
}

/* Puts `fd` in the place of a folder's descriptor. False when there is none to put there. */
static bool
replace_folder(int *folder, int fd)
{
	int saved = errno;

	if (fd < 0)
		return false;
	close_folder(*folder);
	*folder = fd;
	errno = saved;
	return true;
}

/* Somebody removed the folder, or it could not be made before: makes it again. False with errno. */
static bool
remake_parts(struct store *s)
{
	return replace_folder(&s->parts, make_folder(s->root, "parts"));
}

static bool
remake_objects(struct store *s, uint8_t algo)
{
	int objects = make_folder(s->root, "objects"), fd;

	if (objects < 0)
		return false;
	fd = make_folder(objects, digest_algo_name(algo));
	close(objects);
	return replace_folder(&s->objects[algo], fd);
}

/* A call below `folder` failed. A folder that is not there has no files. */
static void
explain(int folder)
{
	if (folder < 0 && errno == EBADF)
		errno = ENOENT;
}

/* --- objects --------------------------------------------------------------------------------- */

static char *
object_name(const struct digest *d, char out[OBJECT_NAME_SIZE])
{
	char hex[DIGEST_STR_SIZE];

	digest_hex(d, hex);
	snprintf(out, OBJECT_NAME_SIZE, "%.2s/%s", hex, hex);
	return out;
}

/* Hands `fd` on if it is a regular file; closes it with ENOENT if not. */
static int
regular_only(int fd, uint64_t *size)
{
	struct stat st;
	int error = ENOENT;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) != 0)
		error = errno;
	else if (S_ISREG(st.st_mode)) {
		if (size != NULL)
			*size = (uint64_t)st.st_size;
		return fd;
	}
	close(fd);
	errno = error;
	return -1;
}

/* O_NONBLOCK: were the name a pipe's, opening it would block for ever. A symbolic link is no
 * object. */
static int
open_file(int folder, const char *name, int flags, uint64_t *size)
{
	int fd = openat(folder, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd >= 0)
		return regular_only(fd, size);
	explain(folder);
	if (errno == ELOOP || errno == ENXIO || errno == EISDIR || errno == ENOTDIR)
		errno = ENOENT;
	return -1;
}

int
store_open_object(struct store *s, const struct digest *d, uint64_t *size)
{
	char name[OBJECT_NAME_SIZE];

	return open_file(s->objects[d->algo], object_name(d, name), O_RDONLY, size);
}

static bool
remove_file(int folder, const char *name)
{
	if (unlinkat(folder, name, 0) == 0)
		return true;
	explain(folder);
	return errno == ENOENT;
}

bool
store_remove_object(struct store *s, const struct digest *d)
{
	char name[OBJECT_NAME_SIZE];

	return remove_file(s->objects[d->algo], object_name(d, name));
}

bool
store_remove_this_object(struct store *s, const struct digest *d, int fd)
{
	char name[OBJECT_NAME_SIZE];
	struct stat named, open;

	if (fstat(fd, &open) != 0)
		return false;
	if (fstatat(s->objects[d->algo], object_name(d, name), &named, AT_SYMLINK_NOFOLLOW) != 0) {
		explain(s->objects[d->algo]);
		return errno == ENOENT;
	}
	return named.st_ino != open.st_ino || named.st_dev != open.st_dev ||
	    remove_file(s->objects[d->algo], name);
}

/* --- parts ----------------------------------------------------------------------------------- */

static char *
part_name(const struct digest *d, uint64_t id, char out[PART_NAME_SIZE])
{
	char text[DIGEST_STR_SIZE];

	snprintf(out, PART_NAME_SIZE, "%s.%016" PRIx64, digest_str(d, text), id);
	return out;
}

/* The reverse: true if part_name() would have made exactly this. */
static bool
parse_part_name(const char *name, struct digest *d, uint64_t *id)
{
	char again[PART_NAME_SIZE];
	const char *dot = strrchr(name, '.');

	*d = (struct digest){0};
	*id = 0;
	if (dot == NULL || digest_parse(name, (size_t)(dot - name), d) != DIGEST_OK)
		return false;
	*id = strtoull(dot + 1, NULL, 16);
	if (*id != 0 && strcmp(part_name(d, *id, again), name) == 0)
		return true;
	*d = (struct digest){0};
	*id = 0;
	return false;
}

int
store_create_part(struct store *s, const struct digest *d, uint64_t id)
{
	const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
	char name[PART_NAME_SIZE];
	int fd = openat(s->parts, part_name(d, id, name), flags, 0600);

	if (fd < 0 && (errno == ENOENT || errno == EBADF) && remake_parts(s))
		fd = openat(s->parts, name, flags, 0600);
	return fd;
}

bool
store_reserve(int part_fd, uint64_t size)
{
	if (size == 0)
		return true;
	if (size > INT64_MAX) {
		errno = EFBIG;
		return false;
	}
	while (fallocate(part_fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size) != 0)
		if (errno != EINTR)
			return errno == EOPNOTSUPP || errno == ENOSYS;
	return true;
}

int
store_open_part(struct store *s, const struct digest *d, uint64_t id)
{
	char name[PART_NAME_SIZE];

	return open_file(s->parts, part_name(d, id, name), O_RDONLY, NULL);
}

/* Opened before it is renamed: when that fails, all is as it was. */
/* The mark is in the file's mode, since it must outlive the process: who does not write does not go on. */
bool
store_keep_to_leader(int part_fd, bool keep)
{
	return fchmod(part_fd, keep ? 0400 : 0600) == 0;
}

/* Root may open what is not to be written. */
static bool
is_kept(int fd)
{
	struct stat st;

	return fstat(fd, &st) != 0 || (st.st_mode & S_IWUSR) == 0;
}

int
store_inherit_part(struct store *s, const struct digest *d, uint64_t dead_id, uint64_t id)
{
	char from[PART_NAME_SIZE], to[PART_NAME_SIZE];
	int fd = open_file(s->parts, part_name(d, dead_id, from), O_RDWR, NULL);
	int saved;

	if (fd < 0)
		return -1;
	errno = EACCES;
	if (!is_kept(fd) && renameat(s->parts, from, s->parts, part_name(d, id, to)) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static bool
rename_to_object(struct store *s, const struct digest *d, const char *part)
{
	char name[OBJECT_NAME_SIZE];

	return renameat(s->parts, part, s->objects[d->algo], object_name(d, name)) == 0;
}

/* Makes the folder with the first two digits, and those above it if they are gone. */
static bool
make_object_folder(struct store *s, const struct digest *d)
{
	char name[OBJECT_NAME_SIZE];

	object_name(d, name)[2] = '\0';
	if (mkdirat(s->objects[d->algo], name, 0700) == 0 || errno == EEXIST)
		return true;
	if (errno != ENOENT && errno != EBADF)
		return false;
	return remake_objects(s, d->algo) &&
	    (mkdirat(s->objects[d->algo], name, 0700) == 0 || errno == EEXIST);
}

bool
store_publish_part(struct store *s, const struct digest *d, uint64_t id)
{
	char part[PART_NAME_SIZE];

	if (rename_to_object(s, d, part_name(d, id, part)))
		return true;
	if (errno != ENOENT && errno != EBADF)
		return false;
	if (faccessat(s->parts, part, F_OK, AT_SYMLINK_NOFOLLOW) != 0) {
		explain(s->parts);
		return false;
	}
	return make_object_folder(s, d) && rename_to_object(s, d, part);
}

bool
store_remove_part(struct store *s, const struct digest *d, uint64_t id)
{
	char name[PART_NAME_SIZE];

	return remove_file(s->parts, part_name(d, id, name));
}

static void
call_part(const char *name, store_part_fn *each, void *arg)
{
	struct digest d;
	uint64_t id;
	bool known = parse_part_name(name, &d, &id);

	each(name, known, &d, id, arg);
}

/* How many entries were handed on; -1 with errno when reading failed. */
static int
read_parts(DIR *dir, store_part_fn *each, void *arg)
{
	struct dirent *e;
	int count = 0;

	while (errno = 0, (e = readdir(dir)) != NULL) {
		if (store_is_dots(e->d_name))
			continue;
		call_part(e->d_name, each, arg);
		count++;
	}
	return errno == 0 ? count : -1;
}

int
store_each_part(struct store *s, store_part_fn *each, void *arg)
{
	int fd = open_folder(s->root, "parts"), count, saved;
	DIR *dir;

	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	dir = fdopendir(fd);
	if (dir == NULL) {
		saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	count = read_parts(dir, each, arg);
	saved = errno;
	closedir(dir);
	errno = saved;
	return count;
}

bool
store_remove_part_file(struct store *s, const char *name)
{
	if (strchr(name, '/') != NULL || store_is_dots(name)) {
		errno = EINVAL;
		return false;
	}
	if (remove_file(s->parts, name))
		return true;
	return errno == EISDIR && unlinkat(s->parts, name, AT_REMOVEDIR) == 0;
}
