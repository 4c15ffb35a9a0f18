/* Memory that holds secrets, and reading them into it. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "secret.h"
#include "xalloc.h"

/* In front of what is handed out: how large the mapping is. */
enum { PROLOGUE = 16 };

void *
secret_alloc(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t mapped = (size + PROLOGUE + page - 1) / page * page;
	unsigned char *p = size < SIZE_MAX / 2
	    ? mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
	    : MAP_FAILED;

	if (p == MAP_FAILED)
		panic("no memory for %zu bytes of secrets", size);
	(void)madvise(p, mapped, MADV_DONTDUMP);
	(void)mlock(p, mapped);
	memcpy(p, &mapped, sizeof(mapped));
	return p + PROLOGUE;
}

void
secret_drop(void *p)
{
	unsigned char *start;
	size_t mapped;

	if (p == NULL)
		return;
	start = (unsigned char *)p - PROLOGUE;
	memcpy(&mapped, start, sizeof(mapped));
	explicit_bzero(p, mapped - PROLOGUE);
	munmap(start, mapped);
}

/* --- files ------------------------------------------------------------------------------------ */

/* NULL, or what is wrong. */
static char *
unsafe(int fd, const char *path, mode_t forbidden, size_t max)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return xasprintf("%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return xasprintf("%s: not a regular file", path);
	if ((st.st_mode & forbidden) != 0)
		return xasprintf("%s: mode %04o opens it to others, expected %04o", path,
		    (unsigned)(st.st_mode & 07777), (unsigned)(0666 & ~forbidden));
	if (st.st_size < 0 || (size_t)st.st_size > max)
		return xasprintf("%s: more than %zu bytes", path, max);
	return NULL;
}

/* At most `max` bytes. False with errno. */
static bool
read_all(int fd, char *to, size_t max, size_t *n)
{
	*n = 0;
	while (*n < max) {
		ssize_t got = read(fd, to + *n, max - *n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return false;
		if (got == 0)
			break;
		*n += (size_t)got;
	}
	return true;
}

char *
secret_read_file(const char *path, mode_t forbidden, size_t max, size_t *n, char **error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char *data = NULL;

	*error = fd < 0 ? xasprintf("%s: %s", path, strerror(errno))
			: unsafe(fd, path, forbidden, max);
	if (*error == NULL) {
		data = secret_alloc(max + 1);
		if (!read_all(fd, data, max, n))
			*error = xasprintf("%s: %s", path, strerror(errno));
	}
	if (*error == NULL && strlen(data) != *n)
		*error = xasprintf("%s: a NUL byte in it", path);
	if (*error != NULL) {
		secret_drop(data);
		data = NULL;
	}
	if (fd >= 0)
		close(fd);
	return data;
}
