/* Bringing the index to the disk, once a second. How long that takes is the disk's to say: seconds, when others
 * write a lot. So a thread waits for it, while gc evicts and answers who asks for its health. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "child.h"
#include "gc_private.h"
#include "index.h"
#include "log.h"
#include "thread.h"
#include "xalloc.h"

enum { LOOK_MS = 5 };

struct gc_sync {
	pthread_t thread;
	int fds[INDEX_FILES]; /* descriptors of its own: the index may be opened again meanwhile */
	int error;            /* errno, when it is done */
	atomic_bool done;
};

static void *
run(void *arg)
{
	struct gc_sync *s = arg;

	for (int i = 0; i < INDEX_FILES; i++)
		if (s->fds[i] >= 0 && fdatasync(s->fds[i]) != 0)
			s->error = errno;
	atomic_store(&s->done, true);
	return NULL;
}

static void
discard(struct gc *g)
{
	for (int i = 0; i < INDEX_FILES; i++)
		if (g->sync->fds[i] >= 0)
			close(g->sync->fds[i]);
	free(g->sync);
	g->sync = NULL;
}

void
gc_sync_begin(struct gc *g)
{
	int rc;

	if (g->sync != NULL)
		return;
	g->sync = xcalloc(1, sizeof(*g->sync));
	if (index_dup_files(g->ix, g->sync->fds))
		rc = thread_start(&g->sync->thread, run, g->sync);
	else
		rc = errno;
	if (rc == 0)
		return;
	log_warn("the index cannot be synced now: %s", strerror(rc));
	discard(g);
}

bool
gc_sync_ended(struct gc *g, bool *synced)
{
	struct gc_sync *s = g->sync;

	*synced = false;
	if (s == NULL)
		return true;
	if (!atomic_load(&s->done))
		return false;
	pthread_join(s->thread, NULL);
	*synced = s->error == 0;
	if (s->error != 0)
		index_sync_failed(g->ix, s->error);
	discard(g);
	return true;
}

bool
gc_sync_wait(struct gc *g)
{
	const struct timespec pause = {0, LOOK_MS * 1000000L};
	bool synced;

	while (!gc_sync_ended(g, &synced)) {
		child_beat(g->child);
		nanosleep(&pause, NULL);
	}
	return synced;
}
