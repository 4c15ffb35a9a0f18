/* Is it the index? Damage that comes while it is in use, or that a start did not see, kills children
 * or fails their requests for ever. When they die again and again, or fail at the index, a process of
 * its own looks at its pages; if they are damaged all children end, and recovery sets the index aside. */
#include "master_private.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf.h"
#include "daemon.h"
#include "index.h"
#include "log.h"
#include "shm.h"
#include "xalloc.h"

enum {
	CRASHES = 3,        /* within … */
	WITHIN_MS = 60000,  /* … this time give rise to doubt */
	PAUSE_MS = 60000,   /* between two trials: each reads the whole index */
	DAMAGED_STATUS = 9, /* of the process that tries it out */
};

void
master_note_crash(struct master *m, uint64_t now)
{
	struct master_doubt *d = &m->doubt;

	if (d->crashes == 0 || now - d->first_crash > WITHIN_MS) {
		d->crashes = 0;
		d->first_crash = now;
	}
	d->crashes++;
}

static void
try_out(const struct master *m)
{
	char *folder = xasprintf("%s/index", m->current->conf->data_path);

	daemon_in_child();
	log_set_role("trial");
	master_become_user(&m->current->user);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	_exit(index_is_damaged(folder) ? DAMAGED_STATUS : 0);
}

static void
begin(struct master *m, uint64_t now)
{
	struct master_doubt *d = &m->doubt;

	log_warn("%s: looking whether the index is damaged",
	    d->crashes >= CRASHES ? "children died again and again" : "the index fails");
	d->crashes = 0;
	d->errors = shm_counter_sum(m->shm, COUNT_INDEX_ERRORS);
	d->pause_until = now + PAUSE_MS;
	d->trial = fork();
	if (d->trial == 0)
		try_out(m);
	if (d->trial > 0)
		return;
	log_error("cannot fork: %s", strerror(errno));
	d->trial = 0;
}

void
master_tried(struct master *m, int status)
{
	m->doubt.trial = 0;
	m->doubt.damaged = WIFEXITED(status) && WEXITSTATUS(status) == DAMAGED_STATUS;
	if (!m->doubt.damaged)
		log_info("no damage of the index is seen");
}

/* A change of the configuration or of the program is brought to its end first. */
static bool
may_begin(const struct master *m, uint64_t now)
{
	return m->phase == MASTER_SERVING && m->next == NULL && !m->changed && m->tester == 0 &&
	    m->doubt.trial == 0 && now >= m->doubt.pause_until;
}

/* The places become free when the processes have died. */
static void
end_all(struct master *m, uint64_t now)
{
	for (unsigned i = 0; i + 1 < m->nchildren; i++)
		master_retire(&m->children[i], now);
	master_retire_gc(m);
	master_signal_listeners(m, SIGKILL);
	master_signal_gc(m, SIGKILL);
}

bool
master_doubt(struct master *m, uint64_t now)
{
	struct master_doubt *d = &m->doubt;

	if (may_begin(m, now) &&
	    (d->crashes >= CRASHES || shm_counter_sum(m->shm, COUNT_INDEX_ERRORS) > d->errors))
		begin(m, now);
	if (!d->damaged || m->phase != MASTER_SERVING || m->next != NULL)
		return false;
	d->damaged = false;
	log_error("the index is damaged: all children end, and it is made again from the files");
	end_all(m, now);
	return true;
}
