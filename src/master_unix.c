/* Unix sockets that clients connect to: a file with a mode, which outlives a process that dies, and
 * is replaced then. */
#include "master_private.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "child.h"
#include "log.h"

static const char prefix[] = "unix:";

bool
master_is_unix(const char *address)
{
	return strncmp(address, prefix, strlen(prefix)) == 0;
}

static const char *
path_of(const char *address)
{
	return address + strlen(prefix);
}

static struct sockaddr_un
name_of(const char *address)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	strncpy(sa.sun_path, path_of(address), sizeof(sa.sun_path) - 1);
	return sa;
}

/* Does nobody listen on it any more? Connecting says so without disturbing who does. */
static bool
is_stale(const struct sockaddr_un *sa)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool refused = fd >= 0 && connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) != 0 &&
	    errno == ECONNREFUSED;

	if (fd >= 0)
		close(fd);
	return refused;
}

/* NULL, or why the name cannot be had (static). */
static const char *
make_way(const struct sockaddr_un *sa)
{
	struct stat st;

	if (lstat(sa->sun_path, &st) != 0)
		return errno == ENOENT ? NULL : strerror(errno);
	if (!S_ISSOCK(st.st_mode))
		return "there is a file of this name, which is no socket";
	if (!is_stale(sa))
		return "Address already in use";
	return unlink(sa->sun_path) == 0 ? NULL : strerror(errno);
}

/* Nobody may connect before the mode is set. */
static bool
bind_closed(int fd, const struct sockaddr_un *sa)
{
	mode_t before = umask(0777);
	bool done = bind(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0;

	umask(before);
	return done;
}

void
master_set_unix(const char *address, unsigned mode, const struct master_user *u)
{
	master_give_to_user(u, path_of(address));
	if (chmod(path_of(address), mode) != 0)
		log_error("cannot set the mode of %s: %s", path_of(address), strerror(errno));
}

int
master_listen_unix(const char *address, unsigned mode, const struct master_user *u)
{
	const struct sockaddr_un sa = name_of(address);
	const char *why = make_way(&sa);
	int fd = -1;

	if (why == NULL) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (fd < 0 || !bind_closed(fd, &sa) || listen(fd, CHILD_BACKLOG) != 0)
			why = strerror(errno);
	}
	if (why == NULL) {
		master_set_unix(address, mode, u);
		return fd;
	}
	log_error("cannot listen on %s: %s", address, why);
	if (fd >= 0)
		close(fd);
	return -1;
}

void
master_remove_unix(const char *address)
{
	if (unlink(path_of(address)) != 0 && errno != ENOENT)
		log_warn("cannot remove %s: %s", path_of(address), strerror(errno));
}
