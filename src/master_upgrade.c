/* Becoming another program without a pause (USR2): the new program tries the configuration out, then
 * this process executes it. Sockets, lock, shared memory and children stay; what they are is handed
 * over as text in a memfd, whose number is in the environment. The new program then changes to its
 * own listeners as it would for another configuration.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "conf.h"
#include "log.h"
#include "master_private.h"
#include "shm.h"
#include "version.h"
#include "xalloc.h"

static const char variable[] = "REGISTRY_CACHE_UPGRADE";
enum { STATE_MAX = 65536 }; /* bytes of the text */

/* --- trying out ------------------------------------------------------------------------------ */

/* Runs `program -t -c file`. */
static void
run_test(const struct master *m)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	execl(m->program, m->start.arguments[0], "-t", "-c", m->start.conf_path, (char *)NULL);
	log_error("cannot run %s: %s", m->program, strerror(errno));
	_exit(127);
}

static void
begin(struct master *m)
{
	m->want_upgrade = false;
	if (m->program == NULL || m->phase >= MASTER_DRAINING) {
		log_error("the program is not changed: %s",
		    m->program == NULL ? "where it is was not known at the start"
				       : "the cache is stopping");
		return;
	}
	log_info("trying out %s", m->program);
	m->tester = fork();
	if (m->tester == 0)
		run_test(m);
	if (m->tester > 0)
		return;
	log_error("cannot fork: %s", strerror(errno));
	m->tester = 0;
}

static void become(struct master *m);

void
master_tested(struct master *m, int status)
{
	m->tester = 0;
	if (status == 0)
		become(m);
	else
		log_error("%s does not accept %s: the program is not changed", m->program,
		    m->start.conf_path);
}

/* A start or a change of the configuration is brought to its end first. */
static bool
is_busy(const struct master *m)
{
	return m->phase < MASTER_SERVING || !m->announced || m->next != NULL || m->changed;
}

void
master_upgrade(struct master *m)
{
	bool stops = m->phase >= MASTER_DRAINING;

	if (m->want_upgrade && m->tester == 0 && (stops || !is_busy(m)))
		begin(m);
}

/* --- handing over ---------------------------------------------------------------------------- */

static void
keep_over_exec(int fd, bool keep)
{
	if (fd >= 0 && fcntl(fd, F_SETFD, keep ? 0 : FD_CLOEXEC) != 0)
		log_error("fcntl: %s", strerror(errno));
}

static void
keep_all(const struct master *m, bool keep)
{
	const int fds[] = {m->lock_fd, m->life_read, m->life_write, m->ready_fd, shm_fd(m->shm)};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		keep_over_exec(fds[i], keep);
	for (unsigned i = 0; i <= shm_gc(m->shm); i++)
		keep_over_exec(shm_wake_fd(m->shm, i), keep);
	for (unsigned i = 0; i < m->nsockets; i++)
		keep_over_exec(m->sockets[i].fd, keep);
	for (unsigned i = 0; i < m->nmetrics; i++)
		keep_over_exec(m->metrics[i].fd, keep);
}

static void
write_state(const struct master *m, FILE *to)
{
	fprintf(to, "data %s\n", m->current->conf->data_path);
	fprintf(to, "lock %d\nlife %d %d\nready %d\nshm %d\n", m->lock_fd, m->life_read,
	    m->life_write, m->ready_fd, shm_fd(m->shm));
	for (unsigned i = 0; i < m->nsockets; i++)
		fprintf(to, "socket %d %s %s\n", m->sockets[i].fd, m->sockets[i].bound,
		    m->sockets[i].address);
	for (unsigned i = 0; i < m->nmetrics; i++)
		fprintf(to, "metrics %d %s %s\n", m->metrics[i].fd, m->metrics[i].bound,
		    m->metrics[i].address);
	for (unsigned i = 0; i < m->nchildren; i++)
		if (m->children[i].pid > 0)
			fprintf(to, "child %u %d %u %d\n", i, (int)m->children[i].pid,
			    m->children[i].index, (int)m->children[i].duty);
}

/* A memfd with the state, not close-on-exec; -1: said why. */
static int
make_state(const struct master *m)
{
	char *text = NULL;
	size_t size = 0;
	FILE *to = open_memstream(&text, &size);
	int fd = memfd_create("registry-cache-upgrade", 0);
	bool written;

	if (to == NULL)
		panic("no memory for the state");
	write_state(m, to);
	written = fclose(to) == 0 && fd >= 0 && size < STATE_MAX &&
	    write(fd, text, size) == (ssize_t)size;
	free(text);
	if (written)
		return fd;
	log_error("cannot write down the state: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Returns only when it failed; then all is as it was. */
static void
become(struct master *m)
{
	char number[16];
	int fd = make_state(m);

	if (fd < 0)
		return;
	snprintf(number, sizeof(number), "%d", fd);
	setenv(variable, number, 1);
	keep_all(m, true);
	log_info("becoming %s", m->program);
	execv(m->program, m->start.arguments);
	log_error("cannot execute %s: %s", m->program, strerror(errno));
	keep_all(m, false);
	unsetenv(variable);
	close(fd);
}

/* --- taking over ----------------------------------------------------------------------------- */

/* The text in the memfd of that number, NUL-terminated; NULL: it is none of ours. Owned by the
 * caller. */
static char *
read_state(const char *number)
{
	char *end, *text;
	long fd = strtol(number, &end, 10);
	struct stat st;
	ssize_t n;

	if (*number == '\0' || *end != '\0' || fd < 0 || fd > INT32_MAX ||
	    fstat((int)fd, &st) != 0 || st.st_size >= STATE_MAX)
		return NULL;
	text = xcalloc(1, (size_t)st.st_size + 1);
	n = pread((int)fd, text, (size_t)st.st_size, 0);
	close((int)fd);
	if (n == st.st_size)
		return text;
	free(text);
	return NULL;
}

static void
take_socket(struct master *m, const char *line)
{
	char bound[MASTER_BOUND_SIZE], address[512];
	struct master_socket *s;
	int fd;

	if (sscanf(line, "socket %d %127s %511[^\n]", &fd, bound, address) != 3)
		fatal("the state of the program before this one has a bad line: %s", line);
	m->sockets = xrealloc(m->sockets, (m->nsockets + 1) * sizeof(*m->sockets));
	s = &m->sockets[m->nsockets++];
	s->fd = fd;
	s->address = xstrdup(address);
	memcpy(s->bound, bound, sizeof(bound));
}

static void
take_child(struct master *m, const char *line)
{
	struct master_child *c;
	unsigned number, index;
	int pid, duty;

	if (sscanf(line, "child %u %d %u %d", &number, &pid, &index, &duty) != 4 ||
	    number >= m->nchildren || duty < DUTY_NONE || duty > DUTY_RETIRED)
		fatal("the state of the program before this one has a bad line: %s", line);
	c = &m->children[number];
	c->number = number;
	c->index = index;
	c->duty = (enum master_duty)duty;
	c->pid = pid;
	c->forked_at = clock_ms();
	c->end_by = c->forked_at + m->current->conf->server.drain_timeout;
	if (!c->is_gc)
		snprintf(c->role, sizeof(c->role), "listener %u", index);
}

/* The lock and the children are of that folder. */
static void
take_data_path(struct master *m, const char *path)
{
	struct conf *conf = m->current->conf;

	if (strcmp(conf->data_path, path) == 0)
		return;
	log_error("dataPath cannot change from %s to %s in a running cache: it stays as it is until a start", path,
	    conf->data_path);
	free(conf->data_path);
	conf->data_path = xstrdup(path);
}

static void
take_line(struct master *m, const char *line, int *shm)
{
	bool known = sscanf(line, "lock %d", &m->lock_fd) == 1 ||
	    sscanf(line, "life %d %d", &m->life_read, &m->life_write) == 2 ||
	    sscanf(line, "ready %d", &m->ready_fd) == 1 || sscanf(line, "shm %d", shm) == 1;

	if (known)
		return;
	if (strncmp(line, "data ", 5) == 0)
		take_data_path(m, line + 5);
	else if (strncmp(line, "socket ", 7) == 0)
		take_socket(m, line);
	else if (strncmp(line, "child ", 6) == 0)
		take_child(m, line);
	else if (!master_inherit_metrics(m, line)) /* of a later version */
		log_warn("the program before this one left what is not known here: %s", line);
}

static void
take_state(struct master *m, char *text, int *shm)
{
	char *line, *rest = text;

	while ((line = strsep(&rest, "\n")) != NULL)
		if (*line != '\0')
			take_line(m, line, shm);
	if (m->nsockets == 0)
		fatal("the program before this one left no socket");
}

/* Their memory is not ours: nobody else may write to the store before they are gone. */
static void
retire_all(struct master *m)
{
	for (unsigned i = 0; i < m->nchildren; i++) {
		struct master_child *c = &m->children[i];

		c->strange = c->pid > 0;
		if (c->is_gc)
			master_retire_gc(m);
		else
			master_retire(c, c->end_by);
	}
}

bool
master_is_heir(void)
{
	return getenv(variable) != NULL;
}

bool
master_inherit(struct master *m, bool *strange)
{
	const char *number = getenv(variable);
	char *text = number != NULL ? read_state(number) : NULL;
	int shm = -1;

	*strange = false;
	unsetenv(variable);
	if (text == NULL)
		return false;
	take_state(m, text, &shm);
	free(text);
	m->shm = shm_adopt(shm);
	if (m->shm != NULL) {
		keep_all(m, false);
		m->want_reload = true;
		log_info("this is version " PACKAGE_VERSION " on the sockets of the program before");
		return true;
	}
	log_warn("the program before this one has other shared memory (%s): its children end first",
	    strerror(errno));
	*strange = true;
	retire_all(m);
	return false;
}
