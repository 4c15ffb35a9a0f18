/* What tells one run of the cache from the next: the lock that a running one holds on dataPath,
 * and the mark of how the last one ended; and dropping the index when that mark says so. */
#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "store_private.h"

enum {
	LOCK_RETRY_MS = 20,
	BOOT_ID_SIZE = 37, /* a UUID */
	MARK_SIZE = 128,
	SYNC_LOOK_MS = 5,
};

static const char mark_name[] = "state";
static const char damaged_prefix[] = "damaged.";
static const char incomplete_name[] = "incomplete";
static const char mark_new_name[] = "state.new";
static const char *const index_files[] = {"data.mdb", "lock.mdb", "usage", "account"};

/* --- the lock -------------------------------------------------------------------------------- */

/* On a read-only file system the lock is on the file if it is there, else on the folder itself. */
static int
open_lock(const char *path)
{
	const int flags = O_CLOEXEC | O_NOFOLLOW;
	int dir, fd;

	if (mkdir(path, 0700) != 0 && errno != EEXIST && errno != EROFS)
		return -1;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -1;
	fd = openat(dir, "lock", O_RDWR | O_CREAT | flags, 0600);
	if (fd < 0 && errno == EROFS) {
		fd = openat(dir, "lock", O_RDONLY | flags);
		if (fd < 0 && errno == ENOENT)
			return dir;
	}
	close(dir);
	return fd;
}

static pid_t
read_holder(int fd)
{
	char text[32];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	long pid;

	if (n <= 0)
		return 0;
	text[n] = '\0';
	pid = strtol(text, NULL, 10);
	return pid > 0 && pid <= INT32_MAX ? (pid_t)pid : 0;
}

/* Not being able to is no harm: the lock is the flock, the number is for people. */
static void
write_holder(int fd)
{
	if (ftruncate(fd, 0) == 0 && dprintf(fd, "%ld\n", (long)getpid()) < 0)
		log_warn("store: cannot write the lock's holder: %m");
}

/* A holder that is dead has children that are about to notice; one that is not known may be
 * just there. */
static bool
will_let_go(pid_t holder)
{
	return holder == 0 || (kill(holder, 0) != 0 && errno == ESRCH);
}

static bool
take_lock(int fd, unsigned wait_ms, pid_t *holder)
{
	const struct timespec pause = {0, LOCK_RETRY_MS * 1000000L};
	uint64_t end = clock_ms() + wait_ms;

	while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		if (errno == EINTR)
			continue;
		if (errno != EWOULDBLOCK)
			return false;
		*holder = read_holder(fd);
		if (!will_let_go(*holder) || clock_ms() >= end) {
			errno = EWOULDBLOCK;
			return false;
		}
		nanosleep(&pause, NULL);
	}
	*holder = 0;
	return true;
}

int
store_lock(const char *path, unsigned wait_ms, pid_t *holder)
{
	int fd = open_lock(path), saved;

	*holder = 0;
	if (fd < 0)
		return -1;
	if (take_lock(fd, wait_ms, holder)) {
		write_holder(fd);
		return fd;
	}
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/* --- the mark -------------------------------------------------------------------------------- */

/* At most size - 1 bytes, and a NUL. False with errno. */
static bool
read_small(int at, const char *name, char *out, size_t size)
{
	int fd = openat(at, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
	int saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
	out[n < 0 ? 0 : n] = '\0';
	return n >= 0;
}

/* "unknown" never matches: without a boot id, an unclean end is taken for the machine's. */
static void
boot_id(char out[BOOT_ID_SIZE])
{
	if (!read_small(AT_FDCWD, "/proc/sys/kernel/random/boot_id", out, BOOT_ID_SIZE) ||
	    strlen(out) != BOOT_ID_SIZE - 1)
		strcpy(out, "unknown");
}

/* Which folder the index is in: a copy that was made of a running cache is another one, and torn. */
static unsigned long long
folder_id(const struct store *s)
{
	struct stat st;

	return fstat(s->index, &st) == 0 ? (unsigned long long)st.st_ino : 0;
}

static void
format_mark(const struct store *s, char out[MARK_SIZE], bool clean)
{
	char boot[BOOT_ID_SIZE];

	boot_id(boot);
	snprintf(out, MARK_SIZE, "boot %s\nfolder %llu\nclean %d\n", boot, folder_id(s), clean);
}

/* Whatever cannot be read for certain counts as the worst: the index is dropped and made again. */
enum store_state
store_read_state(struct store *s)
{
	char text[MARK_SIZE], expected[MARK_SIZE];
	const char *clean;

	if (!read_small(s->index, mark_name, text, sizeof(text))) {
		if (errno == ENOENT || s->index < 0)
			return STORE_NEW;
		log_warn("store: cannot read %s/%s: %m", s->index_dir, mark_name);
		return STORE_MACHINE_DIED;
	}
	clean = strstr(text, "\nclean 1\n");
	if (strncmp(text, "boot ", 5) == 0 && clean != NULL && clean[9] == '\0')
		return STORE_CLEAN;
	format_mark(s, expected, false);
	if (strcmp(text, expected) == 0 && strstr(text, "unknown") == NULL)
		return STORE_CRASHED;
	return STORE_MACHINE_DIED;
}

static bool
write_durably(int fd, const char *text)
{
	size_t len = strlen(text);

	return write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;
}

bool
store_write_state(struct store *s, bool clean)
{
	char text[MARK_SIZE];
	int fd;
	bool ok;

	format_mark(s, text, clean);
	fd = openat(
	    s->index, mark_new_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	ok = fd >= 0 && write_durably(fd, text) &&
	    renameat(s->index, mark_new_name, s->index, mark_name) == 0 && fsync(s->index) == 0;
	if (!ok)
		log_error("store: cannot write %s/%s: %m", s->index_dir, mark_name);
	if (fd >= 0)
		close(fd);
	return ok;
}

bool
store_has_index(struct store *s)
{
	return faccessat(s->index, index_files[0], F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

bool
store_drop_index(struct store *s)
{
	bool ok = true;

	for (size_t i = 0; i < sizeof(index_files) / sizeof(*index_files); i++) {
		if (unlinkat(s->index, index_files[i], 0) == 0 || errno == ENOENT)
			continue;
		log_error("store: cannot remove %s/%s: %m", s->index_dir, index_files[i]);
		ok = false;
	}
	if (ok && fsync(s->index) != 0) {
		log_error("store: cannot sync %s: %m", s->index_dir);
		ok = false;
	}
	return ok;
}

/* --- what is set aside ----------------------------------------------------------------------- */

static bool
is_damaged_name(const char *name)
{
	return strncmp(name, damaged_prefix, sizeof(damaged_prefix) - 1) == 0;
}

/* Counts them; *oldest is the name with the earliest time in it. */
static unsigned
count_damaged(struct store *s, char oldest[NAME_MAX + 1])
{
	int fd = openat(s->index, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;
	unsigned n = 0;

	if (dir == NULL && fd >= 0)
		close(fd);
	while (dir != NULL && (e = readdir(dir)) != NULL) {
		if (!is_damaged_name(e->d_name))
			continue;
		if (n++ == 0 || strcmp(e->d_name, oldest) < 0)
			snprintf(oldest, NAME_MAX + 1, "%s", e->d_name);
	}
	if (dir != NULL)
		closedir(dir);
	return n;
}

/* Twenty digits: sorted by name they are sorted by time. */
bool
store_quarantine_index(struct store *s)
{
	char name[NAME_MAX + 1];

	snprintf(name, sizeof(name), "%s%020lld", damaged_prefix, (long long)clock_wall());
	if (renameat(s->index, index_files[0], s->index, name) == 0)
		log_warn("store: the damaged index is kept as %s/%s", s->index_dir, name);
	else if (errno != ENOENT)
		log_warn("store: cannot set the damaged index aside: %m");
	while (count_damaged(s, name) > STORE_DAMAGED_KEPT)
		if (unlinkat(s->index, name, 0) != 0) {
			log_warn("store: cannot remove %s/%s: %m", s->index_dir, name);
			break;
		}
	return store_drop_index(s);
}

bool
store_set_incomplete(struct store *s, bool incomplete)
{
	int fd;

	if (!incomplete)
		return unlinkat(s->index, incomplete_name, 0) == 0 || errno == ENOENT;
	fd = openat(s->index, incomplete_name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

bool
store_is_incomplete(struct store *s)
{
	return faccessat(s->index, incomplete_name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool
sync_and_mark(struct store *s)
{
	if (syncfs(s->root) == 0)
		return store_write_state(s, true);
	log_error("store: cannot sync the file system: %m");
	return false;
}

/* All this may take longer than any heartbeat, so a child does it. */
bool
store_close_cleanly(struct store *s, void (*beat)(void *arg), void *arg)
{
	const struct timespec pause = {0, SYNC_LOOK_MS * 1000000L};
	pid_t pid = fork();
	int status = 0;
	pid_t got;

	if (pid == 0)
		_exit(sync_and_mark(s) ? 0 : 1);
	if (pid < 0)
		return sync_and_mark(s);
	while ((got = waitpid(pid, &status, WNOHANG)) == 0 || (got < 0 && errno == EINTR)) {
		beat(arg);
		nanosleep(&pause, NULL);
	}
	return got == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
