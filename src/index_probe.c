/* Trying an index out in a process of its own, before anybody relies on it. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "index_private.h"
#include "log.h"

enum {
	PROBE_SECONDS = 45,  /* for what circles inside LMDB */
	MAP_LEAST = 1 << 20, /* bytes */
};

/* --- the tree, as it is in the file ----------------------------------------------------------- */

/* The head of a page of LMDB 0.9's format 1 (MDB_page in its mdb.c). LMDB believes it: when the page is written to, it is
 * copied by these lengths. */
struct page_head {
	size_t number;
	uint16_t pad, flags, lower, upper; /* of the free space between pointers and records */
};
enum {
	PAGE_HEAD_SIZE = sizeof(size_t) + 8,
	BRANCH = 0x01,
	LEAF = 0x02,
	RECORD_HEAD_SIZE = 8,
	FREE_PAGES = 0, /* the database of the free pages: open in every transaction (mdb_stat.c) */
	FIRST_PAGE = 2, /* those before it say where all is */
};

struct walk {
	MDB_txn *txn;
	MDB_dbi db;
	MDB_stat st;
	const uint8_t *page; /* that was looked at last … */
	size_t records;      /* … and where in it they begin */
	size_t last_number;  /* of the pages in use */
};

static const uint8_t *
page_of(const struct walk *w, const uint8_t *p)
{
	return p - (uintptr_t)p % w->st.ms_psize;
}

static bool
head_is_fine(const struct page_head *head, size_t page_size)
{
	return head->lower >= PAGE_HEAD_SIZE && head->lower % 2 == 0 &&
	    head->lower <= head->upper && head->upper <= page_size;
}

static bool
enter_page(struct walk *w, const uint8_t *page)
{
	struct page_head head;

	memcpy(&head, page, PAGE_HEAD_SIZE);
	w->page = page;
	w->records = head.upper;
	return head.flags == LEAF && head_is_fine(&head, w->st.ms_psize);
}

static bool
ends_in_page(const struct walk *w, const MDB_val *v)
{
	const uint8_t *p = v->mv_data;

	return v->mv_size <= w->st.ms_psize && p + v->mv_size <= page_of(w, p) + w->st.ms_psize;
}

/* A value may have pages of its own, a key has not. */
static bool
record_is_fine(struct walk *w, const MDB_val *key, const MDB_val *value)
{
	const uint8_t *page = page_of(w, key->mv_data);
	size_t at = (size_t)((const uint8_t *)key->mv_data - page);

	return (page == w->page || enter_page(w, page)) && at >= w->records + RECORD_HEAD_SIZE &&
	    ends_in_page(w, key) &&
	    (page_of(w, value->mv_data) != page || ends_in_page(w, value));
}

/* A record of the free pages: how many, and their numbers, descending (MDB_IDL in LMDB's midl.h). */
static bool
free_pages_are_fine(const struct walk *w, const MDB_val *value)
{
	const size_t *ids = value->mv_data;
	size_t n = value->mv_size / sizeof(*ids);

	if (n < 1 || value->mv_size % sizeof(*ids) != 0 || ids[0] >= n)
		return false;
	for (size_t i = 1; i <= ids[0]; i++)
		if (ids[i] < FIRST_PAGE || ids[i] > w->last_number || (i > 1 && ids[i] >= ids[i - 1]))
			return false;
	return true;
}

/* LMDB follows whatever pages say, round a circle for ever. Keys that do not ascend, or that are not as many as were
 * counted, show a page that says something wrong. */
static int
walk_records(struct walk *w, MDB_cursor *cursor)
{
	MDB_val last, key, value;
	size_t seen = 0;
	int rc;

	for (rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); rc == 0;
	     rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
		if (seen == w->st.ms_entries || !record_is_fine(w, &key, &value) ||
		    (seen > 0 && mdb_cmp(w->txn, w->db, &last, &key) >= 0) ||
		    (w->db == FREE_PAGES && !free_pages_are_fine(w, &value)))
			return MDB_CORRUPTED;
		last = key;
		seen++;
	}
	return rc == MDB_NOTFOUND && seen == w->st.ms_entries ? 0 : MDB_CORRUPTED;
}

static int
walk(MDB_txn *txn, MDB_dbi db)
{
	struct walk w = {.txn = txn, .db = db};
	MDB_envinfo info;
	MDB_cursor *cursor;
	int rc = mdb_stat(txn, db, &w.st);

	if (rc == 0)
		rc = mdb_env_info(mdb_txn_env(txn), &info);
	if (rc == 0)
		rc = mdb_cursor_open(txn, db, &cursor);
	if (rc != 0)
		return rc;
	w.last_number = info.me_last_pgno;
	rc = walk_records(&w, cursor);
	mdb_cursor_close(cursor);
	return rc;
}

/* NULL: the database of the databases. */
static int
walk_database(MDB_txn *txn, const char *name)
{
	MDB_dbi db;
	int rc = mdb_dbi_open(txn, name, 0, &db);

	if (rc == MDB_NOTFOUND)
		return 0; /* not made yet; if it ought to be there, the format check says so */
	return rc == 0 ? walk(txn, db) : rc;
}

/* A cursor shows the leaves. Branches are found by their heads; one that is no longer in use was sound once. */
static int
look_at_branches(const uint8_t *pages, size_t last_number, size_t page_size)
{
	for (size_t n = FIRST_PAGE; n <= last_number; n++) {
		struct page_head head;

		memcpy(&head, pages + n * page_size, PAGE_HEAD_SIZE);
		if (head.number == n && head.flags == BRANCH && !head_is_fine(&head, page_size))
			return MDB_CORRUPTED;
	}
	return 0;
}

/* Pages at the end that were never used may not have been written. */
static int
look_at_file(MDB_txn *txn)
{
	MDB_env *env = mdb_txn_env(txn);
	MDB_envinfo info;
	MDB_stat pages;
	struct stat st;
	uint8_t *map;
	size_t last;
	int fd, rc;

	if ((rc = mdb_env_info(env, &info)) != 0 || (rc = mdb_env_stat(env, &pages)) != 0 ||
	    (rc = mdb_env_get_fd(env, &fd)) != 0)
		return rc;
	if (fstat(fd, &st) != 0)
		return errno;
	last = (size_t)st.st_size / pages.ms_psize - 1; /* LMDB has read its first pages */
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return errno;
	rc = look_at_branches(map, info.me_last_pgno < last ? info.me_last_pgno : last, pages.ms_psize);
	munmap(map, (size_t)st.st_size);
	return rc;
}

static int
walk_databases(MDB_txn *txn)
{
	int rc = walk(txn, FREE_PAGES);

	if (rc == 0)
		rc = walk_database(txn, NULL);
	for (int i = 0; rc == 0 && i < DB_COUNT; i++)
		rc = walk_database(txn, index_db_names[i]);
	return rc;
}

/* The map is as large as what has been written, for address space may be limited; another process
 * may have written more since. */
static int
begin_walk(MDB_env *env, MDB_txn **txn)
{
	int rc = mdb_txn_begin(env, NULL, MDB_RDONLY, txn);

	if (rc == MDB_MAP_RESIZED && (rc = mdb_env_set_mapsize(env, 0)) == 0)
		rc = mdb_txn_begin(env, NULL, MDB_RDONLY, txn);
	return rc;
}

/* Read-only: a page that is written to is copied first, and LMDB believes its lengths. */
static int
walk_environment(const char *dir)
{
	MDB_env *env;
	MDB_txn *txn;
	int rc = mdb_env_create(&env);

	if (rc == 0)
		rc = mdb_env_set_maxdbs(env, DB_COUNT);
	if (rc == 0)
		rc = mdb_env_set_mapsize(env, MAP_LEAST);
	if (rc == 0)
		rc = mdb_env_open(env, dir, MDB_RDONLY, 0600);
	if (rc == 0)
		rc = begin_walk(env, &txn);
	if (rc == 0)
		rc = look_at_file(txn);
	return rc != 0 ? rc : walk_databases(txn);
}

/* --- the trial -------------------------------------------------------------------------------- */

enum { FINE, UNUSABLE, DAMAGED };

static int
judge_pages(const char *dir)
{
	int rc = walk_environment(dir);

	if (rc == 0 || rc == ENOENT)
		return FINE;
	log_warn("index: reading it shows: %s", mdb_strerror(rc));
	return rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND || rc == MDB_INVALID ||
		rc == MDB_CURSOR_FULL /* a tree that deep */
	    ? DAMAGED
	    : UNUSABLE;
}

static int
judge_all(const char *dir)
{
	int verdict = judge_pages(dir);

	return verdict != FINE || index_open(dir) != NULL ? verdict : UNUSABLE;
}

typedef int judge_fn(const char *dir);

/* The child: dies quietly of what it finds. */
static void
try_out(const char *dir, judge_fn *judge)
{
	static const int deadly[] = {SIGBUS, SIGSEGV, SIGABRT, SIGFPE, SIGALRM, SIGTERM, SIGINT};
	struct rlimit none = {0, 0};
	sigset_t all;

	for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
		signal(deadly[i], SIG_DFL);
	sigfillset(&all);
	sigprocmask(SIG_UNBLOCK, &all, NULL);
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(PROBE_SECONDS);
	_exit(judge(dir));
}

/* The status of waitpid(). False: there was no trial. */
static bool
put_on_trial(const char *dir, judge_fn *judge, int *status)
{
	pid_t pid = fork();

	if (pid == 0)
		try_out(dir, judge);
	if (pid < 0 || waitpid(pid, status, 0) != pid) {
		log_warn("index: cannot be tried out");
		return false;
	}
	if (WIFSIGNALED(*status))
		log_warn("index: reading it dies of signal %d", WTERMSIG(*status));
	return true;
}

bool
index_probe(const char *dir)
{
	int status;

	if (!put_on_trial(dir, judge_all, &status))
		return true; /* then it shows in use */
	return WIFEXITED(status) && WEXITSTATUS(status) == FINE;
}

/* A limit of time says nothing of the pages: the disk may be slow. */
bool
index_is_damaged(const char *dir)
{
	int status;

	if (!put_on_trial(dir, judge_pages, &status))
		return false;
	if (WIFEXITED(status))
		return WEXITSTATUS(status) == DAMAGED;
	return WTERMSIG(status) != SIGALRM && WTERMSIG(status) != SIGKILL;
}
