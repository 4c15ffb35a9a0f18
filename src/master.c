/* The master's set-up, its loop and the phases of a run. Signals set flags and nothing else; the
 * loop acts on them in a fixed order. How a single child lives and dies is in master_child.c. */
#include "master.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "conf.h"
#include "log.h"
#include "master_private.h"
#include "shm.h"
#include "store.h"
#include "tls.h"
#include "xalloc.h"

enum {
	TURN_MS = 1000,        /* the loop turns at least so often, for the watchdog */
	STOOD_STILL_MS = 4000, /* after such a turn the master was suspended, stopped, or starved */
	LOCK_WAIT_MS = 5000,   /* for the killed children of an earlier run to be gone */
};

const char *
master_phase_name(enum master_phase p)
{
	static const char *const names[] = {
	    "recovering", "serving", "draining", "closing", "stopped"};

	return names[p];
}

/* --- signals --------------------------------------------------------------------------------- */

static volatile sig_atomic_t caught_stops, caught_hup, caught_usr1, caught_usr2;

static void
on_signal(int sig)
{
	if (sig == SIGTERM || sig == SIGINT)
		caught_stops++;
	else if (sig == SIGHUP)
		caught_hup = 1;
	else if (sig == SIGUSR1)
		caught_usr1 = 1;
	else if (sig == SIGUSR2)
		caught_usr2 = 1;
}

/* They are blocked but in ppoll(), so the loop reads the flags undisturbed and no signal is missed
 * before it sleeps. */
static void
catch_signals(void)
{
	static const int ours[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};
	struct sigaction act = {.sa_handler = on_signal};
	sigset_t blocked;

	sigemptyset(&blocked);
	sigemptyset(&act.sa_mask);
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		sigaddset(&blocked, ours[i]);
		sigaction(ours[i], &act, NULL);
	}
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_SETMASK, &blocked, NULL);
}

static bool
take_flag(volatile sig_atomic_t *flag)
{
	bool was = *flag != 0;

	*flag = 0;
	return was;
}

/* --- set-up ---------------------------------------------------------------------------------- */

static void
find_user(struct master_user *u, const char *name)
{
	const struct passwd *pw;

	if (name == NULL)
		return;
	errno = 0;
	pw = getpwnam(name);
	if (pw == NULL)
		fatal("user %s: %s", name, errno != 0 ? strerror(errno) : "there is no such user");
	if (geteuid() != 0) {
		if (geteuid() != pw->pw_uid)
			log_warn(
			    "user %s: only root can become another user; going on as we are", name);
		return;
	}
	u->change = true;
	u->name = xstrdup(pw->pw_name);
	u->uid = pw->pw_uid;
	u->gid = pw->pw_gid;
}

/* The children reopen and write what the master makes as root. */
static void
give_to_user(const struct master_user *u, const char *path)
{
	if (u->change && chown(path, u->uid, u->gid) != 0)
		log_warn("cannot give %s to user %s: %s", path, u->name, strerror(errno));
}

static void
open_log(const struct master *m)
{
	const char *path = m->conf->log.path;

	if (path == NULL)
		return;
	if (!log_open_file(path))
		fatal("cannot open the log %s: %s", path, strerror(errno));
	give_to_user(&m->user, path);
}

static void
lock_data_path(struct master *m)
{
	const char *path = m->conf->data_path;
	bool is_new = access(path, F_OK) != 0 && errno == ENOENT;
	pid_t holder = 0;

	m->lock_fd = store_lock(path, LOCK_WAIT_MS, &holder);
	if (m->lock_fd >= 0) {
		if (is_new && m->user.change && fchown(m->lock_fd, m->user.uid, m->user.gid) == 0)
			give_to_user(&m->user, path);
		return;
	}
	if (errno == EWOULDBLOCK && holder > 0)
		fatal("dataPath %s is in use by pid %d", path, (int)holder);
	if (errno == EWOULDBLOCK)
		fatal("dataPath %s is in use by another process", path);
	if (errno != EROFS && errno != ENOSPC && errno != EDQUOT && errno != EIO)
		fatal("dataPath %s: %s", path, strerror(errno));
	/* Clients are not to suffer from a sick disk: what cannot be stored is passed through. */
	log_error("dataPath %s cannot be locked: %s; going on without", path, strerror(errno));
}

static void
raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		log_warn("cannot raise the limit of open files: %s", strerror(errno));
}

static void
load_tls(struct master *m)
{
	char *error = NULL;

	if (m->conf->server.tls.cert_path == NULL)
		return;
	m->tls =
	    tls_server_new(m->conf->server.tls.cert_path, m->conf->server.tls.key_path, &error);
	if (m->tls == NULL)
		fatal("server.tls: %s", error);
}

static void
make_shared(struct master *m)
{
	int life[2];

	m->shm = shm_create(m->nchildren - 1, m->conf->server.workers);
	if (m->shm == NULL)
		fatal("cannot make shared memory: %s", strerror(errno));
	m->ready_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (m->ready_fd < 0 || pipe2(life, O_CLOEXEC | O_NONBLOCK) != 0)
		fatal("cannot make the pipe to the children: %s", strerror(errno));
	m->life_read = life[0];
	m->life_write = life[1];
}

static void
make_children(struct master *m)
{
	unsigned listeners = m->nchildren - 1;
	int fds[SHM_MAX_LISTENERS];

	if (!master_listen(m->conf->server.address, listeners, fds, m->bound))
		exit(1);
	for (unsigned i = 0; i < m->nchildren; i++) {
		struct master_child *c = &m->children[i];

		c->number = i;
		c->is_gc = i == listeners;
		c->listen_fd = c->is_gc ? -1 : fds[i];
		if (c->is_gc)
			snprintf(c->role, sizeof(c->role), "gc");
		else
			snprintf(c->role, sizeof(c->role), "listener %u", i);
	}
}

/* No option is ignored in silence. */
static void
warn_of_unused(const struct conf *conf)
{
	const struct {
		bool set;
		const char *name;
	} options[] = {
		{ conf->metrics.address != NULL, "metrics" },
		{ conf->server.check_grace > 0, "server.checkGrace" },
		{ conf->server.nregistries > 0, "server.registries" },
		{ conf->gc.disk_max_size > 0, "gc.disk.maxSize, but for what a single object may be," },
		{ conf->gc.disk_min_free > 0, "gc.disk.minFree" },
		{ conf->gc.layers.check_sha, "gc.layers.checkSHA" },
		{ conf->gc.layers.max_age > 0 || conf->gc.layers.max_unused > 0, "gc.layers.maxAge and maxUnused" },
		{ conf->gc.manifests.max_age > 0 || conf->gc.manifests.max_unused > 0,
		    "gc.manifests.maxAge and maxUnused" },
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if (options[i].set)
			log_warn("%s is not acted on by this version", options[i].name);
}

static void
set_up(struct master *m, const struct conf *conf)
{
	m->conf = conf;
	m->nchildren = conf->server.listeners + 1;
	m->children = xcalloc(m->nchildren, sizeof(*m->children));
	if (conf->server.listeners > SHM_MAX_LISTENERS)
		fatal("server.listeners: %u is more than %d", conf->server.listeners,
		    SHM_MAX_LISTENERS);
	catch_signals();
	find_user(&m->user, conf->user);
	open_log(m);
	raise_file_limit();
	lock_data_path(m);
	load_tls(m);
	make_children(m);
	make_shared(m);
	warn_of_unused(conf);
	m->last_turn = clock_ms();
}

static void
close_listening(struct master *m)
{
	for (unsigned i = 0; i < m->nchildren; i++) {
		if (m->children[i].listen_fd >= 0)
			close(m->children[i].listen_fd);
		m->children[i].listen_fd = -1;
	}
}

static void
tear_down(struct master *m)
{
	close_listening(m);
	close(m->life_read);
	close(m->life_write);
	close(m->ready_fd);
	shm_destroy(&m->shm);
	tls_server_free(&m->tls);
	if (m->lock_fd >= 0)
		close(m->lock_fd);
	free(m->children);
	free(m->user.name);
}

/* --- phases ---------------------------------------------------------------------------------- */

static void
set_phase(struct master *m, enum master_phase p)
{
	log_debug("%s -> %s", master_phase_name(m->phase), master_phase_name(p));
	m->phase = p;
}

/* The listeners wait for recovery, but not for ever: without gc the cache serves as well. */
static void
advance_recovering(struct master *m)
{
	const struct master_child *gc = master_gc(m);

	if (gc->pid > 0 && master_child_is_ready(m, gc)) {
		set_phase(m, MASTER_SERVING);
	} else if (gc->failures >= MASTER_GC_TRIES) {
		log_error("gc died %u times before it was ready: starting the listeners without it",
		    gc->failures);
		set_phase(m, MASTER_SERVING);
	}
}

static void
advance_serving(struct master *m)
{
	if (m->announced)
		return;
	for (unsigned i = 0; i + 1 < m->nchildren; i++)
		if (!master_child_is_ready(m, &m->children[i]))
			return;
	log_info("ready: %u listeners on %s", m->nchildren - 1, m->bound);
	m->announced = true;
}

/* Only after the listeners: gc marks the store as cleanly closed. */
static void
begin_closing(struct master *m, uint64_t now)
{
	master_signal_gc(m, SIGTERM);
	m->deadline = now + MASTER_GC_STOP_MS;
	set_phase(m, MASTER_CLOSING);
}

static void
advance_draining(struct master *m, uint64_t now)
{
	unsigned alive = master_listeners_alive(m);

	if (alive == 0) {
		begin_closing(m, now);
	} else if (now >= m->deadline && m->deadline != 0) {
		log_warn("%u listeners still had transfers after server.drainTimeout: killing them",
		    alive);
		master_signal_listeners(m, SIGKILL);
		m->deadline = 0;
	}
}

static void
advance_closing(struct master *m, uint64_t now)
{
	if (master_gc(m)->pid == 0) {
		set_phase(m, MASTER_STOPPED);
	} else if (now >= m->deadline && m->deadline != 0) {
		log_warn("gc did not end in %d ms: killing it", MASTER_GC_STOP_MS);
		master_signal_gc(m, SIGKILL);
		m->deadline = 0;
	}
}

static void
advance_once(struct master *m, uint64_t now)
{
	switch (m->phase) {
	case MASTER_RECOVERING:
		advance_recovering(m);
		break;
	case MASTER_SERVING:
		advance_serving(m);
		break;
	case MASTER_DRAINING:
		advance_draining(m, now);
		break;
	case MASTER_CLOSING:
		advance_closing(m, now);
		break;
	case MASTER_STOPPED:
		break;
	}
}

/* A phase may be over before it began: nobody to drain, no gc to close. */
static void
advance(struct master *m, uint64_t now)
{
	enum master_phase before;

	do {
		before = m->phase;
		advance_once(m, now);
	} while (m->phase != before);
}

/* --- what signals ask for -------------------------------------------------------------------- */

static void
begin_draining(struct master *m, uint64_t now)
{
	log_info("stopping: transfers may go on for %llu ms",
	    (unsigned long long)m->conf->server.drain_timeout);
	close_listening(m);
	master_signal_listeners(m, SIGTERM);
	m->deadline = now + m->conf->server.drain_timeout;
	set_phase(m, MASTER_DRAINING);
}

static void
stop_at_once(struct master *m)
{
	log_warn("asked to stop a second time: killing all children");
	master_signal_listeners(m, SIGKILL);
	master_signal_gc(m, SIGKILL);
	exit(1);
}

static void
reopen_log(struct master *m)
{
	if (m->conf->log.path == NULL)
		return;
	if (!log_open_file(m->conf->log.path))
		log_error("cannot reopen %s: %s", m->conf->log.path, strerror(errno));
	else
		give_to_user(&m->user, m->conf->log.path);
	master_signal_listeners(m, SIGUSR1);
	master_signal_gc(m, SIGUSR1);
}

static void
obey_signals(struct master *m, uint64_t now)
{
	if (take_flag(&caught_usr1))
		reopen_log(m);
	if (take_flag(&caught_hup))
		log_warn("SIGHUP is not supported by this version");
	if (take_flag(&caught_usr2))
		log_warn("SIGUSR2 is not supported by this version");
	m->stops += (unsigned)caught_stops;
	caught_stops = 0;
	if (m->stops > 0 && m->phase < MASTER_DRAINING)
		begin_draining(m, now);
	if (m->stops > 1)
		stop_at_once(m);
}

/* --- the loop -------------------------------------------------------------------------------- */

/* Sleeps until a signal, a child that became ready, or the next thing that is due. */
static void
wait_for_work(const struct master *m, uint64_t now)
{
	uint64_t until = master_next_respawn(m, now + TURN_MS), left, count;
	struct pollfd ready = {.fd = m->ready_fd, .events = POLLIN};
	struct timespec timeout;
	sigset_t none;

	if (m->deadline != 0 && m->deadline < until)
		until = m->deadline;
	left = until > now ? until - now : 0;
	timeout.tv_sec = (time_t)(left / 1000);
	timeout.tv_nsec = (long)(left % 1000) * 1000000;
	sigemptyset(&none);
	if (ppoll(&ready, 1, &timeout, &none) > 0 && read(m->ready_fd, &count, sizeof(count)) < 0 &&
	    errno != EAGAIN)
		panic("cannot read the eventfd of the children: %s", strerror(errno));
}

/* Heartbeats are on a clock that goes on while the machine is suspended, when no child can beat. */
static void
note_turn(struct master *m, uint64_t now)
{
	if (now - m->last_turn > STOOD_STILL_MS)
		m->watch_from = now;
	m->last_turn = now;
}

/* False: the run is over. */
static bool
turn(struct master *m)
{
	uint64_t now = clock_ms();

	note_turn(m, now);
	master_reap(m, now);
	master_respawn(m, now);
	master_watchdog(m, now);
	obey_signals(m, now);
	advance(m, now);
	return m->phase != MASTER_STOPPED;
}

int
master_run(const struct conf *conf, const char *conf_path)
{
	struct master m = {.phase = MASTER_RECOVERING, .lock_fd = -1};

	log_set_role("master");
	set_up(&m, conf);
	log_info("starting with %s, dataPath %s", conf_path, conf->data_path);
	while (turn(&m))
		wait_for_work(&m, clock_ms());
	tear_down(&m);
	log_info("stopped");
	return 0;
}
