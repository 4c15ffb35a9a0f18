/* The master's set-up, its loop and the phases of a run. Signals set flags and nothing else; the
 * loop acts on them in a fixed order. How a single child lives and dies is in master_child.c. */
#include "master.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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
#include "conf_auth.h"
#include "conf_tls.h"
#include "daemon.h"
#include "log.h"
#include "master_private.h"
#include "shm.h"
#include "shm_disk.h"
#include "shm_metrics.h"
#include "shm_tickets.h"
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
	    "waiting", "recovering", "serving", "draining", "closing", "stopped"};

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

/* The children reopen and write what the master makes as root. */
void
master_give_to_user(const struct master_user *u, const char *path)
{
	if (u->change && chown(path, u->uid, u->gid) != 0)
		log_warn("cannot give %s to user %s: %s", path, u->name, strerror(errno));
}

/* A later start as that user locks it, too. On a read-only file system the lock may be the folder. */
static void
give_lock_to_user(const struct master *m)
{
	const struct master_user *u = &m->current->user;
	struct stat st;

	if (u->change && fstat(m->lock_fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    fchown(m->lock_fd, u->uid, u->gid) != 0)
		log_warn("cannot give the lock to user %s: %s", u->name, strerror(errno));
}

static void
lock_data_path(struct master *m)
{
	const char *path = m->current->conf->data_path;
	bool is_new = access(path, F_OK) != 0 && errno == ENOENT;
	pid_t holder = 0;

	m->lock_fd = store_lock(path, LOCK_WAIT_MS, &holder);
	if (m->lock_fd >= 0) {
		give_lock_to_user(m);
		if (is_new)
			master_give_to_user(&m->current->user, path);
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
make_shared(struct master *m)
{
	int life[2];

	m->shm = shm_create(SHM_MAX_LISTENERS, SHM_MAX_FILLS);
	if (m->shm == NULL)
		fatal("cannot make shared memory: %s", strerror(errno));
	m->ready_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (m->ready_fd < 0 || pipe2(life, O_CLOEXEC | O_NONBLOCK) != 0)
		fatal("cannot make the pipe to the children: %s", strerror(errno));
	m->life_read = life[0];
	m->life_write = life[1];
}

static void
make_places(struct master *m)
{
	struct master_child *gc;

	m->nchildren = SHM_MAX_LISTENERS + 1;
	m->children = xcalloc(m->nchildren, sizeof(*m->children));
	gc = master_gc(m);
	gc->number = m->nchildren - 1;
	gc->is_gc = true;
	gc->duty = DUTY_SERVING;
	snprintf(gc->role, sizeof(gc->role), "gc");
}

/* A program that was become by an upgrade has all that already. */
static void
make_own(struct master *m)
{
	lock_data_path(m);
	if (master_open_sockets(m, m->current) && master_open_metrics(m, m->current->conf))
		return;
	master_close_sockets(m, NULL, 0);
	exit(1);
}

/* After the lock: a second daemon must not replace the pid of the first. */
static void
write_pid(const struct master *m)
{
	if (m->start.pid_path != NULL && !daemon_write_pid(m->start.pid_path))
		fatal("cannot write the pid to %s: %s", m->start.pid_path, strerror(errno));
}

static void
set_up(struct master *m, struct conf *conf)
{
	char *why;
	bool inherited, strange;

	catch_signals();
	m->current = edition_new(conf, m->start.debug, &why);
	if (m->current == NULL)
		fatal("%s", why);
	if (edition_open_log(m->current))
		edition_use_log(m->current);
	else if (master_is_heir()) /* the cache serves; it must not end for that */
		log_error("cannot open the log %s: %s", conf->log.path, strerror(errno));
	else
		fatal("cannot open the log %s: %s", conf->log.path, strerror(errno));
	log_set_level(m->current->level);
	raise_file_limit();
	make_places(m);
	inherited = master_inherit(m, &strange);
	if (!inherited && !strange)
		make_own(m);
	write_pid(m);
	if (!inherited)
		make_shared(m);
	m->phase = inherited ? MASTER_SERVING : MASTER_WAITING;
	shm_set_fill_limit(m->shm, conf->server.workers);
	shm_disk_set_limits(m->shm, conf->gc.disk_max_size, conf->gc.disk_min_free);
	conf_auth_warn(conf);
	conf_tls_say(conf);
	if (geteuid() == 0 && !m->current->user.change)
		log_info("the children run as root: with `user` they give that up");
	edition_hide_secrets(m->current);
	m->last_turn = clock_ms();
	m->doubt.errors = shm_counter_sum(m->shm, COUNT_INDEX_ERRORS);
}

static void
tear_down(struct master *m)
{
	master_close_sockets(m, NULL, 0);
	master_close_metrics(m, NULL);
	free(m->sockets);
	close(m->life_read);
	close(m->life_write);
	close(m->ready_fd);
	shm_destroy(&m->shm);
	edition_free(&m->next);
	edition_free(&m->current);
	if (m->lock_fd >= 0)
		close(m->lock_fd);
	free(m->children);
	free(m->program);
}

/* --- phases ---------------------------------------------------------------------------------- */

static void
set_phase(struct master *m, enum master_phase p)
{
	log_debug("%s -> %s", master_phase_name(m->phase), master_phase_name(p));
	m->phase = p;
}

static void
begin_recovering(struct master *m)
{
	if (!master_open_metrics(m, m->current->conf)) /* after an upgrade: no reason not to serve */
		log_error("metrics are not served");
	master_place(m, m->current->conf->server.listeners, DUTY_SERVING);
	shm_metric_set_wanted(m->shm, m->current->conf->server.listeners);
	set_phase(m, MASTER_RECOVERING);
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
	char *bound;

	if (m->announced || !master_all_ready(m, DUTY_SERVING))
		return;
	daemon_ready();
	bound = master_bound_text(m);
	log_info("ready: %u listeners on %s", master_count(m, DUTY_SERVING), bound);
	free(bound);
	m->announced = true;
}

/* Only after the listeners: gc marks the store as cleanly closed. */
static void
begin_closing(struct master *m, uint64_t now)
{
	master_signal_gc(m, SIGTERM);
	m->closing_since = now;
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

/* What a clean end is worth is a hash over the whole store, if the machine is about to stop. */
static bool
gc_is_at_it(const struct master *m, uint64_t now)
{
	return now - m->closing_since < MASTER_GC_STOP_MAX_MS &&
	    now < shm_last_heartbeat(m->shm, master_gc(m)->number) + MASTER_GC_STOP_MS;
}

static void
advance_closing(struct master *m, uint64_t now)
{
	if (master_gc(m)->pid == 0) {
		set_phase(m, MASTER_STOPPED);
	} else if (now >= m->deadline && m->deadline != 0 && !gc_is_at_it(m, now)) {
		log_warn("gc did not end in %llu ms: killing it",
		    (unsigned long long)(now - m->closing_since));
		master_signal_gc(m, SIGKILL);
		m->deadline = 0;
	}
}

static void
advance_once(struct master *m, uint64_t now)
{
	switch (m->phase) {
	case MASTER_WAITING:
		if (master_listeners_alive(m) == 0 && master_gc(m)->pid == 0)
			begin_recovering(m);
		break;
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
	daemon_stopping();
	log_info("stopping: transfers may go on for %llu ms",
	    (unsigned long long)m->current->conf->server.drain_timeout);
	master_close_sockets(m, NULL, 0);
	master_signal_listeners(m, SIGTERM);
	m->deadline = now + m->current->conf->server.drain_timeout;
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
	if (edition_open_log(m->current))
		edition_use_log(m->current);
	else
		log_error("cannot reopen %s: %s", m->current->conf->log.path, strerror(errno));
	master_signal_listeners(m, SIGUSR1);
	master_signal_gc(m, SIGUSR1);
}

static void
obey_signals(struct master *m, uint64_t now)
{
	if (take_flag(&caught_usr1))
		reopen_log(m);
	if (take_flag(&caught_hup))
		m->want_reload = true;
	if (take_flag(&caught_usr2))
		m->want_upgrade = true;
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

static void
rotate_tickets(struct master *m, uint64_t now)
{
	if (!shm_tickets_rotate(m->shm, now, m->current->conf->server.tls.ticket_rotation))
		log_error("no random bytes for the keys of session tickets: %s", strerror(errno));
}

/* False: the run is over. */
static bool
turn(struct master *m)
{
	uint64_t now = clock_ms();

	note_turn(m, now);
	daemon_watchdog(now);
	shm_metric_master_beat(m->shm, now);
	master_reap(m, now);
	master_respawn(m, now);
	master_watchdog(m, now);
	rotate_tickets(m, now);
	obey_signals(m, now);
	master_reload(m, now);
	master_upgrade(m);
	if (master_doubt(m, now))
		set_phase(m, MASTER_WAITING);
	advance(m, now);
	return m->phase != MASTER_STOPPED;
}

int
master_run(struct conf *conf, const struct master_start *start)
{
	struct master m = {
	    .start = *start,
	    .lock_fd = -1,
	};

	log_set_role("master");
	if (start->detach && !master_is_heir())
		daemon_detach();
	m.program = realpath("/proc/self/exe", NULL);
	set_up(&m, conf);
	log_info("starting with %s, dataPath %s", start->conf_path, conf->data_path);
	while (turn(&m))
		wait_for_work(&m, clock_ms());
	if (start->pid_path != NULL)
		daemon_remove_pid(start->pid_path);
	tear_down(&m);
	log_info("stopped");
	return 0;
}
