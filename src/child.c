/* What both kinds of children do alike: notice that the master died, beat, obey signals.
 * What draining means is theirs. */
#include "child.h"

#include <errno.h>
#include <event2/event.h>
#include <libgen.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "clock.h"
#include "conf.h"
#include "confine.h"
#include "log.h"
#include "shm.h"
#include "xalloc.h"

enum { HEARTBEAT_SECONDS = 1 };

struct child {
	const struct child_start *start;
	void (*drain)(enum child_end why, void *arg);
	void *arg;
	bool retiring, stopping;
	struct event *life, *term, *interrupt, *quit, *reopen, *heartbeat;
};

/* Without this it would look within a second, too. */
static void
wake_master(const struct child *c)
{
	const uint64_t one = 1;

	if (write(c->start->ready_fd, &one, sizeof(one)) != (ssize_t)sizeof(one))
		log_warn("cannot wake the master: %s", strerror(errno));
}

/* A child without a master would keep the port and the store from the next run. */
static void
on_life(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	log_flush();
	log_error("the master is gone");
	_exit(1);
}

static void
on_stop(evutil_socket_t sig, short what, void *arg)
{
	struct child *c = arg;
	bool *noted = sig == SIGQUIT ? &c->retiring : &c->stopping;

	(void)what;
	if (*noted || c->stopping)
		return;
	*noted = true;
	log_debug("%s: draining", strsignal((int)sig));
	c->drain(sig == SIGQUIT ? CHILD_END_RETIRE : CHILD_END_STOP, c->arg);
	shm_child_set_state(c->start->shm, c->start->number, CHILD_DRAINING); /* nothing new comes in */
	wake_master(c);
}

static void
on_reopen(evutil_socket_t sig, short what, void *arg)
{
	const struct child *c = arg;
	const char *path = c->start->conf->log.path;

	(void)sig;
	(void)what;
	if (path == NULL || c->start->conf->log.syslog != NULL)
		return;
	log_flush();
	if (!log_open_file(path))
		log_error("cannot reopen %s: %s", path, strerror(errno));
}

static void
on_heartbeat(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	child_beat(arg);
}

static struct event *
arm(struct event_base *base, int fd, short what, event_callback_fn callback, struct child *c)
{
	static const struct timeval every = {.tv_sec = HEARTBEAT_SECONDS};
	struct event *ev = event_new(base, fd, what, callback, c);

	if (ev == NULL || event_add(ev, fd < 0 ? &every : NULL) != 0)
		panic("cannot add an event to the loop");
	return ev;
}

static void
disarm(struct event **ev)
{
	event_free(*ev);
	*ev = NULL;
}

static void
unblock_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* A file in the folder of the log; that one itself may just have been given another name. */
static char *
path_of_log(const char *path)
{
	char *found = realpath(path, NULL), *copy, *folder;

	if (found != NULL)
		return found;
	copy = xstrdup(path);
	folder = realpath(dirname(copy), NULL);
	free(copy);
	if (folder == NULL)
		return NULL;
	found = xasprintf("%s/log", folder);
	free(folder);
	return found;
}

static bool
confine_to_folders(const struct conf *conf)
{
	const char *folders[2] = {conf->data_path};
	char *log = conf->log.path != NULL ? path_of_log(conf->log.path) : NULL;
	const char *why;
	bool done;

	if (log != NULL)
		folders[1] = dirname(log);
	done = confine_files(folders, log != NULL ? 2 : 1, &why);
	if (!done && why != NULL)
		log_warn("sandbox: writing cannot be confined to %s: %s", conf->data_path, why);
	free(log);
	return done;
}

static bool
confine_to_calls(void)
{
	const char *why;
	bool done = confine_calls(&why);

	if (!done && why != NULL)
		log_warn("sandbox: system calls cannot be confined: %s", why);
	return done;
}

static bool
has_secrets(const struct child_start *start)
{
	for (size_t i = 0; start->credentials != NULL && i < start->conf->server.nregistries; i++)
		if (start->credentials[i] != NULL)
			return true;
	return start->users != NULL || start->tls != NULL;
}

void
child_confine(const struct child_start *start)
{
	bool files, calls;

	if (has_secrets(start))
		confine_memory();
	if (!start->conf->sandbox || !confine_is_built())
		return;
	confine_memory();
	files = confine_to_folders(start->conf);
	calls = confine_to_calls();
	if (start->number == shm_gc(start->shm)) /* one says it for all */
		log_info("sandbox: files %s, system calls %s", files ? "confined" : "not confined",
		    calls ? "confined" : "not confined");
}

struct child *
child_begin(struct event_base *base, const struct child_start *start,
    void (*drain)(enum child_end why, void *arg), void *arg)
{
	struct child *c = xcalloc(1, sizeof(*c));

	c->start = start;
	c->drain = drain;
	c->arg = arg;
	srandom((unsigned)start->generation ^ (unsigned)getpid()); /* for delays that differ */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != start->master) /* it died before the line above */
		on_life(-1, 0, c);
	c->life = arm(base, start->life_fd, EV_READ | EV_PERSIST, on_life, c);
	c->term = arm(base, SIGTERM, EV_SIGNAL | EV_PERSIST, on_stop, c);
	c->interrupt = arm(base, SIGINT, EV_SIGNAL | EV_PERSIST, on_stop, c);
	c->quit = arm(base, SIGQUIT, EV_SIGNAL | EV_PERSIST, on_stop, c);
	c->reopen = arm(base, SIGUSR1, EV_SIGNAL | EV_PERSIST, on_reopen, c);
	c->heartbeat = arm(base, -1, EV_PERSIST, on_heartbeat, c);
	unblock_signals();
	child_beat(c);
	return c;
}

void
child_ready(struct child *c)
{
	child_beat(c);
	if (!c->retiring && !c->stopping)
		shm_child_set_state(c->start->shm, c->start->number, CHILD_READY);
	wake_master(c);
}

void
child_beat(struct child *c)
{
	shm_heartbeat(c->start->shm, c->start->number, clock_ms());
}

void
child_end(struct child **c)
{
	if (*c == NULL)
		return;
	disarm(&(*c)->life);
	disarm(&(*c)->term);
	disarm(&(*c)->interrupt);
	disarm(&(*c)->quit);
	disarm(&(*c)->reopen);
	disarm(&(*c)->heartbeat);
	free(*c);
	*c = NULL;
}
