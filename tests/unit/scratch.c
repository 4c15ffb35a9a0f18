/* Folders, child processes and shared memory for tests. A helper that fails ends the test
 * program: nothing was tested then. */
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "xalloc.h"

/* --- folders --------------------------------------------------------------------------------- */

char *
scratch_folder(void)
{
	const char *base = getenv("TMPDIR");
	char *path = xasprintf("%s/registry-cache-test.XXXXXX", base != NULL ? base : "/tmp");

	if (mkdtemp(path) == NULL)
		fatal("cannot make %s: %m", path);
	return path;
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void
scratch_remove(char **path)
{
	if (nftw(*path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
		fatal("cannot remove %s: %m", *path);
	free(*path);
	*path = NULL;
}

char *
scratch_path(const char *folder, const char *name)
{
	return xasprintf("%s/%s", folder, name);
}

void
scratch_write(const char *folder, const char *name, const char *text)
{
	char *path = scratch_path(folder, name);
	FILE *f = fopen(path, "w");

	if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0)
		fatal("cannot write %s: %m", path);
	free(path);
}

bool
scratch_exists(const char *folder, const char *name)
{
	char *path = scratch_path(folder, name);
	bool there = faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;

	free(path);
	return there;
}

/* --- processes ------------------------------------------------------------------------------- */

pid_t
scratch_spawn(int (*run)(void *arg), void *arg)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		fatal("cannot fork: %m");
	if (pid > 0)
		return pid;
	srand((unsigned)getpid());
	_exit(run(arg));
}

int
scratch_reap(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fatal("cannot wait for %ld: %m", (long)pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void
scratch_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	scratch_reap(pid);
}

int
scratch_run(int (*run)(void *arg), void *arg)
{
	return scratch_reap(scratch_spawn(run, arg));
}

void *
scratch_shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fatal("cannot map: %m");
	return p;
}

void
scratch_unshare(void *p, size_t size)
{
	munmap(p, size);
}

void
scratch_jitter(unsigned max_us)
{
	usleep((unsigned)rand() % (max_us + 1));
}

void
scratch_die(const char *file, int line, const char *condition)
{
	fprintf(stderr, "%s:%d: in a child: %s\n", file, line, condition);
	_exit(1);
}

/* --- digests --------------------------------------------------------------------------------- */

struct digest
scratch_digest(unsigned n)
{
	struct hasher *h = hasher_new(DIGEST_SHA256);
	struct digest d;

	hasher_update(h, &n, sizeof(n));
	hasher_final(h, &d);
	hasher_free(&h);
	return d;
}

/* --- file systems ---------------------------------------------------------------------------- */

static bool
own_mounts(void)
{
	return unshare(CLONE_NEWNS) == 0 &&
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

unsigned
scratch_rounds(unsigned n)
{
	return getenv("UNIT_SLOW") != NULL ? (n + 7) / 8 : n;
}

bool
scratch_mount_tmpfs(const char *folder, const char *size)
{
	char *options = xasprintf("size=%s", size);
	bool ok = own_mounts() && mount("none", folder, "tmpfs", 0, options) == 0;

	free(options);
	return ok;
}

bool
scratch_mount_read_only(const char *folder)
{
	return own_mounts() && mount(folder, folder, NULL, MS_BIND, NULL) == 0 &&
	    mount("none", folder, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0;
}

bool
scratch_skipped(int status, const char *why)
{
	if (status != SCRATCH_SKIPPED)
		return false;
	fprintf(stderr, "skipped: %s\n", why);
	return true;
}
