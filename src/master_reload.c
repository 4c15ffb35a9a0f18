/* Another configuration without a pause: its listeners are forked beside those that serve, on the
 * same sockets, and only when all of them are ready do the others retire. Whatever goes wrong before
 * that leaves everything as it was. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf.h"
#include "conf_auth.h"
#include "conf_tls.h"
#include "confine.h"
#include "daemon.h"
#include "log.h"
#include "master_private.h"
#include "shm.h"
#include "shm_disk.h"
#include "shm_metrics.h"
#include "tls.h"
#include "users.h"
#include "xalloc.h"

enum { COMING_TRIES = 3 }; /* deaths of a new listener before its edition is given up */

/* --- editions -------------------------------------------------------------------------------- */

/* NULL, or what is wrong. */
static char *
find_group(struct master_user *u, const char *name)
{
	const struct group *gr;

	if (name == NULL)
		return NULL;
	errno = 0;
	gr = getgrnam(name);
	if (gr == NULL)
		return xasprintf("group %s: %s", name,
		    errno != 0 ? strerror(errno) : "there is no such group");
	if (!u->change && geteuid() == 0)
		return xasprintf("group %s: expected user to be set, too", name);
	u->gid = gr->gr_gid;
	return NULL;
}

/* NULL, or what is wrong. */
static char *
find_user(struct master_user *u, const char *name)
{
	const struct passwd *pw;

	if (name == NULL)
		return NULL;
	errno = 0;
	pw = getpwnam(name);
	if (pw == NULL)
		return xasprintf(
		    "user %s: %s", name, errno != 0 ? strerror(errno) : "there is no such user");
	u->other = geteuid() != pw->pw_uid;
	if (geteuid() != 0)
		return NULL;
	u->change = true;
	u->name = xstrdup(pw->pw_name);
	u->uid = pw->pw_uid;
	u->gid = pw->pw_gid;
	return NULL;
}

static char *
check_listeners(const struct conf *conf)
{
	return conf->server.listeners <= SHM_MAX_LISTENERS
	    ? NULL
	    : xasprintf("server.listeners: %u is more than %d", conf->server.listeners,
		  SHM_MAX_LISTENERS);
}

/* Whether root could open it; nothing is made. */
static char *
check_log(const struct conf *conf)
{
	char *copy, *folder, *why = NULL;
	struct stat st;

	if (conf->log.path == NULL || conf->log.syslog != NULL)
		return NULL;
	if (stat(conf->log.path, &st) == 0)
		return S_ISDIR(st.st_mode) ? xasprintf("log.path %s: it is a folder", conf->log.path) : NULL;
	copy = xstrdup(conf->log.path);
	folder = dirname(copy);
	if (stat(folder, &st) != 0)
		why = xasprintf("log.path %s: the folder %s: %s", conf->log.path, folder, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		why = xasprintf("log.path %s: %s is no folder", conf->log.path, folder);
	free(copy);
	return why;
}

char *
master_check(const struct conf *conf)
{
	struct master_user user = {0};
	char *why = find_user(&user, conf->user);

	if (why == NULL)
		why = find_group(&user, conf->group);
	free(user.name);
	return why != NULL ? why : check_log(conf);
}

struct master_edition *
edition_new(struct conf *conf, unsigned debug, char **why)
{
	struct master_edition *e = xcalloc(1, sizeof(*e));

	e->conf = conf;
	e->log_fd = -1;
	e->level = debug == 1 ? LOG_L_DEBUG : debug > 1 ? LOG_L_TRACE : log_level_of(conf->log.level);
	*why = check_listeners(conf);
	if (*why == NULL)
		*why = find_user(&e->user, conf->user);
	if (e->user.other && !e->user.change)
		log_warn("user %s: only root can become another user; going on as we are", conf->user);
	if (*why == NULL)
		*why = find_group(&e->user, conf->group);
	if (*why == NULL)
		e->tls = conf_tls_server(conf, why);
	if (*why == NULL)
		e->users = conf_auth_users(conf, why);
	if (*why == NULL)
		e->credentials = conf_auth_credentials(conf, why);
	if (*why == NULL)
		return e;
	e->conf = NULL;
	edition_free(&e);
	return NULL;
}

void
edition_free(struct master_edition **ep)
{
	struct master_edition *e = *ep;

	if (e == NULL)
		return;
	tls_server_free(&e->tls);
	users_free(&e->users);
	if (e->conf != NULL)
		conf_auth_forget(e->conf, &e->credentials);
	free(e->user.name);
	if (e->log_fd >= 0)
		close(e->log_fd);
	if (e->conf != NULL)
		conf_free(&e->conf);
	free(e);
	*ep = NULL;
}

/* --- its log --------------------------------------------------------------------------------- */

/* Root writes where another user may have put a link: into what that user could not write himself. Devices are
 * named by links of the system's. */
static int
open_log(const char *path, const struct master_user *u)
{
	bool follow = !u->change || strncmp(path, "/dev/", 5) == 0;
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW), 0640);
	struct stat st;

	if (fd >= 0 && u->change && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1 &&
	    fchown(fd, u->uid, u->gid) != 0)
		log_warn("cannot give %s to user %s: %s", path, u->name, strerror(errno));
	return fd;
}

bool
edition_open_log(struct master_edition *e)
{
	int fd;

	if (e->conf->log.path == NULL || e->conf->log.syslog != NULL)
		return true;
	fd = open_log(e->conf->log.path, &e->user);
	if (fd < 0)
		return false;
	if (e->log_fd >= 0)
		close(e->log_fd);
	e->log_fd = fd;
	return true;
}

void
edition_use_log(const struct master_edition *e)
{
	int fd = e->log_fd >= 0 ? fcntl(e->log_fd, F_DUPFD_CLOEXEC, 0) : -1;

	log_set_json(e->conf->log.format != NULL && strcmp(e->conf->log.format, "json") == 0);
	if (e->conf->log.syslog != NULL && log_open_syslog(e->conf->log.syslog))
		return;
	if (fd >= 0)
		log_to_file(fd);
	else
		log_to_stderr();
}

/* Held credentials are in memory that no dump has (secret_memory.c); OpenSSL's keys are not. */
void
edition_hide_secrets(const struct master_edition *e)
{
	if (e->tls != NULL)
		confine_memory();
}

/* --- beginning ------------------------------------------------------------------------------- */

/* Reads the file; each mistake is a line of the log. */
static struct conf *
load(struct master *m)
{
	char *text = NULL, *line, *next;
	size_t size = 0;
	FILE *errors = open_memstream(&text, &size);
	struct conf *conf;

	if (errors == NULL)
		panic("no memory for messages");
	conf = m->start.load(m->start.conf_path, errors);
	if (fclose(errors) != 0)
		panic("no memory for messages");
	for (line = text; line != NULL && *line != '\0'; line = next) {
		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		log_error("%s", line);
	}
	free(text);
	return conf;
}

static struct master_edition *
read_edition(struct master *m)
{
	struct conf *conf = load(m);
	struct master_edition *e;
	char *why = NULL;

	if (conf == NULL)
		return NULL;
	if (strcmp(conf->data_path, m->current->conf->data_path) != 0)
		why = xasprintf("dataPath cannot change from %s to %s in a running cache",
		    m->current->conf->data_path, conf->data_path);
	e = why == NULL ? edition_new(conf, m->start.debug, &why) : NULL;
	if (e != NULL && edition_open_log(e))
		return e;
	if (e != NULL)
		log_error("cannot open the log %s: %s", conf->log.path, strerror(errno));
	else
		log_error("%s", why);
	free(why);
	if (e != NULL)
		edition_free(&e);
	else
		conf_free(&conf);
	return NULL;
}

static void
begin(struct master *m)
{
	struct master_edition *e;
	unsigned n;

	m->want_reload = false;
	daemon_reloading();
	e = read_edition(m);
	n = e != NULL ? e->conf->server.listeners : 0;
	m->old_sockets = m->nsockets;
	if (e == NULL || !master_open_sockets(m, e) || !master_open_metrics(m, e->conf)) {
		master_close_new_sockets(m, m->old_sockets);
		log_error("the configuration is not changed");
		shm_metric_reload(m->shm, false);
		daemon_reloaded();
		edition_free(&e);
		return;
	}
	log_info("changing to the configuration of %s", m->start.conf_path);
	m->next = e;
	master_place(m, n, DUTY_COMING);
}

/* Listeners that retire keep their places until they are gone: several changes in a row may have to
 * wait for that. */
static bool
may_begin(struct master *m)
{
	unsigned places = master_count(m, DUTY_NONE);
	bool enough = places >= SHM_MAX_LISTENERS / 2 || master_count(m, DUTY_RETIRED) == 0;

	if (!m->want_reload || m->phase != MASTER_SERVING || !m->announced || m->changed ||
	    m->tester != 0)
		return false;
	if (!enough && !m->waits_for_places)
		log_info("the configuration is read when %u listeners have ended their transfers",
		    master_count(m, DUTY_RETIRED));
	m->waits_for_places = !enough;
	return enough;
}

/* --- ending ---------------------------------------------------------------------------------- */

static void
retire(struct master *m, enum master_duty duty, uint64_t now)
{
	uint64_t end_by = now + m->current->conf->server.drain_timeout;

	for (unsigned i = 0; i + 1 < m->nchildren; i++)
		if (m->children[i].duty == duty)
			master_retire(&m->children[i], end_by);
}

/* The edition that comes cannot serve. */
static bool
has_failed(const struct master *m)
{
	for (unsigned i = 0; i + 1 < m->nchildren; i++)
		if (m->children[i].duty == DUTY_COMING && m->children[i].failures >= COMING_TRIES)
			return true;
	return false;
}

static void
give_up(struct master *m, uint64_t now)
{
	log_error("listeners with the new configuration do not become ready: it is not changed");
	shm_metric_reload(m->shm, false);
	daemon_reloaded();
	retire(m, DUTY_COMING, now);
	edition_free(&m->next);
	master_close_metrics(m, m->current->conf);
	master_close_new_sockets(m, m->old_sockets);
}

static void
commit(struct master *m, uint64_t now)
{
	struct conf *conf = m->next->conf;

	retire(m, DUTY_SERVING, now);
	for (unsigned i = 0; i + 1 < m->nchildren; i++)
		if (m->children[i].duty == DUTY_COMING)
			m->children[i].duty = DUTY_SERVING;
	edition_free(&m->current);
	m->current = m->next;
	m->next = NULL;
	log_set_level(m->current->level);
	master_set_all_unix(m->current);
	master_close_sockets(m, conf, UINT32_MAX);
	master_close_metrics(m, conf);
	shm_metric_set_wanted(m->shm, conf->server.listeners);
	shm_set_fill_limit(m->shm, conf->server.workers);
	shm_disk_set_limits(m->shm, conf->gc.disk_max_size, conf->gc.disk_min_free);
	edition_use_log(m->current);
	edition_hide_secrets(m->current);
	conf_auth_warn(conf);
	conf_tls_say(conf);
	master_retire_gc(m);
	m->changed = true;
}

/* Does a listener that was told to retire still take connections off the sockets? */
static bool
some_accept(const struct master *m)
{
	for (unsigned i = 0; i + 1 < m->nchildren; i++) {
		const struct master_child *c = &m->children[i];

		if (c->duty == DUTY_RETIRED && c->pid > 0 &&
		    shm_child_state(m->shm, c->number) != CHILD_DRAINING)
			return true;
	}
	return false;
}

/* Who reads this may count on it that nobody is answered as before. */
static void
say_changed(struct master *m)
{
	char *bound;

	m->changed = false;
	shm_metric_reload(m->shm, true);
	daemon_reloaded();
	bound = master_bound_text(m);
	log_info("the configuration is changed: %u listeners on %s",
	    master_count(m, DUTY_SERVING), bound);
	free(bound);
}

void
master_reload(struct master *m, uint64_t now)
{
	if (m->changed && !some_accept(m))
		say_changed(m);
	if (m->next == NULL && may_begin(m)) {
		begin(m);
		return;
	}
	if (m->next == NULL)
		return;
	if (m->phase != MASTER_SERVING || has_failed(m))
		give_up(m, now);
	else if (master_all_ready(m, DUTY_COMING))
		commit(m, now);
}
