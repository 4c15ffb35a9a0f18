/* Where lines go: one write(2) a line, so that those of several processes do not mix; access lines are
 * gathered and written in blocks of whole lines. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "log_private.h"

enum { BLOCK = 32768 };

static int out = STDERR_FILENO;
static bool to_syslog;
static char block[BLOCK];
static size_t used;

static const struct {
	const char *name;
	int facility;
} facilities[] = {
    {"daemon", LOG_DAEMON},
    {"user", LOG_USER},
    {"local0", LOG_LOCAL0},
    {"local1", LOG_LOCAL1},
    {"local2", LOG_LOCAL2},
    {"local3", LOG_LOCAL3},
    {"local4", LOG_LOCAL4},
    {"local5", LOG_LOCAL5},
    {"local6", LOG_LOCAL6},
    {"local7", LOG_LOCAL7},
};

/* --- changing it ----------------------------------------------------------------------------- */

static void
change_to(int fd)
{
	log_out_flush();
	if (to_syslog)
		closelog();
	to_syslog = false;
	if (out != STDERR_FILENO)
		close(out);
	out = fd;
}

bool
log_open_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);

	if (fd < 0)
		return false;
	change_to(fd);
	return true;
}

void
log_to_file(int fd)
{
	change_to(fd);
}

bool
log_open_syslog(const char *facility)
{
	for (size_t i = 0; i < sizeof(facilities) / sizeof(facilities[0]); i++) {
		if (strcmp(facilities[i].name, facility) != 0)
			continue;
		change_to(STDERR_FILENO);
		openlog("registry-cache", LOG_NDELAY | LOG_PID, facilities[i].facility);
		to_syslog = true;
		return true;
	}
	return false;
}

void
log_to_stderr(void)
{
	change_to(STDERR_FILENO);
}

/* --- writing --------------------------------------------------------------------------------- */

static void
write_all(const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(out, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* there is nowhere left to complain to */
		data += n;
		len -= (size_t)n;
	}
}

void
log_out_line(enum log_level level, const char *line, size_t n)
{
	static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG, LOG_DEBUG};

	if (to_syslog)
		syslog(priorities[level], "%.*s", (int)(n - 1), line);
	else
		write_all(line, n);
}

void
log_out_gather(const char *line, size_t n)
{
	if (to_syslog) {
		log_out_line(LOG_L_INFO, line, n);
		return;
	}
	if (n > sizeof(block) - used)
		log_out_flush();
	memcpy(block + used, line, n);
	used += n;
}

void
log_out_flush(void)
{
	write_all(block, used);
	used = 0;
}
