/* What is measured, in the shared segment. A child's own words are read and stored relaxed: nobody
 * else writes them, and whoever adds them up wants no more than a recent value. */
#include "shm_metrics.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "shm_private.h"
#include "xalloc.h"

_Static_assert(sizeof(struct metric_counts) == SHM_METRIC_WORDS * sizeof(uint64_t),
    "struct metric_counts is made of words");

const uint64_t metric_bounds_us[METRIC_BUCKETS - 1] = {500, 1000, 2500, 5000, 10000, 25000, 50000,
    100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 300000000};

typedef _Atomic uint64_t word;

/* --- a child's own words ---------------------------------------------------------------------- */

#define WORD(field) (offsetof(struct metric_counts, field) / sizeof(uint64_t))

static void
add(struct shm *s, unsigned child, size_t at, uint64_t n)
{
	word *w = &s->seg->metrics[child][at];

	atomic_store_explicit(
	    w, atomic_load_explicit(w, memory_order_relaxed) + n, memory_order_relaxed);
}

static void
set(word *w, uint64_t value)
{
	if (atomic_load_explicit(w, memory_order_relaxed) != value)
		atomic_store_explicit(w, value, memory_order_relaxed);
}

/* `at` is where the histogram is. */
static void
observe(struct shm *s, unsigned child, size_t at, uint64_t us)
{
	size_t i = 0;

	while (i < METRIC_BUCKETS - 1 && us > metric_bounds_us[i])
		i++;
	add(s, child, at + i, 1);
	add(s, child, at + offsetof(struct metric_histogram, sum_us) / sizeof(uint64_t), us);
}

/* --- names ------------------------------------------------------------------------------------ */

enum { TAG_FREE, TAG_TAKEN, TAG_FIRST }; /* from TAG_FIRST on: of a name that can be read */

/* FNV-1a; never TAG_FREE or TAG_TAKEN. */
static uint32_t
tag_of(const char *name)
{
	uint32_t h = 2166136261u;

	for (; *name != '\0'; name++)
		h = (h ^ (unsigned char)*name) * 16777619u;
	return h < TAG_FIRST ? h + TAG_FIRST : h;
}

static bool
is_named(const struct shm_metric_name *n, uint32_t tag, const char *name)
{
	return atomic_load_explicit(&n->tag, memory_order_acquire) == tag &&
	    strcmp(n->text, name) == 0;
}

/* A process that dies between the two stores loses a place for good; one that comes between them
 * may give the same name another place, and readers add both up. */
static bool
take(struct shm_metric_name *n, uint32_t tag, const char *name, size_t length)
{
	uint32_t free_tag = TAG_FREE;

	if (!atomic_compare_exchange_strong(&n->tag, &free_tag, TAG_TAKEN))
		return false;
	memcpy(n->text, name, length);
	atomic_store(&n->quota_remaining, -1);
	atomic_store(&n->quota_limit, -1);
	atomic_store(&n->up, 1);
	atomic_store_explicit(&n->tag, tag, memory_order_release);
	return true;
}

unsigned
shm_metric_upstream(struct shm *s, const char *name, bool configured)
{
	struct shm_metric_name *names = s->seg->metric_names;
	size_t length = strlen(name);
	uint32_t tag = tag_of(name);
	unsigned most = configured ? METRIC_UPSTREAMS : METRIC_CHOSEN, i;

	if (length == 0)
		return METRIC_NONE;
	if (length >= METRIC_NAME_SIZE)
		return METRIC_OTHER;
	for (i = METRIC_NONE + 1; i < METRIC_UPSTREAMS; i++) {
		if (is_named(&names[i], tag, name))
			return i;
		if (atomic_load_explicit(&names[i].tag, memory_order_relaxed) == TAG_FREE)
			break;
	}
	for (; i < most; i++)
		if (take(&names[i], tag, name, length) || is_named(&names[i], tag, name))
			return i;
	return METRIC_OTHER;
}

void
shm_metric_set_registry(struct shm *s, unsigned child, unsigned registry, unsigned upstream)
{
	if (registry < METRIC_UPSTREAMS)
		set(&s->seg->metric_registries[child][registry], upstream);
}

unsigned
shm_metric_target(struct shm *s, unsigned child, unsigned registry, const char *host)
{
	if (registry == 0)
		return shm_metric_upstream(s, host != NULL ? host : "", false);
	if (registry >= METRIC_UPSTREAMS)
		return METRIC_OTHER;
	return (unsigned)atomic_load_explicit(
	    &s->seg->metric_registries[child][registry], memory_order_relaxed);
}

/* --- counting --------------------------------------------------------------------------------- */

static enum metric_class
class_of(int status)
{
	if (status < 200)
		return METRIC_UNANSWERED;
	return status < 300 ? METRIC_2XX
	    : status < 400  ? METRIC_3XX
	    : status < 500  ? METRIC_4XX
			    : METRIC_5XX;
}

void
shm_metric_request(struct shm *s, unsigned child, const struct metric_request *r)
{
	size_t traffic = WORD(upstream[r->upstream].traffic[r->kind][r->outcome]);

	add(s, child, traffic, 1);
	add(s, child, traffic + 1, r->bytes);
	add(s, child, WORD(classes[class_of(r->status)]), 1);
	if (r->first_us >= 0)
		observe(s, child, WORD(first_byte[r->outcome]), (uint64_t)r->first_us);
}

void
shm_metric_check(
    struct shm *s, unsigned child, unsigned upstream, enum metric_check result, uint64_t us)
{
	add(s, child, WORD(upstream[upstream].checks[result]), 1);
	observe(s, child, WORD(upstream[upstream].check), us);
}

void
shm_metric_filled(struct shm *s, unsigned child, unsigned upstream, uint64_t us)
{
	observe(s, child, WORD(upstream[upstream].fill), us);
}

void
shm_metric_retry(struct shm *s, unsigned child, unsigned upstream)
{
	add(s, child, WORD(upstream[upstream].retries), 1);
}

void
shm_metric_fetched(struct shm *s, unsigned child, unsigned upstream, uint64_t bytes)
{
	add(s, child, WORD(upstream[upstream].fetched), bytes);
}

void
shm_metric_answer(struct shm *s, unsigned child, unsigned upstream, enum metric_answer answer)
{
	add(s, child, WORD(upstream[upstream].answers[answer]), 1);
	set(&s->seg->metric_names[upstream].up, answer < METRIC_ANSWER_ERROR);
}

void
shm_metric_waited(struct shm *s, unsigned child, enum metric_queue q, uint64_t us, bool got_it)
{
	observe(s, child, WORD(wait[q]), us);
	if (!got_it)
		add(s, child, WORD(given_up[q]), 1);
}

void
shm_metric_tls(struct shm *s, unsigned child, enum metric_tls version, bool resumed)
{
	add(s, child, WORD(tls[version]), 1);
	if (resumed)
		add(s, child, WORD(tls_resumed), 1);
}

void
shm_metric_tls_failed(struct shm *s, unsigned child)
{
	add(s, child, WORD(tls_failed), 1);
}

void
shm_metric_set_gauges(struct shm *s, unsigned child, const struct metric_gauges *now)
{
	word *w = s->seg->metrics[child];

	set(&w[WORD(now.fills_queued)], now->fills_queued);
	set(&w[WORD(now.bodies_queued)], now->bodies_queued);
	set(&w[WORD(now.followers)], now->followers);
}

void
shm_metric_set_quota(struct shm *s, unsigned upstream, int64_t remaining, int64_t limit)
{
	struct shm_metric_name *n = &s->seg->metric_names[upstream];

	if (upstream <= METRIC_NONE)
		return;
	atomic_store_explicit(&n->quota_remaining, remaining, memory_order_relaxed);
	atomic_store_explicit(&n->quota_limit, limit, memory_order_relaxed);
}

/* --- what the master and gc know -------------------------------------------------------------- */

void
shm_metric_init(struct shm *s)
{
	atomic_store(&s->seg->metric_cache.started_at, (uint64_t)clock_wall());
	atomic_store(&s->seg->metric_names[METRIC_OTHER].quota_remaining, -1);
	atomic_store(&s->seg->metric_names[METRIC_NONE].quota_remaining, -1);
}

void
shm_metric_set_wanted(struct shm *s, unsigned listeners)
{
	set(&s->seg->metric_cache.wanted, listeners);
}

void
shm_metric_master_beat(struct shm *s, uint64_t now)
{
	set(&s->seg->metric_cache.master_beat_ms, now);
}

void
shm_metric_death(struct shm *s, bool gc, enum metric_death how)
{
	atomic_fetch_add(&s->seg->metric_cache.deaths[gc ? 1 : 0][how], 1);
}

void
shm_metric_reload(struct shm *s, bool done)
{
	struct shm_metric_cache *c = &s->seg->metric_cache;

	atomic_fetch_add(done ? &c->reloads : &c->failed_reloads, 1);
	if (done)
		atomic_store(&c->reloaded_at, (uint64_t)clock_wall());
}

void
shm_metric_set_pass(struct shm *s, const struct metric_pass *pass)
{
	struct shm_metric_cache *c = &s->seg->metric_cache;

	atomic_store(&c->pass_took_ms, pass->took_ms);
	atomic_store(&c->pass_ended_at, pass->ended_at);
}

void
shm_metric_closed(struct shm *s, unsigned child)
{
	shm_metric_set_gauges(s, child, &(struct metric_gauges){0});
}

/* --- reading ---------------------------------------------------------------------------------- */

void
shm_metric_cache(const struct shm *s, struct metric_cache *to)
{
	const struct shm_metric_cache *c = &s->seg->metric_cache;

	*to = (struct metric_cache){
	    .started_at = atomic_load(&c->started_at),
	    .wanted = atomic_load(&c->wanted),
	    .master_beat_ms = atomic_load(&c->master_beat_ms),
	    .reloads = atomic_load(&c->reloads),
	    .failed_reloads = atomic_load(&c->failed_reloads),
	    .reloaded_at = atomic_load(&c->reloaded_at),
	    .pass = {.ended_at = atomic_load(&c->pass_ended_at),
		.took_ms = atomic_load(&c->pass_took_ms)},
	};
	for (int i = 0; i < 2; i++)
		for (int how = 0; how < METRIC_DEATHS; how++)
			to->deaths[i][how] = atomic_load(&c->deaths[i][how]);
}

static void
add_words(const struct shm *s, unsigned child, struct metric_counts *to, size_t from, size_t n)
{
	uint64_t *sum = (uint64_t *)to + from;

	for (size_t i = 0; i < n; i++)
		sum[i] += atomic_load_explicit(
		    &s->seg->metrics[child][from + i], memory_order_relaxed);
}

/* Pages of upstreams that nobody named are not touched. */
static void
add_child(const struct shm *s, unsigned child, struct metric_sum *sum)
{
	add_words(s, child, &sum->counts, 0, WORD(upstream));
	for (unsigned i = 0; i < METRIC_UPSTREAMS; i++)
		if (sum->name[i][0] != '\0')
			add_words(s, child, &sum->counts, WORD(upstream[i]),
			    sizeof(struct metric_upstream) / sizeof(uint64_t));
}

static void
read_name(const struct shm *s, unsigned i, struct metric_sum *sum)
{
	const struct shm_metric_name *n = &s->seg->metric_names[i];

	if (atomic_load_explicit(&n->tag, memory_order_acquire) >= TAG_FIRST)
		memcpy(sum->name[i], n->text, METRIC_NAME_SIZE);
	sum->quota_remaining[i] = atomic_load_explicit(&n->quota_remaining, memory_order_relaxed);
	sum->quota_limit[i] = atomic_load_explicit(&n->quota_limit, memory_order_relaxed);
	sum->up[i] = atomic_load_explicit(&n->up, memory_order_relaxed) != 0;
}

/* The second place of a name that has two. */
static void
merge(struct metric_sum *sum, unsigned first, unsigned second)
{
	uint64_t *to = (uint64_t *)&sum->counts.upstream[first];
	const uint64_t *from = (const uint64_t *)&sum->counts.upstream[second];

	for (size_t i = 0; i < sizeof(struct metric_upstream) / sizeof(uint64_t); i++)
		to[i] += from[i];
	sum->name[second][0] = '\0';
}

static void
merge_doubles(struct metric_sum *sum)
{
	for (unsigned i = 0; i < METRIC_UPSTREAMS; i++)
		for (unsigned j = i + 1; sum->name[i][0] != '\0' && j < METRIC_UPSTREAMS; j++)
			if (strcmp(sum->name[i], sum->name[j]) == 0)
				merge(sum, i, j);
}

struct metric_sum *
shm_metric_sum(const struct shm *s)
{
	struct metric_sum *sum = xcalloc(1, sizeof(*sum));

	for (unsigned i = 0; i < METRIC_UPSTREAMS; i++)
		read_name(s, i, sum);
	strcpy(sum->name[METRIC_OTHER], "other");
	strcpy(sum->name[METRIC_NONE], "none");
	for (unsigned i = 0; i < shm_high(s); i++)
		add_child(s, i, sum);
	add_child(s, shm_gc(s), sum);
	merge_doubles(sum);
	return sum;
}
