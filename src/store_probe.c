/* Can anything be written to the store now? */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "store_private.h"

enum { PROBE_BYTES = 4096 };

/* A file without a name: nothing is left of it, whatever happens. Where the file system has no such
 * files, permissions are all that is looked at. */
bool
store_is_writable(struct store *s)
{
	static const char block[PROBE_BYTES];
	int folder = s->parts >= 0 ? s->parts : s->root, saved;
	int fd = openat(folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	ssize_t n;

	if (fd < 0)
		return (errno == EOPNOTSUPP || errno == EISDIR) &&
		    faccessat(folder, ".", W_OK, AT_EACCESS) == 0;
	n = pwrite(fd, block, sizeof(block), 0);
	saved = n < 0 ? errno : ENOSPC;
	close(fd);
	errno = saved;
	return n == (ssize_t)sizeof(block);
}
