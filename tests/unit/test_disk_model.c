/* Leases, store, index, the account of disk space and gc together, against a model: 12,000 random
 * pulls, expiries, limits and deaths (kill -9 between any two steps of a fill, in the midst of gc, of the
 * whole cache). After every step the disk use by real blocks is within the limit, and not more than the
 * account says; after every pass the index and the files are the same; every byte read is right. */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/CUnit.h>
#include <event2/event.h>

#include "child.h"
#include "clock.h"
#include "conf.h"
#include "gc_private.h"
#include "index.h"
#include "lease.h"
#include "log.h"
#include "scratch.h"
#include "shm_disk.h"
#include "store.h"
#include "store_scan.h"
#include "suites.h"
#include "xalloc.h"

enum {
	STEPS = 12000,
	THINGS = 200,
	MAX_SIZE = 96 * 1024,
	BLOCK = 4096,
	LISTENER = 0,
	LEASE_STEPS = 9,      /* of a fill, at which it can die */
	UNUSED_MS = 300,      /* gc.layers.maxUnused */
	REST_EVERY = 2000,    /* steps between two rests of that length */
	WALK_EVERY = 16,      /* steps between two walks over all files */
};

struct thing {
	struct digest digest;
	size_t size;
};

struct world {
	char *folder;
	struct conf conf;
	struct child_start start;
	struct gc gc;
	struct lease_owner owner;
	struct thing things[THINGS];
	unsigned die_at; /* step of a fill; 0: it lives */
	uint64_t hits, fills, passed, deaths, passes, evicted, expired;
};

static struct world *world;
static char buffer[MAX_SIZE], wanted[MAX_SIZE];

/* --- what objects hold ----------------------------------------------------------------------- */

static void
content(unsigned n, char *to, size_t size)
{
	uint32_t x = n * 2654435761u + 1;

	for (size_t i = 0; i < size; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		to[i] = (char)x;
	}
}

static void
make_things(struct world *w)
{
	for (unsigned n = 0; n < THINGS; n++) {
		struct hasher *h = hasher_new(n % 5 == 0 ? DIGEST_SHA512 : DIGEST_SHA256);
		struct thing *t = &w->things[n];

		t->size = n == 0 ? 0 : (size_t)random() % (n % 3 == 0 ? MAX_SIZE : 6000);
		content(n, buffer, t->size);
		hasher_update(h, buffer, t->size);
		hasher_final(h, &t->digest);
		hasher_free(&h);
	}
}

static bool
has_right_bytes(int fd, unsigned n)
{
	size_t size = world->things[n].size;

	content(n, wanted, size);
	return pread(fd, buffer, sizeof(buffer), 0) == (ssize_t)size &&
	    memcmp(buffer, wanted, size) == 0;
}

/* --- a fill, as fill_lead.c does it ---------------------------------------------------------- */

static void
may_die(unsigned step)
{
	if (world->die_at == step)
		raise(SIGKILL);
}

/* What a leader that lacks room waits for. */
static bool
evict_until_rest(struct world *w)
{
	for (int i = 0; i < 2000; i++)
		if (gc_evict(&w->gc) > 0)
			return true;
	return false;
}

static bool
get_room(struct world *w, struct fill_ref ref, uint64_t bytes)
{
	for (int i = 0; i < 5; i++) {
		switch (shm_disk_reserve(w->start.shm, ref, bytes, UINT64_MAX)) {
		case ROOM_HAD:
			return true;
		case ROOM_NEVER:
			return false;
		case ROOM_LACKING:
			if (w->die_at == 0)
				MUST(evict_until_rest(w));
		}
	}
	return false;
}

static struct index_object
record_of(const struct thing *t)
{
	return (struct index_object){.kind = t->size % 7 == 0 ? OBJECT_MANIFEST : OBJECT_BLOB,
	    .size = t->size,
	    .fetched_at = clock_wall(),
	    .verified_at = clock_wall()};
}

static void
give_up(struct world *w, const struct thing *t, const struct lease_answer *a, struct fill_ref ref)
{
	store_remove_part(w->gc.store, &t->digest, a->lease.id);
	MUST(lease_drop(w->gc.ix, &t->digest, a->lease.id) == INDEX_OK);
	shm_fill_end(w->start.shm, ref, FILL_FAILED);
	w->passed++;
}

static void
publish(struct world *w, const struct thing *t, const struct lease_answer *a, struct fill_ref ref,
    int fd)
{
	struct index_object o = record_of(t);
	uint64_t disk;

	MUST(store_file_disk(fd, &disk));
	if (!store_has_folder(w->gc.store, &t->digest))
		shm_disk_add_overhead(w->start.shm, BLOCK);
	shm_disk_add(w->start.shm, &t->digest, o.kind - 1u, disk);
	may_die(6);
	MUST(store_publish_part(w->gc.store, &t->digest, a->lease.id));
	may_die(7);
	MUST(lease_publish(w->gc.ix, &t->digest, a->lease.id, &o) == INDEX_OK);
	may_die(8);
	shm_fill_end(w->start.shm, ref, FILL_DONE);
	w->fills++;
}

/* The part of a dead leader is gone on with: what it has is right. */
static int
open_part(struct world *w, const struct thing *t, const struct lease_answer *a, struct fill_ref ref,
    uint64_t *have)
{
	struct stat st;
	int fd = -1;
	uint64_t disk;

	*have = 0;
	if (a->inherited && a->dead_for_sure)
		fd = store_inherit_part(w->gc.store, &t->digest, a->dead.id, a->lease.id);
	if (fd < 0)
		return store_create_part(w->gc.store, &t->digest, a->lease.id);
	MUST(fstat(fd, &st) == 0 && store_file_disk(fd, &disk));
	*have = (uint64_t)st.st_size;
	shm_disk_reserve_anyway(w->start.shm, ref, disk);
	return fd;
}

static void
fetch(struct world *w, unsigned n, const struct lease_answer *a, struct fill_ref ref)
{
	const struct thing *t = &w->things[n];
	uint64_t have, half;
	int fd = open_part(w, t, a, ref, &have);

	MUST(fd >= 0 && have <= t->size);
	may_die(3);
	if (!get_room(w, ref, (t->size + BLOCK - 1) / BLOCK * BLOCK + BLOCK)) {
		close(fd);
		give_up(w, t, a, ref);
		return;
	}
	MUST(store_reserve(fd, t->size));
	shm_disk_allocated(w->start.shm, ref);
	content(n, buffer, t->size);
	half = have + (t->size - have) / 2;
	MUST(pwrite(fd, buffer + have, half - have, (off_t)have) == (ssize_t)(half - have));
	may_die(4);
	MUST(pwrite(fd, buffer + half, t->size - half, (off_t)half) == (ssize_t)(t->size - half));
	may_die(5);
	MUST(has_right_bytes(fd, n));
	publish(w, t, a, ref, fd);
	close(fd);
}

/* An object file without a record: hashed, and recorded when it is right, which it always is. */
static bool
adopt(struct world *w, unsigned n, const struct lease_answer *a, struct fill_ref ref)
{
	const struct thing *t = &w->things[n];
	struct index_object o = record_of(t);
	int fd = store_open_object(w->gc.store, &t->digest, NULL);

	if (fd < 0)
		return false;
	MUST(has_right_bytes(fd, n));
	close(fd);
	may_die(8);
	MUST(lease_publish(w->gc.ix, &t->digest, a->lease.id, &o) == INDEX_OK);
	shm_fill_end(w->start.shm, ref, FILL_DONE);
	return true;
}

static void
fill(struct world *w, unsigned n)
{
	struct shm *shm = w->start.shm;
	struct lease_answer a;
	struct fill_ref ref;

	MUST(shm_fill_claim(shm, LISTENER, &w->things[n].digest, clock_ms(), &ref));
	may_die(1);
	MUST(lease_take(w->gc.ix, shm, &w->things[n].digest, &w->owner, ref, &a) == LEASE_LEAD);
	may_die(2);
	if (!adopt(w, n, &a, ref))
		fetch(w, n, &a, ref);
}

static void
pull(struct world *w, unsigned n)
{
	const struct thing *t = &w->things[n];
	struct index_object o;
	uint64_t size;
	int fd;

	if (index_get_object(w->gc.ix, &t->digest, &o) == INDEX_OK) {
		fd = store_open_object(w->gc.store, &t->digest, &size);
		if (fd >= 0) {
			MUST(size == t->size && has_right_bytes(fd, n));
			close(fd);
			index_touch(w->gc.ix, &o, clock_wall_ms());
			w->hits++;
			return;
		}
		MUST(index_delete_object(w->gc.ix, &t->digest) == INDEX_OK);
	}
	fill(w, n);
}

/* --- deaths ---------------------------------------------------------------------------------- */

/* In a process of its own, which opens store and index anew. The parent's are not touched. */
static void
open_own(struct world *w)
{
	w->gc.store = store_open(w->folder);
	w->gc.ix = index_open(store_index_dir(w->gc.store));
	MUST(w->gc.store != NULL && w->gc.ix != NULL);
}

static int
dying_pull(void *arg)
{
	open_own(world);
	pull(world, *(unsigned *)arg);
	return 0;
}

static int
dying_gc(void *arg)
{
	(void)arg;
	open_own(world);
	for (unsigned n = 0; n < UINT_MAX; n++) {
		gc_evict(&world->gc);
		gc_collect_leases(&world->gc);
		gc_run_pass(&world->gc);
	}
	return 0;
}

static void
bury_listener(struct world *w)
{
	shm_child_closed(w->start.shm, LISTENER);
	w->owner.generation = shm_child_open(w->start.shm, LISTENER);
	index_reader_check(w->gc.ix);
	w->deaths++;
}

static void
die_in_a_fill(struct world *w, unsigned n)
{
	w->die_at = 1 + (unsigned)random() % LEASE_STEPS;
	scratch_run(dying_pull, &n);
	w->die_at = 0;
	bury_listener(w);
}

static void
kill_gc(struct world *w)
{
	pid_t pid;

	gc_break_off_pass(&w->gc); /* an open folder would be read by both */
	pid = scratch_spawn(dying_gc, NULL);
	usleep((useconds_t)random() % 6000);
	scratch_kill(pid);
	index_reader_check(w->gc.ix);
	w->deaths++;
}

/* Everything dies; the next run has the files and the index. */
static void
make_run(struct world *w)
{
	w->start.shm = shm_create(1, 8);
	MUST(w->start.shm != NULL);
	w->start.number = shm_gc(w->start.shm);
	w->start.generation = shm_child_open(w->start.shm, w->start.number);
	w->owner = (struct lease_owner){LISTENER, shm_child_open(w->start.shm, LISTENER)};
	shm_disk_set_limits(w->start.shm, w->conf.gc.disk_max_size, 0);
	gc_drop_fills(&w->gc);
	gc_account_begin(&w->gc);
	MUST(shm_disk_known(w->start.shm));
	MUST(evict_until_rest(w));
}

static void
keep_counts(struct world *w)
{
	w->evicted += shm_counter_sum(w->start.shm, COUNT_EVICTED);
	w->expired += shm_counter_sum(w->start.shm, COUNT_EXPIRED_UNUSED);
}

static void
kill_all(struct world *w)
{
	keep_counts(w);
	gc_break_off_pass(&w->gc);
	gc_end_adopt(&w->gc);
	gc_evict_free(&w->gc);
	shm_destroy(&w->start.shm);
	index_close(&w->gc.ix);
	w->gc.ix = index_open(store_index_dir(w->gc.store));
	MUST(w->gc.ix != NULL);
	make_run(w);
	w->deaths++;
}

/* --- what must hold -------------------------------------------------------------------------- */

static uint64_t use;

static int
add_use(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path;
	(void)type;
	(void)ftw;
	use += (uint64_t)st->st_blocks * 512;
	return 0;
}

static void
add_part(const char *name, bool known, const struct digest *d, uint64_t id, void *arg)
{
	uint64_t disk;

	(void)known;
	(void)d;
	(void)id;
	MUST(store_part_disk(arg, name, &disk));
	use += disk;
}

/* Of what can be there; now and then of what is. */
static uint64_t
real_use(const struct world *w, bool walk)
{
	uint64_t disk;

	use = 0;
	if (walk) {
		MUST(nftw(w->folder, add_use, 8, FTW_PHYS) == 0);
		return use;
	}
	for (unsigned n = 0; n < THINGS; n++)
		if (store_object_disk(w->gc.store, &w->things[n].digest, &disk))
			use += disk;
	MUST(store_each_part(w->gc.store, add_part, w->gc.store) >= 0);
	return use + store_index_disk(w->gc.store) + store_folders_disk(w->gc.store);
}

/* The index may have grown since gc looked last, which it does every second and when it evicts: within
 * the limit that must be, all the same. */
static void
check_use(struct world *w, bool walk)
{
	uint64_t real = real_use(w, walk);
	struct shm_disk_use u;

	gc_account_index(&w->gc);
	shm_disk_use(w->start.shm, &u);
	if (real > u.limit || real > u.total)
		fprintf(stderr, "use %llu, account %llu, limit %llu\n", (unsigned long long)real,
		    (unsigned long long)u.total, (unsigned long long)u.limit);
	MUST(real <= u.limit);
	MUST(real <= u.total);
}

/* Files and records are the same, but for what a dead leader's lease still names. */
static void
check_same(struct world *w)
{
	for (unsigned n = 0; n < THINGS; n++) {
		const struct thing *t = &w->things[n];
		struct index_entry e;
		uint64_t size = 0;
		int fd = store_open_object(w->gc.store, &t->digest, &size);

		MUST(index_look(w->gc.ix, &t->digest, &e) == INDEX_OK);
		MUST(e.has_object == (fd >= 0) || (e.has_lease && !e.has_object));
		if (fd >= 0) {
			MUST(size == t->size && has_right_bytes(fd, n));
			close(fd);
		}
		MUST(!e.has_object || e.object.size == t->size);
	}
}

/* --- steps ----------------------------------------------------------------------------------- */

static bool
is_unused(const struct digest *d, const struct index_object *o, void *arg)
{
	int64_t began_ms = *(int64_t *)arg;

	(void)d;
	MUST(o->kind == OBJECT_MANIFEST ||
	    began_ms - index_unused_since(world->gc.ix, o) <= UNUSED_MS);
	return true;
}

static void
whole_pass(struct world *w)
{
	int64_t began_ms;

	gc_break_off_pass(&w->gc);
	began_ms = clock_wall_ms();
	do
		gc_run_pass(&w->gc);
	while (w->gc.pass.running);
	MUST(index_each_object(w->gc.ix, is_unused, &began_ms) == INDEX_OK);
	while (w->gc.rebuild) /* what is adopted is as old as its file */
		gc_adopt(&w->gc);
	check_same(w);
	w->passes++;
}

/* Time passes, and every blob has expired. */
static void
rest(struct world *w)
{
	usleep((UNUSED_MS + 20) * 1000);
	whole_pass(w);
	check_use(w, true);
}

/* From hardly anything to nearly all that there is. */
static void
change_limit(struct world *w)
{
	uint64_t room = 200 * 1024 + (uint64_t)random() % (2 * 1024 * 1024);

	w->conf.gc.disk_max_size = shm_disk_overhead(w->start.shm) + room;
	shm_disk_set_limits(w->start.shm, w->conf.gc.disk_max_size, 0);
	gc_account(&w->gc);
	MUST(evict_until_rest(w));
}

/* The lower the number, the oftener. */
static unsigned
some_thing(void)
{
	unsigned a = (unsigned)random() % THINGS, b = (unsigned)random() % THINGS;

	return a < b ? a : b;
}

static void
step(struct world *w)
{
	unsigned dice = (unsigned)random() % 1000;

	if (dice < 900)
		pull(w, some_thing());
	else if (dice < 930)
		die_in_a_fill(w, some_thing());
	else if (dice < 945)
		kill_gc(w);
	else if (dice < 960)
		gc_run_pass(&w->gc);
	else if (dice < 970)
		change_limit(w);
	else if (dice < 985)
		gc_collect_leases(&w->gc);
	else if (dice < 995)
		whole_pass(w);
	else
		kill_all(w);
	if (dice % 8 == 0)
		gc_account(&w->gc); /* it runs every second */
	check_use(w, dice % WALK_EVERY == 0);
}

/* --- the run --------------------------------------------------------------------------------- */

static void
on_drain(enum child_end why, void *arg)
{
	(void)why;
	(void)arg;
}

static void
make_world(struct world *w, int life_fd)
{
	w->conf.data_path = w->folder;
	w->conf.gc.disk_max_size = 4 * 1024 * 1024;
	w->conf.gc.interval = 3600000;
	w->conf.gc.layers.check_rate = UINT64_C(1) << 40;
	w->conf.gc.layers.max_unused = UNUSED_MS;
	w->start = (struct child_start){.conf = &w->conf, .life_fd = life_fd, .master = getppid()};
	w->gc = (struct gc){.start = &w->start, .base = event_base_new()};
	w->gc.store = store_open(w->folder);
	MUST(w->gc.base != NULL && w->gc.store != NULL);
	w->gc.ix = index_open(store_index_dir(w->gc.store));
	MUST(w->gc.ix != NULL);
}

static int
run(void *arg)
{
	struct world *w = world = xcalloc(1, sizeof(*w));
	int life[2];

	w->folder = arg;
	MUST(pipe(life) == 0);
	log_set_level(LOG_L_ERROR);
	make_things(w);
	make_world(w, life[0]);
	w->start.shm = shm_create(1, 8);
	w->gc.child = child_begin(w->gc.base, &w->start, on_drain, NULL);
	shm_destroy(&w->start.shm);
	make_run(w);
	for (unsigned i = 1; i <= STEPS; i++) {
		step(w);
		if (i % REST_EVERY == 0)
			rest(w);
	}
	whole_pass(w);
	keep_counts(w);
	printf("hits %llu, fills %llu, passed %llu, deaths %llu, passes %llu, evicted %llu, expired %llu\n",
	    (unsigned long long)w->hits, (unsigned long long)w->fills,
	    (unsigned long long)w->passed, (unsigned long long)w->deaths,
	    (unsigned long long)w->passes, (unsigned long long)w->evicted,
	    (unsigned long long)w->expired);
	MUST(w->hits > STEPS / 10 && w->fills > STEPS / 10 && w->deaths > STEPS / 100 &&
	    w->evicted > STEPS / 20 && w->expired > 10);
	return 0;
}

static void
the_store_is_as_the_model_says_after_every_step(void)
{
	const char *said = getenv("REGISTRY_CACHE_SEED");
	unsigned seed = said != NULL ? (unsigned)strtoul(said, NULL, 10) : (unsigned)clock_ms();
	char *folder = scratch_folder();
	int status;

	srandom(seed);
	status = scratch_run(run, folder);
	if (status != 0)
		fprintf(stderr, "REGISTRY_CACHE_SEED=%u\n", seed);
	CU_ASSERT_EQUAL(status, 0);
	scratch_remove(&folder);
}

void
suite_disk_model(void)
{
	CU_pSuite suite = CU_add_suite("disk_model_race", NULL, NULL);

	CU_add_test(suite, "the store is as the model says after every step",
	    the_store_is_as_the_model_says_after_every_step);
}
