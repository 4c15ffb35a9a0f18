/* One child at a time: fork it, give it what it needs and take from it what it must not have, reap
 * it, replace it, kill it when it is silent. When children are wanted at all is master.c's. */
#include "master_private.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "clock.h"
#include "conf.h"
#include "daemon.h"
#include "gc.h"
#include "listener.h"
#include "log.h"
#include "shm.h"
#include "shm_metrics.h"
#include "xalloc.h"

enum { DELAY_FIRST_MS = 100, DELAY_LAST_MS = 10000 };

/* --- the fork -------------------------------------------------------------------------------- */

void
master_become_user(const struct master_user *u)
{
	if (u->change &&
	    (initgroups(u->name, u->gid) != 0 || setgid(u->gid) != 0 || setuid(u->uid) != 0))
		fatal("cannot become user %s: %s", u->name, strerror(errno));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		log_warn("cannot give up new privileges: %s", strerror(errno));
}

/* The signals stay blocked until child_begin() has armed its own. */
static void
default_signals(void)
{
	static const int caught[] = {SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGCHLD};

	for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		signal(caught[i], SIG_DFL);
	signal(SIGHUP, SIG_IGN); /* a terminal's hang-up reaches every process of its group */
	signal(SIGUSR2, SIG_IGN);
}

static const struct master_edition *
edition_of(const struct master *m, const struct master_child *c)
{
	return c->duty == DUTY_COMING ? m->next : m->current;
}

/* How many sockets of the same address stand before this one? */
static unsigned
ordinal_of(const struct master *m, unsigned socket)
{
	unsigned n = 0;

	for (unsigned i = 0; i < socket; i++)
		n += strcmp(m->sockets[i].address, m->sockets[socket].address) == 0;
	return n;
}

static bool
is_ours(const struct master *m, const struct master_child *c, unsigned socket)
{
	const struct conf *conf = edition_of(m, c)->conf;
	const char *address = m->sockets[socket].address;

	return !c->is_gc && master_wants(conf, address) &&
	    (master_is_unix(address) ||
		ordinal_of(m, socket) % conf->server.listeners == c->index);
}

/* Puts this child's listening sockets into fds and closes what is not its business. How many. */
static unsigned
sort_sockets(const struct master *m, const struct master_child *c, int *fds)
{
	unsigned n = 0;

	close(m->life_write);
	for (unsigned i = 0; i < m->nsockets; i++)
		if (is_ours(m, c, i))
			fds[n++] = m->sockets[i].fd;
		else
			close(m->sockets[i].fd);
	return n + master_share_metrics(m, c, fds + n);
}

static void
child_main(const struct master *m, const struct master_child *c, pid_t master)
{
	const struct master_edition *e = edition_of(m, c);
	int *fds = xcalloc(m->nsockets + m->nmetrics + 1, sizeof(*fds)); /* the process's, to its end */
	const struct child_start start = {
	    .conf = e->conf,
	    .shm = m->shm,
	    .number = c->number,
	    .generation = c->generation,
	    .life_fd = m->life_read,
	    .listen_fds = fds,
	    .nlisten = sort_sockets(m, c, fds),
	    .master = master,
	    .ready_fd = m->ready_fd,
	    .tls = e->tls,
	    .users = e->users,
	    .credentials = e->credentials,
	    .first = m->phase == MASTER_RECOVERING,
	    .failures = c->failures,
	};
	int status;

	daemon_in_child();
	log_set_role(c->role);
	log_set_level(e->level);
	edition_use_log(e);
	prctl(PR_SET_NAME, c->role);
	default_signals();
	master_become_user(&e->user);
	child_confine(&start);
	status = c->is_gc ? gc_run(&start) : listener_run(&start);
	log_flush();
	exit(status);
}

static void
child_failed(struct master *m, struct master_child *c, uint64_t now)
{
	shm_child_closed(m->shm, c->number);
	c->pid = 0;
	c->generation = 0;
	c->respawn_at = now + master_respawn_delay(c->failures);
	if (c->duty == DUTY_RETIRED)
		c->duty = DUTY_NONE;
}

static void
child_fork(struct master *m, struct master_child *c, uint64_t now)
{
	pid_t master = getpid();

	c->generation = shm_child_open(m->shm, c->number);
	shm_child_set_state(m->shm, c->number, CHILD_STARTING);
	shm_heartbeat(m->shm, c->number, now);
	c->forked_at = now;
	c->was_ready = c->killed = c->retired = c->strange = false;
	c->pid = fork();
	if (c->pid == 0)
		child_main(m, c, master);
	if (c->pid > 0) {
		log_info("%s is pid %d", c->role, (int)c->pid);
		return;
	}
	log_error("cannot fork %s: %s", c->role, strerror(errno));
	c->failures++;
	child_failed(m, c, now);
}

/* --- deaths ---------------------------------------------------------------------------------- */

static struct master_child *
child_of_pid(struct master *m, pid_t pid)
{
	for (unsigned i = 0; i < m->nchildren; i++)
		if (m->children[i].pid == pid)
			return &m->children[i];
	return NULL;
}

static bool
is_expected(const struct master *m, const struct master_child *c)
{
	return m->phase >= MASTER_DRAINING || c->duty == DUTY_RETIRED || c->retired;
}

static void
count_death(const struct master *m, const struct master_child *c, int status)
{
	if (is_expected(m, c) && (WIFEXITED(status) || c->killed))
		return;
	shm_metric_death(m->shm, c->is_gc,
	    c->killed                 ? METRIC_SILENT
		: WIFSIGNALED(status) ? METRIC_CRASHED
				      : METRIC_EXITED);
}

static void
log_death(const struct master *m, const struct master_child *c, int status)
{
	bool expected = is_expected(m, c);

	if (WIFSIGNALED(status))
		log_error("%s, pid %d, was killed by signal %d (%s)", c->role, (int)c->pid,
		    WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) != 0 || !expected)
		log_error(
		    "%s, pid %d, exited with status %d", c->role, (int)c->pid, WEXITSTATUS(status));
	else
		log_info("%s, pid %d, has ended", c->role, (int)c->pid);
}

/* Not by a signal that somebody sends to end it. */
static bool
has_crashed(int status)
{
	int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	return sig == SIGSEGV || sig == SIGBUS || sig == SIGABRT || sig == SIGFPE || sig == SIGILL;
}

static void
child_died(struct master *m, struct master_child *c, int status, uint64_t now)
{
	/* then it is replaced at once: clients wait on its socket */
	bool well = master_child_is_ready(m, c) || c->retired;

	log_death(m, c, status);
	count_death(m, c, status);
	if (has_crashed(status) || (c->killed && !is_expected(m, c)))
		master_note_crash(m, now);
	c->failures = well ? 0 : c->failures + 1;
	child_failed(m, c, now);
}

void
master_reap(struct master *m, uint64_t now)
{
	struct master_child *c;
	int status;
	pid_t pid;

	/* As process 1 of a container we also get orphans, who are no child of ours. */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == m->tester)
			master_tested(m, status);
		else if (pid == m->doubt.trial)
			master_tried(m, status);
		else if ((c = child_of_pid(m, pid)) != NULL)
			child_died(m, c, status, now);
}

uint64_t
master_respawn_delay(unsigned failures)
{
	uint64_t delay = DELAY_FIRST_MS;

	if (failures == 0)
		return 0;
	while (--failures > 0 && delay < DELAY_LAST_MS)
		delay *= 2;
	return delay < DELAY_LAST_MS ? delay : DELAY_LAST_MS;
}

static bool
is_wanted(const struct master *m, const struct master_child *c)
{
	return c->pid == 0 && (c->duty == DUTY_SERVING || c->duty == DUTY_COMING) &&
	    (m->phase == MASTER_SERVING || (m->phase == MASTER_RECOVERING && c->is_gc));
}

void
master_respawn(struct master *m, uint64_t now)
{
	for (unsigned i = 0; i < m->nchildren; i++)
		if (is_wanted(m, &m->children[i]) && m->children[i].respawn_at <= now)
			child_fork(m, &m->children[i], now);
}

uint64_t
master_next_respawn(const struct master *m, uint64_t latest)
{
	for (unsigned i = 0; i < m->nchildren; i++)
		if (is_wanted(m, &m->children[i]) && m->children[i].respawn_at < latest)
			latest = m->children[i].respawn_at;
	return latest;
}

/* --- the watchdog ---------------------------------------------------------------------------- */

bool
master_child_is_ready(const struct master *m, const struct master_child *c)
{
	enum child_state s = shm_child_state(m->shm, c->number);

	return c->was_ready || (c->pid > 0 && (s == CHILD_READY || s == CHILD_DRAINING));
}

bool
master_all_ready(const struct master *m, enum master_duty duty)
{
	for (unsigned i = 0; i + 1 < m->nchildren; i++)
		if (m->children[i].duty == duty &&
		    (m->children[i].pid <= 0 || !master_child_is_ready(m, &m->children[i])))
			return false;
	return master_count(m, duty) > 0;
}

bool
master_overdue(
    bool ready, uint64_t since_fork, uint64_t since_heartbeat, uint64_t heartbeat_timeout)
{
	return ready ? since_heartbeat > heartbeat_timeout : since_fork > MASTER_START_MS;
}

static uint64_t
since(uint64_t now, uint64_t then)
{
	return now > then ? now - then : 0; /* the child's clock may have been read after ours */
}

static uint64_t
later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void
watch(struct master *m, struct master_child *c, uint64_t now)
{
	uint64_t age = since(now, later(c->forked_at, m->watch_from));
	uint64_t silence = since(now, later(shm_last_heartbeat(m->shm, c->number), m->watch_from));

	c->was_ready = master_child_is_ready(m, c);
	if (c->killed ||
	    !master_overdue(c->was_ready, age, silence, m->current->conf->server.heartbeat_timeout))
		return;
	if (c->was_ready)
		log_error("%s, pid %d, has been silent for %llu ms: killing it", c->role,
		    (int)c->pid, (unsigned long long)silence);
	else
		log_error("%s, pid %d, is not ready after %llu ms: killing it", c->role,
		    (int)c->pid, (unsigned long long)age);
	kill(c->pid, SIGKILL);
	c->killed = true;
}

/* Draining takes what its own limit allows. */
static void
watch_retired(struct master_child *c, uint64_t now)
{
	if (c->killed || now < c->end_by)
		return;
	log_warn("%s, pid %d, still had transfers after server.drainTimeout: killing it", c->role,
	    (int)c->pid);
	kill(c->pid, SIGKILL);
	c->killed = true;
}

void
master_watchdog(struct master *m, uint64_t now)
{
	for (unsigned i = 0; i < m->nchildren; i++) {
		struct master_child *c = &m->children[i];

		if (c->pid > 0 && c->duty == DUTY_RETIRED)
			watch_retired(c, now);
		if (c->pid > 0 && !c->strange)
			watch(m, c, now);
	}
}

/* --- signals to children --------------------------------------------------------------------- */

struct master_child *
master_gc(const struct master *m)
{
	return &m->children[m->nchildren - 1];
}

static void
send_signal(struct master_child *c, int sig)
{
	if (c->pid <= 0)
		return;
	kill(c->pid, sig);
	if (sig == SIGKILL)
		c->killed = true;
}

void
master_signal_listeners(struct master *m, int sig)
{
	for (unsigned i = 0; i + 1 < m->nchildren; i++)
		send_signal(&m->children[i], sig);
}

void
master_signal_gc(struct master *m, int sig)
{
	send_signal(master_gc(m), sig);
}

unsigned
master_listeners_alive(const struct master *m)
{
	unsigned n = 0;

	for (unsigned i = 0; i + 1 < m->nchildren; i++)
		n += m->children[i].pid > 0;
	return n;
}

/* --- places ---------------------------------------------------------------------------------- */

unsigned
master_count(const struct master *m, enum master_duty duty)
{
	unsigned n = 0;

	for (unsigned i = 0; i + 1 < m->nchildren; i++)
		n += m->children[i].duty == duty;
	return n;
}

void
master_place(struct master *m, unsigned n, enum master_duty duty)
{
	unsigned placed = 0;

	for (unsigned i = 0; i + 1 < m->nchildren && placed < n; i++) {
		struct master_child *c = &m->children[i];

		if (c->duty != DUTY_NONE)
			continue;
		*c = (struct master_child){.number = i, .duty = duty, .index = placed};
		snprintf(c->role, sizeof(c->role), "listener %u", placed++);
	}
	if (placed < n)
		panic("there is no place for %u listeners", n - placed);
}

void
master_retire(struct master_child *c, uint64_t end_by)
{
	if (c->pid > 0) {
		kill(c->pid, SIGQUIT);
		c->duty = DUTY_RETIRED;
		c->end_by = end_by;
	} else {
		c->duty = DUTY_NONE;
	}
}

void
master_retire_gc(struct master *m)
{
	struct master_child *gc = master_gc(m);

	gc->retired = gc->pid > 0;
	send_signal(gc, SIGQUIT);
}
