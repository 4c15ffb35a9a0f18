/* Reading the store's folders, and how much room things take. */
#include "store_scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "store_private.h"
#include "xalloc.h"

enum {
	BLOCK = 512,
	MAX_DEPTH = 64, /* of a stranger's folders */
};

static const char note_name[] = "account";

struct store_folder {
	DIR *dir;
	enum store_level level;
	uint8_t algo, first;
	dev_t device;
};

static uint64_t
disk_of(const struct stat *st)
{
	return (uint64_t)st->st_blocks * BLOCK;
}

/* --- folders --------------------------------------------------------------------------------- */

static int
open_level(struct store *s, enum store_level level, uint8_t algo, uint8_t first)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW;
	char name[3];

	if (level == STORE_OBJECTS)
		return openat(s->root, "objects", flags);
	snprintf(name, sizeof(name), "%02x", first);
	return openat(s->objects[algo], level == STORE_ALGORITHM ? "." : name, flags);
}

struct store_folder *
store_folder_open(struct store *s, enum store_level level, uint8_t algo, uint8_t first)
{
	int fd = open_level(s, level, algo, first), saved;
	struct store_folder *f;
	struct stat st;
	DIR *dir;

	if (fd < 0) {
		errno = errno == EBADF || errno == ENOTDIR || errno == ELOOP ? ENOENT : errno;
		return NULL;
	}
	dir = fstat(fd, &st) == 0 ? fdopendir(fd) : NULL;
	if (dir == NULL) {
		saved = errno;
		close(fd);
		errno = saved;
		return NULL;
	}
	f = xcalloc(1, sizeof(*f));
	*f = (struct store_folder){dir, level, algo, first, st.st_dev};
	return f;
}

void
store_folder_close(struct store_folder **f)
{
	if (*f == NULL)
		return;
	closedir((*f)->dir);
	free(*f);
	*f = NULL;
}

/* --- what belongs ---------------------------------------------------------------------------- */

static bool
is_two_hex(const char *name)
{
	return strlen(name) == 2 && strspn(name, "0123456789abcdef") == 2;
}

static bool
is_object(const struct store_folder *f, const struct stat *st, const char *name, struct digest *d)
{
	char text[DIGEST_STR_SIZE];
	int n = snprintf(text, sizeof(text), "%s:%s", digest_algo_name(f->algo), name);

	return S_ISREG(st->st_mode) && n > 0 && (size_t)n < sizeof(text) &&
	    digest_parse(text, (size_t)n, d) == DIGEST_OK && d->bytes[0] == f->first;
}

static bool
belongs(const struct store_folder *f, const struct stat *st, const char *name, struct digest *d)
{
	switch (f->level) {
	case STORE_OBJECTS:
		return S_ISDIR(st->st_mode) &&
		    (strcmp(name, digest_algo_name(DIGEST_SHA256)) == 0 ||
			strcmp(name, digest_algo_name(DIGEST_SHA512)) == 0);
	case STORE_ALGORITHM:
		return S_ISDIR(st->st_mode) && is_two_hex(name);
	case STORE_BUCKET:
		return is_object(f, st, name, d);
	}
	return false;
}

bool
store_folder_next(struct store_folder *f, struct store_entry *e)
{
	struct dirent *d;
	struct stat st;

	while (errno = 0, (d = readdir(f->dir)) != NULL) {
		if (store_is_dots(d->d_name) ||
		    fstatat(dirfd(f->dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		memset(&e->digest, 0, sizeof(e->digest));
		snprintf(e->name, sizeof(e->name), "%s", d->d_name);
		e->belongs = belongs(f, &st, d->d_name, &e->digest);
		e->size = (uint64_t)st.st_size;
		e->disk = disk_of(&st);
		e->written = st.st_mtime;
		e->changed = st.st_ctime;
		return true;
	}
	if (errno != 0)
		log_warn("store: cannot read a folder of objects: %s", strerror(errno));
	return false;
}

/* --- removing what does not belong ----------------------------------------------------------- */

static bool remove_entry(int at, const char *name, dev_t device, unsigned depth, unsigned *budget);

static bool
remove_all(DIR *dir, dev_t device, unsigned depth, unsigned *budget)
{
	struct dirent *d;

	while (errno = 0, (d = readdir(dir)) != NULL)
		if (!store_is_dots(d->d_name) &&
		    !remove_entry(dirfd(dir), d->d_name, device, depth, budget))
			return false;
	return errno == 0;
}

static bool
empty_folder(int at, const char *name, dev_t device, unsigned depth, unsigned *budget)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), saved;
	struct stat st;
	DIR *dir;
	bool ok;

	if (fd < 0)
		return false;
	if (depth == 0 || fstat(fd, &st) != 0 || st.st_dev != device) {
		close(fd);
		errno = EXDEV;
		return false;
	}
	dir = fdopendir(fd);
	if (dir == NULL) {
		close(fd);
		return false;
	}
	ok = remove_all(dir, device, depth - 1, budget);
	saved = errno;
	closedir(dir);
	errno = saved;
	return ok;
}

static bool
remove_entry(int at, const char *name, dev_t device, unsigned depth, unsigned *budget)
{
	if (*budget == 0) {
		errno = EAGAIN;
		return false;
	}
	--*budget;
	if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
		return true;
	if (errno != EISDIR && errno != EPERM)
		return false;
	if (unlinkat(at, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return true;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return false;
	return empty_folder(at, name, device, depth, budget) &&
	    (unlinkat(at, name, AT_REMOVEDIR) == 0 || errno == ENOENT);
}

bool
store_folder_remove(struct store_folder *f, const char *name, unsigned *budget)
{
	return remove_entry(dirfd(f->dir), name, f->device, MAX_DEPTH, budget);
}

bool
store_remove_part_folder(struct store *s, const char *name, unsigned *budget)
{
	struct stat st;

	return fstat(s->parts, &st) == 0 &&
	    remove_entry(s->parts, name, st.st_dev, MAX_DEPTH, budget);
}

/* --- how much room --------------------------------------------------------------------------- */

static bool
disk_at(int folder, const char *name, uint64_t *bytes)
{
	struct stat st;

	*bytes = 0;
	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return false;
	*bytes = disk_of(&st);
	return true;
}

bool
store_object_disk(struct store *s, const struct digest *d, uint64_t *bytes)
{
	char hex[DIGEST_STR_SIZE], name[3 + DIGEST_STR_SIZE];

	digest_hex(d, hex);
	snprintf(name, sizeof(name), "%.2s/%s", hex, hex);
	return disk_at(s->objects[d->algo], name, bytes);
}

bool
store_has_folder(struct store *s, const struct digest *d)
{
	char name[3];

	snprintf(name, sizeof(name), "%02x", d->bytes[0]);
	return faccessat(s->objects[d->algo], name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

bool
store_part_disk(struct store *s, const char *name, uint64_t *bytes)
{
	return disk_at(s->parts, name, bytes);
}

int64_t
store_fetched_at(const struct stat *st)
{
	int64_t now = clock_wall();

	return st->st_mtime > 0 && st->st_mtime < now ? st->st_mtime : now;
}

bool
store_file_disk(int fd, uint64_t *bytes)
{
	struct stat st;

	*bytes = 0;
	if (fstat(fd, &st) != 0)
		return false;
	*bytes = disk_of(&st);
	if (*bytes < (uint64_t)st.st_size)
		*bytes = (uint64_t)st.st_size;
	return true;
}

static uint64_t
folder_files_disk(int folder)
{
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	uint64_t sum = 0, bytes;
	struct dirent *d;

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while ((d = readdir(dir)) != NULL)
		if (strcmp(d->d_name, "..") != 0 && disk_at(dirfd(dir), d->d_name, &bytes))
			sum += bytes;
	closedir(dir);
	return sum;
}

uint64_t
store_index_disk(struct store *s)
{
	return folder_files_disk(s->index);
}

/* What lies in objects/<algorithm> is the two-hex folders, and strangers until they are removed. */
uint64_t
store_folders_disk(struct store *s)
{
	static const char *const others[] = {".", "objects", "parts"};
	uint64_t sum = 0, bytes;

	for (uint8_t algo = DIGEST_SHA256; algo <= DIGEST_SHA512; algo++)
		sum += folder_files_disk(s->objects[algo]);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (disk_at(s->root, others[i], &bytes))
			sum += bytes;
	return sum;
}

uint64_t
store_free(struct store *s)
{
	struct statvfs v;

	if (fstatvfs(s->root, &v) != 0)
		return UINT64_MAX;
	return (uint64_t)v.f_bavail * v.f_frsize;
}

/* --- a note ---------------------------------------------------------------------------------- */

bool
store_save_note(struct store *s, const void *data, size_t size)
{
	int fd = openat(s->index, note_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, data, size) == (ssize_t)size;
	close(fd);
	if (!ok)
		unlinkat(s->index, note_name, 0);
	return ok;
}

bool
store_load_note(struct store *s, void *data, size_t size)
{
	int fd = openat(s->index, note_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	bool ok;

	if (fd < 0)
		return false;
	ok = fstat(fd, &st) == 0 && st.st_size == (off_t)size &&
	    read(fd, data, size) == (ssize_t)size;
	close(fd);
	return unlinkat(s->index, note_name, 0) == 0 && ok;
}
