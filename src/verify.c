/* The offline check: threads take objects from one walk over the store and hash them; the first
 * thread says how far they are. Nothing of the index is looked at: the files are the truth, and a
 * record whose file is gone is dropped on first use. */
#include "verify.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "owner.h"
#include "store.h"
#include "store_rehash.h"
#include "store_walk.h"

enum {
	STEP = 4 * 1024 * 1024, /* bytes hashed between two looks at the progress */
	TTY_PROGRESS_MS = 500,  /* on a terminal, where the line is overwritten … */
	LOG_PROGRESS_MS = 30000, /* … and elsewhere */
};

struct verification {
	const struct verify_options *options;
	struct store *store;
	uint64_t began_ms;
	pthread_t threads[VERIFY_MAX_THREADS];
	unsigned nthreads; /* started */
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t ended; /* a thread has */
	struct store_walk *walk;
	unsigned running; /* threads */
	uint64_t objects, bytes, bad, removed, unread, strangers;
	bool terminal; /* standard error is one */
};

/* --- what it says ---------------------------------------------------------------------------- */

static void
say_progress(const struct verification *v, const char *end)
{
	double seconds = (double)(clock_ms() - v->began_ms) / 1000;

	fprintf(stderr, "%s%llu objects, %.1f MB, %.0f MB/s, %llu bad%s", v->terminal ? "\r" : "",
	    (unsigned long long)v->objects, (double)v->bytes / 1e6,
	    seconds > 0 ? (double)v->bytes / 1e6 / seconds : 0, (unsigned long long)v->bad, end);
	fflush(stderr);
}

static void
say_end(const struct verification *v)
{
	say_progress(v, "\n");
	if (v->strangers > 0)
		fprintf(stderr, "%llu files are no objects: not looked at\n",
		    (unsigned long long)v->strangers);
	if (v->unread > 0)
		fprintf(stderr, "%llu objects could not be looked at\n", (unsigned long long)v->unread);
	if (v->bad > 0)
		fprintf(stderr, "%llu of %llu bad objects removed%s\n",
		    (unsigned long long)v->removed, (unsigned long long)v->bad,
		    v->options->repair ? "" : " (--repair removes them)");
}

/* With the lock held. `path` is below dataPath. */
static void
say_bad(struct verification *v, const struct store_found *found, const char *path, const char *why)
{
	char text[DIGEST_STR_SIZE];
	const char *removed = "";

	v->bad++;
	if (v->options->repair && store_remove_object(v->store, &found->digest)) {
		v->removed++;
		removed = ", removed";
	} else if (v->options->repair) {
		removed = ", cannot be removed";
	}
	printf("%s %s/%s: %s%s\n", digest_str(&found->digest, text), v->options->data_path, path, why,
	    removed);
	fflush(stdout);
}

/* With the lock held. An object that this process may not read, or not now, may well be right. */
static void
say_unread(struct verification *v, const char *path, int error)
{
	v->unread++;
	fprintf(stderr, "%s%s/%s: %s: not looked at\n", v->terminal ? "\n" : "", v->options->data_path,
	    path, strerror(error));
}

/* --- threads --------------------------------------------------------------------------------- */

/* The path in `found` is the walk's, which goes on: it is copied. False: that was all. */
static bool
take_object(struct verification *v, struct store_found *found, char *path, size_t size)
{
	bool any;

	pthread_mutex_lock(&v->lock);
	while ((any = store_walk_next(v->walk, found)) && !found->is_object)
		v->strangers++;
	if (any)
		snprintf(path, size, "%s", found->path);
	pthread_mutex_unlock(&v->lock);
	return any;
}

static void
add_bytes(struct verification *v, uint64_t bytes)
{
	pthread_mutex_lock(&v->lock);
	v->bytes += bytes;
	pthread_mutex_unlock(&v->lock);
}

/* To its end. STORE_REHASH_FAILED: errno. */
static enum store_rehash_result
hash(struct verification *v, struct store_rehash *r)
{
	enum store_rehash_result result;
	uint64_t before = 0;

	do {
		result = store_rehash_step(r, STEP);
		add_bytes(v, store_rehash_bytes(r) - before);
		before = store_rehash_bytes(r);
	} while (result == STORE_REHASH_MORE);
	return result;
}

/* EIO is the disk's word that the bytes are lost. */
static void
verify_object(struct verification *v, const struct store_found *found, const char *path)
{
	int fd = store_open_object(v->store, &found->digest, NULL), error;
	struct store_rehash *r = fd >= 0 ? store_rehash_begin(fd, &found->digest) : NULL;
	enum store_rehash_result result = r != NULL ? hash(v, r) : STORE_REHASH_FAILED;

	error = errno;
	pthread_mutex_lock(&v->lock);
	v->objects++;
	if (result == STORE_REHASH_WRONG)
		say_bad(v, found, path, "its bytes are not those of its digest");
	else if (result == STORE_REHASH_FAILED && error == EIO)
		say_bad(v, found, path, strerror(error));
	else if (result == STORE_REHASH_FAILED)
		say_unread(v, path, error);
	pthread_mutex_unlock(&v->lock);
	store_rehash_end(&r);
}

static void *
run_thread(void *arg)
{
	struct verification *v = arg;
	struct store_found found;
	char path[512];

	while (take_object(v, &found, path, sizeof(path)))
		verify_object(v, &found, path);
	pthread_mutex_lock(&v->lock);
	v->running--;
	pthread_cond_signal(&v->ended);
	pthread_mutex_unlock(&v->lock);
	return NULL;
}

static unsigned
count_threads(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return cpus < 1 ? 1 : cpus > VERIFY_MAX_THREADS ? VERIFY_MAX_THREADS : (unsigned)cpus;
}

static void
start_threads(struct verification *v)
{
	unsigned n = count_threads();

	v->running = n;
	for (unsigned i = 0; i < n; i++) {
		if (pthread_create(&v->threads[v->nthreads], NULL, run_thread, v) == 0)
			v->nthreads++;
		else
			run_thread(v); /* then here, without progress */
	}
}

static void
wait_for_threads(struct verification *v)
{
	unsigned every = v->terminal ? TTY_PROGRESS_MS : LOG_PROGRESS_MS;
	struct timespec next;

	pthread_mutex_lock(&v->lock);
	while (v->running > 0) {
		clock_gettime(CLOCK_REALTIME, &next);
		next.tv_sec += every / 1000;
		next.tv_nsec += every % 1000 * 1000000L;
		next.tv_sec += next.tv_nsec / 1000000000L;
		next.tv_nsec %= 1000000000L;
		if (pthread_cond_timedwait(&v->ended, &v->lock, &next) == ETIMEDOUT)
			say_progress(v, v->terminal ? "" : "\n");
	}
	pthread_mutex_unlock(&v->lock);
	for (unsigned i = 0; i < v->nthreads; i++)
		pthread_join(v->threads[i], NULL);
}

/* --- the store ------------------------------------------------------------------------------- */

static enum verify_result
judge(const struct verification *v)
{
	if (v->bad > 0)
		return VERIFY_BAD;
	return v->unread > 0 || store_walk_failures(v->walk) > 0 ? VERIFY_IMPOSSIBLE : VERIFY_GOOD;
}

static enum verify_result
verify_store(const struct verify_options *o, struct store *s)
{
	struct verification v = {
	    .options = o,
	    .store = s,
	    .began_ms = clock_ms(),
	    .walk = store_walk_begin(s),
	    .terminal = isatty(STDERR_FILENO) == 1,
	};
	enum verify_result result;

	pthread_mutex_init(&v.lock, NULL);
	pthread_cond_init(&v.ended, NULL);
	start_threads(&v);
	wait_for_threads(&v);
	say_end(&v);
	result = judge(&v);
	store_walk_end(&v.walk);
	pthread_cond_destroy(&v.ended);
	pthread_mutex_destroy(&v.lock);
	return result;
}

/* -1: said why. */
static int
lock_store(const char *path)
{
	pid_t holder = 0;
	int fd = store_lock(path, 0, &holder);

	if (fd < 0 && errno == EWOULDBLOCK && holder > 0)
		fprintf(stderr, "dataPath %s is in use by pid %d: stop the cache first\n", path,
		    (int)holder);
	else if (fd < 0 && errno == EWOULDBLOCK)
		fprintf(stderr, "dataPath %s is in use by another process\n", path);
	else if (fd < 0)
		fprintf(stderr, "dataPath %s: %s\n", path, strerror(errno));
	return fd;
}

enum verify_result
verify_run(const struct verify_options *o)
{
	int lock = owner_become(o->data_path) ? lock_store(o->data_path) : -1;
	struct store *s = lock >= 0 ? store_open(o->data_path) : NULL;
	enum verify_result result = VERIFY_IMPOSSIBLE;

	if (s != NULL)
		result = verify_store(o, s);
	store_close(&s);
	if (lock >= 0)
		close(lock);
	return result;
}
