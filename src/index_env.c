/* The LMDB environment: opening, transactions, and what LMDB asks of its callers: a map that is
 * full or was grown by another process, reader slots of dead processes. All of it bounded, all
 * of it here. */
#include "index_private.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "clock.h"
#include "log.h"

enum {
	MAX_READERS =
	    512, /* one a process: 64 listeners, twice while a reload drains, gc, and the dead */
	RETRIES = 16,
	LOG_AGAIN_MS = 10000,
	REOPEN_MS = 1000, /* between two openings of an environment that LMDB has given up */
	MAP_GRAIN = 64 * 1024, /* map sizes are multiples: of every page size there is */
	MAP_MIN = 1024 * 1024,
};

const char *const index_db_names[DB_COUNT] = {
    [DB_OBJECTS] = "objects",
    [DB_LEASES] = "leases",
    [DB_NAMES] = "names",
    [DB_PROOFS] = "proofs",
    [DB_META] = "meta",
};

/* A broken index fails every request; the log need not say it each time. */
void
index_env_failed(struct index *ix, const char *what, int rc)
{
	uint64_t now = clock_ms();

	ix->failures++;
	if (rc == ix->logged_rc && now - ix->logged_ms < LOG_AGAIN_MS)
		return;
	ix->logged_rc = rc;
	ix->logged_ms = now;
	log_error("index: cannot %s: %s", what, mdb_strerror(rc));
}

void
index_odd_record(struct index *ix, enum index_db db)
{
	if (!ix->odd_seen)
		log_warn(
		    "index: a record in %s is of an unknown version or damaged; such are ignored",
		    index_db_names[db]);
	ix->odd_seen = true;
}

/* --- the map --------------------------------------------------------------------------------- */

/* Whether so much address space is to be had. Asked first, because an environment whose map
 * could not be made again is lost. */
static bool
can_map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return false;
	munmap(p, bytes);
	return true;
}

static size_t
round_up(size_t bytes)
{
	return (bytes + MAP_GRAIN - 1) / MAP_GRAIN * MAP_GRAIN;
}

/* The most that can be mapped, up to `want` and over `floor`; `floor` when there is no more. */
static size_t
map_size(size_t floor, size_t want)
{
	while (want > floor + MAP_GRAIN && !can_map(want))
		want = round_up(floor + (want - floor) / 2);
	return want > floor + MAP_GRAIN || can_map(want) ? want : floor;
}

static void
drop_reader(struct index *ix)
{
	if (ix->reader != NULL)
		mdb_txn_abort(ix->reader);
	ix->reader = NULL;
}

/* Twice the map, or twice what another process has written beyond it. No transaction may be
 * open, not even one that was reset: it keeps pointers into the old map. */
static int
enlarge(struct index *ix)
{
	MDB_envinfo info;
	MDB_stat st;
	size_t used, floor, size;
	int rc;

	drop_reader(ix);
	mdb_env_info(ix->env, &info);
	mdb_env_stat(ix->env, &st);
	used = (info.me_last_pgno + 1) * st.ms_psize;
	floor = round_up(used > info.me_mapsize ? used : info.me_mapsize);
	size = map_size(floor, 2 * floor);
	if (size <= info.me_mapsize)
		return ENOMEM;
	rc = mdb_env_set_mapsize(ix->env, size);
	ix->lost = rc != 0;
	if (rc == 0)
		log_info("index: the map is %zu KiB now", size >> 10);
	return rc;
}

/* LMDB gives an environment up for good (MDB_PANIC) when its meta page could not be written: one failed
 * write, and every transaction of the process would fail for ever. What is on the disk is the state
 * before that write, so a new environment goes on from there. No transaction may be open. */
static int
reopen(struct index *ix)
{
	uint64_t now = clock_ms();
	int rc;

	if (now - ix->reopened_ms < REOPEN_MS && ix->reopened_ms != 0)
		return MDB_PANIC;
	ix->reopened_ms = now;
	index_env_close(ix);
	rc = index_env_open(ix);
	if (rc == 0)
		log_info("index: opened again");
	return rc;
}

/* --- transactions ---------------------------------------------------------------------------- */

/* Mends what kept a transaction from going on. 0: worth another try. Else `rc` itself, or what
 * else failed. */
static int
mend(struct index *ix, int rc)
{
	int dead = 0;

	if (rc == MDB_MAP_FULL || rc == MDB_MAP_RESIZED)
		return enlarge(ix);
	if (rc == MDB_PANIC)
		return reopen(ix);
	if (rc == MDB_READERS_FULL && mdb_reader_check(ix->env, &dead) == 0 && dead > 0)
		return 0;
	return rc;
}

/* Renews the kept transaction, or makes it. */
static int
begin_read(struct index *ix)
{
	int rc;

	if (ix->reader != NULL && mdb_txn_renew(ix->reader) == 0)
		return 0;
	drop_reader(ix);
	rc = mdb_txn_begin(ix->env, NULL, MDB_RDONLY, &ix->reader);
	if (rc != 0)
		ix->reader = NULL;
	return rc;
}

static int
try_read(struct index *ix, index_step_fn *step, void *arg)
{
	int rc = begin_read(ix);

	if (rc != 0)
		return rc;
	rc = step(ix, ix->reader, arg);
	mdb_txn_reset(ix->reader);
	return rc;
}

static int
try_write(struct index *ix, index_step_fn *step, void *arg)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(ix->env, NULL, 0, &txn);

	if (rc != 0)
		return rc;
	rc = step(ix, txn, arg);
	if (rc == 0)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

typedef int try_fn(struct index *ix, index_step_fn *step, void *arg);

static enum index_result
run(struct index *ix, const char *what, try_fn *try, index_step_fn *step, void *arg)
{
	int rc = ix->lost ? MDB_PANIC : try(ix, step, arg);

	for (int i = 0; i < RETRIES && rc != 0 && rc != MDB_NOTFOUND && rc != INDEX_KEEP; i++) {
		rc = mend(ix, rc);
		if (rc != 0)
			break;
		rc = try(ix, step, arg);
	}
	if (rc == 0 || rc == INDEX_KEEP)
		return INDEX_OK;
	if (rc == MDB_NOTFOUND)
		return INDEX_MISS;
	index_env_failed(ix, what, rc);
	return INDEX_ERROR;
}

enum index_result
index_env_write(struct index *ix, const char *what, index_step_fn *step, void *arg)
{
	return run(ix, what, try_write, step, arg);
}

enum index_result
index_env_read(struct index *ix, const char *what, index_step_fn *step, void *arg)
{
	return run(ix, what, try_read, step, arg);
}

/* --- opening --------------------------------------------------------------------------------- */

static int
open_databases(struct index *ix, MDB_txn *txn, void *unused)
{
	(void)unused;
	for (int i = 0; i < DB_COUNT; i++) {
		int rc = mdb_dbi_open(txn, index_db_names[i], MDB_CREATE, &ix->db[i]);

		if (rc != 0)
			return rc;
	}
	return index_format_check(ix, txn);
}

/* NOSYNC: the files are the truth, and the index is dropped after a crash of the machine.
 * NOTLS: a reader belongs to its transaction, which is kept. Never WRITEMAP: a stray write of
 * ours would reach the file. */
static int
open_environment(struct index *ix)
{
	size_t size = map_size(
	    MAP_MIN < ix->map_bytes ? MAP_MIN : ix->map_bytes, round_up(ix->map_bytes));
	int rc;

	if ((rc = mdb_env_set_mapsize(ix->env, size)) != 0 ||
	    (rc = mdb_env_set_maxreaders(ix->env, MAX_READERS)) != 0 ||
	    (rc = mdb_env_set_maxdbs(ix->env, DB_COUNT)) != 0)
		return rc;
	if (mdb_env_get_maxkeysize(ix->env) < INDEX_KEY_MAX)
		return MDB_BAD_VALSIZE;
	return mdb_env_open(ix->env, ix->dir, MDB_NOSYNC | MDB_NORDAHEAD | MDB_NOTLS, 0600);
}

int
index_env_open(struct index *ix)
{
	int rc;

	ix->lost = true;
	if (mkdir(ix->dir, 0700) != 0 && errno != EEXIST)
		return errno;
	if ((rc = mdb_env_create(&ix->env)) != 0)
		return rc;
	rc = open_environment(ix);
	ix->lost = rc != 0;
	if (rc == 0 && index_env_write(ix, "open the databases", open_databases, NULL) != INDEX_OK)
		rc = ix->logged_rc;
	if (rc != 0)
		index_env_close(ix);
	return rc;
}

void
index_env_close(struct index *ix)
{
	drop_reader(ix);
	if (ix->env != NULL)
		mdb_env_close(ix->env);
	ix->env = NULL;
	ix->lost = true;
}

/* --- upkeep ---------------------------------------------------------------------------------- */

uint64_t
index_take_failures(struct index *ix)
{
	uint64_t n = ix->failures;

	ix->failures = 0;
	return n;
}

int
index_reader_check(struct index *ix)
{
	int dead = 0;
	int rc = ix->lost ? MDB_PANIC : mdb_reader_check(ix->env, &dead);

	if (rc != 0)
		index_env_failed(ix, "check the readers", rc);
	return dead;
}
