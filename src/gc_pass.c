/* The pass: every gc.interval the steps of the table below run one after the other, in bites with
 * pauses in between. To add a step, write its file and its row. */
#include <time.h>

#include "child.h"
#include "clock.h"
#include "conf.h"
#include "gc_private.h"
#include "log.h"
#include "shm.h"
#include "shm_disk.h"
#include "shm_metrics.h"

enum {
	PAUSE_MIN_MS = 1,
	PAUSE_MAX_MS = 100,
	BITES_MS = 2, /* small bites are done together */
};

static const struct gc_step steps[] = {
    {"expire", gc_expire_begin, gc_expire, gc_expire_end},
    {"parts", NULL, gc_remove_strays_once, NULL},
    {"clean", gc_clean_begin, gc_clean, gc_clean_end},
    {"prune", gc_prune_begin, gc_prune, gc_prune_end},
};

enum { STEPS = sizeof(steps) / sizeof(steps[0]) };

static uint64_t
cpu_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void
begin_pass(struct gc *g)
{
	g->pass = (struct gc_pass){.running = true, .began_ms = clock_ms()};
}

/* What an administrator needs to choose a size: use by kind, what was removed and why, and for how
 * long the object evicted last had been unused (-1: none was). Counts of removals are since the
 * start. */
static void
log_pass(const struct gc *g)
{
	const struct gc_pass *p = &g->pass;
	const struct shm *shm = g->start->shm;
	struct shm_disk_use u;

	shm_disk_use(shm, &u);
	log_info("pass: blobs=%llu blob_bytes=%llu manifests=%llu manifest_bytes=%llu "
		 "reserved_bytes=%llu other_bytes=%llu limit=%llu evicted=%llu evicted_bytes=%llu "
		 "evicted_unused_s=%lld expired_age=%llu expired_unused=%llu no_room=%llu "
		 "cleaned=%llu orphans=%llu forgotten=%llu cpu_ms=%llu ms=%llu",
	    (unsigned long long)u.objects[0], (unsigned long long)u.bytes[0],
	    (unsigned long long)u.objects[1], (unsigned long long)u.bytes[1],
	    (unsigned long long)u.reserved, (unsigned long long)(u.adrift + u.overhead),
	    (unsigned long long)u.limit, (unsigned long long)shm_counter_sum(shm, COUNT_EVICTED),
	    (unsigned long long)shm_counter_sum(shm, COUNT_BYTES_EVICTED),
	    (long long)shm_disk_evicted_age(shm),
	    (unsigned long long)shm_counter_sum(shm, COUNT_EXPIRED_AGE),
	    (unsigned long long)shm_counter_sum(shm, COUNT_EXPIRED_UNUSED),
	    (unsigned long long)shm_counter_sum(shm, COUNT_NO_ROOM),
	    (unsigned long long)(p->strangers + p->wrong + p->lost),
	    (unsigned long long)p->orphans, (unsigned long long)p->forgotten,
	    (unsigned long long)p->busy_us / 1000,
	    (unsigned long long)(clock_ms() - p->began_ms));
}

static void
note_pass(const struct gc *g)
{
	const struct gc_pass *p = &g->pass;
	struct metric_pass done = {.ended_at = (uint64_t)clock_wall(), .took_ms = clock_ms() - p->began_ms};

	shm_metric_set_pass(g->start->shm, &done);
}

static void
end_step(struct gc *g)
{
	const struct gc_step *step = &steps[g->pass.step];

	if (g->pass.begun && step->end != NULL)
		step->end(g);
	g->pass.begun = false;
	g->pass.step++;
}

void
gc_break_off_pass(struct gc *g)
{
	if (!g->pass.running)
		return;
	end_step(g);
	g->pass.running = false;
}

/* One bite. False: the pass is over. */
static bool
bite(struct gc *g)
{
	const struct gc_step *step = &steps[g->pass.step];

	if (!g->pass.begun && step->begin != NULL)
		step->begin(g);
	g->pass.begun = true;
	if (step->bite(g) == GC_DONE)
		end_step(g);
	return g->pass.step < STEPS;
}

/* The pause is as long as the bite was: a pass has at most half of a CPU. */
uint64_t
gc_run_pass(struct gc *g)
{
	uint64_t began = clock_ms(), before = cpu_us(), took;
	bool more;

	if (!g->pass.running)
		begin_pass(g);
	do
		more = bite(g);
	while (more && clock_ms() - began < BITES_MS);
	g->pass.busy_us += cpu_us() - before;
	if (!more) {
		g->pass.running = false;
		log_pass(g);
		note_pass(g);
		return g->start->conf->gc.interval;
	}
	took = clock_ms() - began;
	return took < PAUSE_MIN_MS ? PAUSE_MIN_MS : took > PAUSE_MAX_MS ? PAUSE_MAX_MS : took;
}
