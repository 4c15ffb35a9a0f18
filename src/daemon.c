/* Leaving the terminal, the pid file, and the words to a service manager. */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

static int waiting_parent = -1; /* write end of the pipe that it reads */
static bool said_ready;

/* --- leaving the terminal -------------------------------------------------------------------- */

static void
become_null(int fd, int flags)
{
	int null = open("/dev/null", flags | O_CLOEXEC);

	if (null < 0 || dup2(null, fd) < 0)
		fatal("/dev/null: %s", strerror(errno));
	if (null != fd)
		close(null);
}

/* The parent: a byte says that the daemon is ready, an end that it is not there any more. */
static void
await_ready(int fd)
{
	char byte;
	ssize_t n;

	do
		n = read(fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	_exit(n == 1 ? 0 : 1);
}

/* Forks once more after setsid(): who is no session leader never gets a controlling terminal. */
void
daemon_detach(void)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) != 0)
		fatal("pipe: %s", strerror(errno));
	for (int generation = 0; generation < 2; generation++) {
		pid = fork();
		if (pid < 0)
			fatal("fork: %s", strerror(errno));
		if (pid > 0) {
			close(ends[1]);
			if (generation == 0)
				await_ready(ends[0]);
			_exit(0);
		}
		if (generation == 0 && setsid() < 0)
			fatal("setsid: %s", strerror(errno));
	}
	close(ends[0]);
	waiting_parent = ends[1];
	become_null(STDIN_FILENO, O_RDONLY);
}

void
daemon_in_child(void)
{
	if (waiting_parent < 0)
		return;
	become_null(STDOUT_FILENO, O_WRONLY);
	become_null(STDERR_FILENO, O_WRONLY);
	close(waiting_parent);
	waiting_parent = -1;
}

static void
release_parent(void)
{
	if (waiting_parent >= 0 && write(waiting_parent, "", 1) != 1)
		log_warn("nobody waited for the start: %s", strerror(errno));
	daemon_in_child(); /* the same for us */
}

/* --- the pid file ---------------------------------------------------------------------------- */

bool
daemon_write_pid(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	bool done = fd >= 0 && dprintf(fd, "%ld\n", (long)getpid()) > 0;
	int saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
	return done;
}

void
daemon_remove_pid(const char *path)
{
	FILE *f = fopen(path, "re");
	long pid = 0;

	if (f == NULL)
		return;
	if (fscanf(f, "%ld", &pid) == 1 && pid == (long)getpid())
		unlink(path);
	fclose(f);
}

/* --- the service manager --------------------------------------------------------------------- */

/* sd_notify(3): a datagram to the socket named by NOTIFY_SOCKET, "@" for the abstract name space. */
static void
tell(const char *text)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t n = name != NULL ? strlen(name) : 0;
	int fd;

	if (n < 2 || n >= sizeof(to.sun_path) || (*name != '/' && *name != '@'))
		return;
	memcpy(to.sun_path, name, n);
	if (*name == '@')
		to.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&to,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
		log_debug("cannot tell the service manager: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
}

void
daemon_ready(void)
{
	if (said_ready)
		return;
	said_ready = true;
	release_parent();
	tell("READY=1");
}

void
daemon_reloading(void)
{
	struct timespec ts;
	char text[64];

	clock_gettime(CLOCK_MONOTONIC, &ts);
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
	    (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000);
	tell(text);
}

void
daemon_reloaded(void)
{
	tell("READY=1");
}

void
daemon_stopping(void)
{
	tell("STOPPING=1");
}

void
daemon_watchdog(uint64_t now_ms)
{
	static uint64_t last;
	const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (us == NULL || (pid != NULL && strtol(pid, NULL, 10) != (long)getpid()))
		return;
	if (now_ms - last < strtoull(us, NULL, 10) / 2000)
		return;
	last = now_ms;
	tell("WATCHDOG=1");
}
