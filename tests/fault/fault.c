/* A library to be preloaded (LD_PRELOAD) that makes calls of libc fail, for tests: the n-th call of one
 * function on files of one file system, or every call from then on; makes them slow; and moves the wall
 * clock. What it does is said in a file mapped by all processes (FAULT_CONTROL), so that no file need be
 * opened by processes that may not. Calls on other file systems are not touched.
 *
 * The file (struct control) is written by tests/e2e/faults.py, which has the same numbers. */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* In the order of faults.py. */
enum function {
	OPEN, READ, WRITE, FSTAT, FSTATAT, FALLOCATE, FTRUNCATE, RENAME, UNLINK, MKDIR, FSYNC, READDIR, MMAP,
	MSYNC, SENDFILE, FLOCK, STATVFS, SYNCFS, FUNCTIONS
};

struct control {
	uint64_t device;           /* st_dev of the file system that is sick; 0: none is */
	char root[256];            /* its folder, for absolute paths */
	_Atomic int32_t function;  /* which fails; -1: none */
	_Atomic int32_t error;     /* its errno */
	_Atomic int64_t countdown; /* 1: the next call fails */
	_Atomic int32_t for_ever;  /* … and all after it */
	_Atomic int32_t hits;      /* calls that were made to fail */
	_Atomic int64_t delay_us;  /* of every call */
	_Atomic int64_t clock_s;   /* added to the wall clock */
	_Atomic int64_t calls[FUNCTIONS];
	_Atomic int32_t delayed; /* only this function is slow, + 1; 0: every one */
};

static struct control *control;
static __thread int busy; /* in here already */

static void __attribute__((constructor))
start(void)
{
	const char *path = getenv("FAULT_CONTROL");
	int fd = path != NULL ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
	void *p;

	if (fd < 0)
		return;
	p = (void *)syscall(
	    SYS_mmap, NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	syscall(SYS_close, fd);
	if (p != MAP_FAILED)
		control = p;
}

/* Does this call fail? errno is set then. */
static int
fails(enum function f)
{
	int64_t delay = atomic_load(&control->delay_us), left;

	if (delay > 0 && (atomic_load(&control->delayed) == 0 || atomic_load(&control->delayed) == (int32_t)f + 1)) {
		struct timespec t = {delay / 1000000, delay % 1000000 * 1000};

		syscall(SYS_nanosleep, &t, NULL);
	}
	atomic_fetch_add(&control->calls[f], 1);
	if (atomic_load(&control->function) != (int32_t)f)
		return 0;
	left = atomic_fetch_sub(&control->countdown, 1);
	if (left != 1 && !(left < 1 && atomic_load(&control->for_ever)))
		return 0;
	atomic_fetch_add(&control->hits, 1);
	errno = atomic_load(&control->error);
	return 1;
}

static int
sick_fd(int fd)
{
	struct stat st;
	int saved = errno, sick;

	if (control == NULL || control->device == 0 || fd < 0 || busy)
		return 0;
	sick = syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) == 0 && st.st_dev == control->device;
	errno = saved;
	return sick;
}

static int
sick_path(int at, const char *path)
{
	if (control == NULL || control->device == 0 || path == NULL)
		return 0;
	if (path[0] == '/')
		return strncmp(path, control->root, strlen(control->root)) == 0;
	return at != AT_FDCWD && sick_fd(at);
}

static int
fd_fails(int fd, enum function f)
{
	return sick_fd(fd) && fails(f);
}

static int
path_fails(int at, const char *path, enum function f)
{
	return sick_path(at, path) && fails(f);
}

/* --- paths ----------------------------------------------------------------------------------- */

static int
open_at(int at, const char *path, int flags, mode_t mode)
{
	if (path_fails(at, path, OPEN))
		return -1;
	return (int)syscall(SYS_openat, at, path, flags, mode);
}

#define MODE_OF(flags, last) \
	va_list list; \
	mode_t mode = 0; \
	va_start(list, last); \
	if (((flags) & O_CREAT) != 0 || ((flags) & O_TMPFILE) == O_TMPFILE) \
		mode = va_arg(list, mode_t); \
	va_end(list)

int
open(const char *path, int flags, ...)
{
	MODE_OF(flags, flags);
	return open_at(AT_FDCWD, path, flags, mode);
}

int
openat(int at, const char *path, int flags, ...)
{
	MODE_OF(flags, flags);
	return open_at(at, path, flags, mode);
}

int __open_2(const char *path, int flags);
int __openat_2(int at, const char *path, int flags);

int
__open_2(const char *path, int flags)
{
	return open_at(AT_FDCWD, path, flags, 0);
}

int
__openat_2(int at, const char *path, int flags)
{
	return open_at(at, path, flags, 0);
}

int
fstatat(int at, const char *restrict path, struct stat *restrict st, int flags)
{
	if (path_fails(at, path, FSTATAT))
		return -1;
	return (int)syscall(SYS_newfstatat, at, path, st, flags);
}

int
renameat(int from, const char *a, int to, const char *b)
{
	if (path_fails(to, b, RENAME))
		return -1;
	return (int)syscall(SYS_renameat2, from, a, to, b, 0);
}

int
unlinkat(int at, const char *path, int flags)
{
	return path_fails(at, path, UNLINK) ? -1 : (int)syscall(SYS_unlinkat, at, path, flags);
}

int
mkdirat(int at, const char *path, mode_t mode)
{
	return path_fails(at, path, MKDIR) ? -1 : (int)syscall(SYS_mkdirat, at, path, mode);
}

int
mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}

/* --- descriptors ----------------------------------------------------------------------------- */

ssize_t
read(int fd, void *p, size_t n)
{
	return fd_fails(fd, READ) ? -1 : syscall(SYS_read, fd, p, n);
}

ssize_t
pread(int fd, void *p, size_t n, off_t at)
{
	return fd_fails(fd, READ) ? -1 : syscall(SYS_pread64, fd, p, n, at);
}

ssize_t
preadv2(int fd, const struct iovec *v, int n, off_t at, int flags)
{
	return fd_fails(fd, READ) ? -1 : syscall(SYS_preadv2, fd, v, n, at, 0, flags);
}

ssize_t
write(int fd, const void *p, size_t n)
{
	return fd_fails(fd, WRITE) ? -1 : syscall(SYS_write, fd, p, n);
}

ssize_t
pwrite(int fd, const void *p, size_t n, off_t at)
{
	return fd_fails(fd, WRITE) ? -1 : syscall(SYS_pwrite64, fd, p, n, at);
}

ssize_t
writev(int fd, const struct iovec *v, int n)
{
	return fd_fails(fd, WRITE) ? -1 : syscall(SYS_writev, fd, v, n);
}

int
fstat(int fd, struct stat *st)
{
	return fd_fails(fd, FSTAT) ? -1 : (int)syscall(SYS_newfstatat, fd, "", st, AT_EMPTY_PATH);
}

int __fxstat(int version, int fd, struct stat *st);

int
__fxstat(int version, int fd, struct stat *st)
{
	(void)version;
	return fstat(fd, st);
}

int
fallocate(int fd, int mode, off_t at, off_t n)
{
	return fd_fails(fd, FALLOCATE) ? -1 : (int)syscall(SYS_fallocate, fd, mode, at, n);
}

int
posix_fallocate(int fd, off_t at, off_t n)
{
	return fallocate(fd, 0, at, n) == 0 ? 0 : errno;
}

int
ftruncate(int fd, off_t n)
{
	return fd_fails(fd, FTRUNCATE) ? -1 : (int)syscall(SYS_ftruncate, fd, n);
}

int
fsync(int fd)
{
	return fd_fails(fd, FSYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

int
fdatasync(int fd)
{
	return fd_fails(fd, FSYNC) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int
syncfs(int fd)
{
	return fd_fails(fd, SYNCFS) ? -1 : (int)syscall(SYS_syncfs, fd);
}

int
flock(int fd, int operation)
{
	return fd_fails(fd, FLOCK) ? -1 : (int)syscall(SYS_flock, fd, operation);
}

void *
mmap(void *p, size_t n, int protection, int flags, int fd, off_t at)
{
	if (fd >= 0 && fd_fails(fd, MMAP))
		return MAP_FAILED;
	return (void *)syscall(SYS_mmap, p, n, protection, flags, fd, at);
}

int
msync(void *p, size_t n, int flags)
{
	if (control != NULL && control->device != 0 && fails(MSYNC))
		return -1;
	return (int)syscall(SYS_msync, p, n, flags);
}

ssize_t
sendfile(int out, int in, off_t *at, size_t n)
{
	return fd_fails(in, SENDFILE) ? -1 : syscall(SYS_sendfile, out, in, at, n);
}

/* --- what has no system call of its own ------------------------------------------------------ */

struct dirent *
readdir(DIR *dir)
{
	static struct dirent *(*real)(DIR *);
	struct dirent *e;

	if (fd_fails(dirfd(dir), READDIR))
		return NULL;
	if (real == NULL)
		real = (struct dirent * (*)(DIR *)) dlsym(RTLD_NEXT, "readdir");
	busy++;
	e = real(dir);
	busy--;
	return e;
}

int
fstatvfs(int fd, struct statvfs *st)
{
	static int (*real)(int, struct statvfs *);

	if (fd_fails(fd, STATVFS))
		return -1;
	if (real == NULL)
		real = (int (*)(int, struct statvfs *))dlsym(RTLD_NEXT, "fstatvfs");
	return real(fd, st);
}

/* --- the wall clock -------------------------------------------------------------------------- */

int
clock_gettime(clockid_t id, struct timespec *t)
{
	int rc = (int)syscall(SYS_clock_gettime, id, t);

	if (rc == 0 && id == CLOCK_REALTIME && control != NULL)
		t->tv_sec += atomic_load(&control->clock_s);
	return rc;
}

time_t
time(time_t *out)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	if (out != NULL)
		*out = t.tv_sec;
	return t.tv_sec;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec t;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &t);
	*tv = (struct timeval){t.tv_sec, t.tv_nsec / 1000};
	return 0;
}
