/* What is measured for metrics beyond the counters of shm.h: traffic by upstream, histograms, and
 * what the master and gc know of the whole cache. In shared memory, so that it outlives the process
 * that counted, a reload and an upgrade.
 *
 * A child counts in words of its own, which nobody else writes: an addition is a load and a store,
 * without a lock. Whoever reads adds the words of all children up.
 *
 * Upstreams have a number, taken when the first request names them: those of the configuration
 * find a place while there is one, names that a client can choose only among METRIC_CHOSEN of the
 * places. Who finds none is counted as METRIC_OTHER. A number stays with its name as long as the
 * segment lives. */
#ifndef SHM_METRICS_H
#define SHM_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shm;

enum {
	METRIC_UPSTREAMS = 128,
	METRIC_CHOSEN = 64,
	METRIC_NAME_SIZE = 120, /* with its NUL; longer names are METRIC_OTHER */
	METRIC_OTHER = 0,
	METRIC_NONE = 1, /* no upstream: a request that was not routed */
	METRIC_BUCKETS = 18, /* the last is what is above all bounds */
};

/* Upper bounds of the buckets but the last, in microseconds. */
extern const uint64_t metric_bounds_us[METRIC_BUCKETS - 1];

enum metric_kind {
	METRIC_MANIFEST,
	METRIC_BLOB,
	METRIC_REFERRERS,
	METRIC_PING,
	METRIC_TOKEN,
	METRIC_OTHER_KIND,
	METRIC_KINDS
};
enum metric_outcome {
	METRIC_HIT,      /* from the store */
	METRIC_GRACE,    /* the same, unchecked: the registry could not answer */
	METRIC_FILL,     /* from a fill that it led */
	METRIC_FOLLOW,   /* from a fill of another request */
	METRIC_RESUMED,  /* the same, and the fill was gone on with */
	METRIC_RANGED,   /* a range that was fetched beside a fill */
	METRIC_CHECKED,  /* HEAD, answered from the check */
	METRIC_PASSED,   /* streamed through by its nature */
	METRIC_UNCACHED, /* streamed through because the cache could not keep it */
	METRIC_DENIED,   /* the registry said no */
	METRIC_ERROR,    /* anything else */
	METRIC_OUTCOMES
};
/* Of an answer to a client. */
enum metric_class {
	METRIC_UNANSWERED, /* the client left before */
	METRIC_2XX,
	METRIC_3XX,
	METRIC_4XX,
	METRIC_5XX,
	METRIC_CLASSES
};
enum metric_check { METRIC_ALLOWED, METRIC_REFUSED, METRIC_FAILED, METRIC_CHECKS };
/* Of an exchange with an upstream. */
enum metric_answer {
	METRIC_ANSWER_OK,      /* 1xx to 3xx */
	METRIC_ANSWER_REFUSED, /* 4xx but 429 */
	METRIC_ANSWER_LIMITED, /* 429 */
	METRIC_ANSWER_ERROR,   /* 5xx */
	METRIC_ANSWER_NONE,    /* no connection, no answer in time, not to be trusted, … */
	METRIC_ANSWER_BROKEN,  /* it broke after its head */
	METRIC_ANSWERS
};
enum metric_queue { METRIC_WORKERS, METRIC_STREAMERS, METRIC_QUEUES };
enum metric_death { METRIC_CRASHED, METRIC_EXITED, METRIC_SILENT, METRIC_DEATHS };
enum metric_tls { METRIC_TLS12, METRIC_TLS13, METRIC_TLS_VERSIONS };

/* All fields are words, so that they can be added up as such. Times in microseconds. */
struct metric_histogram {
	uint64_t bucket[METRIC_BUCKETS]; /* not cumulative */
	uint64_t sum_us;
};

struct metric_traffic {
	uint64_t requests, bytes; /* ended; of bodies, sent to clients */
};

struct metric_upstream {
	struct metric_traffic traffic[METRIC_KINDS][METRIC_OUTCOMES];
	uint64_t fetched; /* bytes of bodies that it sent */
	uint64_t checks[METRIC_CHECKS];
	uint64_t answers[METRIC_ANSWERS];
	uint64_t retries;
	struct metric_histogram check, fill;
};

/* What a child has now, not ever: forgotten when it ends. */
struct metric_gauges {
	uint64_t fills_queued, bodies_queued, followers;
};

struct metric_counts {
	struct metric_gauges now;
	struct metric_histogram first_byte[METRIC_OUTCOMES];
	struct metric_histogram wait[METRIC_QUEUES];
	uint64_t given_up[METRIC_QUEUES];
	uint64_t classes[METRIC_CLASSES];
	uint64_t tls[METRIC_TLS_VERSIONS], tls_resumed, tls_failed;
	struct metric_upstream upstream[METRIC_UPSTREAMS];
};

/* --- counting: the child that has this number, and no other process ---------------------------- */

/* The number of an upstream. `configured`: a client cannot choose the name. */
unsigned shm_metric_upstream(struct shm *s, const char *name, bool configured);
/* Requests to server.registries' entry `registry`, from 1, are counted by this child under that
 * number. */
void shm_metric_set_registry(struct shm *s, unsigned child, unsigned registry, unsigned upstream);
/* The number of what a request is sent to: a registry (0: none of them), or a host. */
unsigned shm_metric_target(struct shm *s, unsigned child, unsigned registry, const char *host);

struct metric_request {
	unsigned upstream;
	enum metric_kind kind;
	enum metric_outcome outcome;
	int status;       /* 0: it was not answered */
	uint64_t bytes;
	int64_t first_us; /* from its head to that of its answer; -1: there was none */
};
void shm_metric_request(struct shm *s, unsigned child, const struct metric_request *r);
void shm_metric_check(
    struct shm *s, unsigned child, unsigned upstream, enum metric_check result, uint64_t us);
void shm_metric_filled(struct shm *s, unsigned child, unsigned upstream, uint64_t us);
void shm_metric_retry(struct shm *s, unsigned child, unsigned upstream);
void shm_metric_fetched(struct shm *s, unsigned child, unsigned upstream, uint64_t bytes);
/* Of one exchange: its head, or that there was none, and also that it broke after it. */
void shm_metric_answer(
    struct shm *s, unsigned child, unsigned upstream, enum metric_answer answer);
/* A request waited for its turn, and got it or gave up. */
void shm_metric_waited(struct shm *s, unsigned child, enum metric_queue q, uint64_t us, bool got_it);
void shm_metric_tls(struct shm *s, unsigned child, enum metric_tls version, bool resumed);
void shm_metric_tls_failed(struct shm *s, unsigned child);
void shm_metric_set_gauges(struct shm *s, unsigned child, const struct metric_gauges *now);
/* What an upstream's last answer said of a quota; -1: it did not say. */
void shm_metric_set_quota(struct shm *s, unsigned upstream, int64_t remaining, int64_t limit);

/* --- what the master and gc know --------------------------------------------------------------- */

/* How many listeners are to be ready; a whole turn of the master's loop has passed at `now`
 * (clock_ms). */
void shm_metric_set_wanted(struct shm *s, unsigned listeners);
void shm_metric_master_beat(struct shm *s, uint64_t now);
void shm_metric_death(struct shm *s, bool gc, enum metric_death how);
void shm_metric_reload(struct shm *s, bool done);

struct metric_pass {
	uint64_t ended_at, took_ms;    /* seconds since 1970; 0: none has ended yet */
};
void shm_metric_set_pass(struct shm *s, const struct metric_pass *pass);

/* --- reading ----------------------------------------------------------------------------------- */

struct metric_cache {
	uint64_t started_at; /* seconds since 1970: when the segment was made */
	uint64_t wanted, master_beat_ms;
	uint64_t deaths[2][METRIC_DEATHS]; /* listeners, gc */
	uint64_t reloads, failed_reloads, reloaded_at;
	struct metric_pass pass;
};
void shm_metric_cache(const struct shm *s, struct metric_cache *c);

/* The sum over all children, and the names of the upstreams ("": the number is not taken). */
struct metric_sum {
	struct metric_counts counts;
	char name[METRIC_UPSTREAMS][METRIC_NAME_SIZE];
	int64_t quota_remaining[METRIC_UPSTREAMS], quota_limit[METRIC_UPSTREAMS]; /* -1: not known */
	bool up[METRIC_UPSTREAMS]; /* its last exchange had an answer below 500 */
};
/* New; owned by the caller (free). */
struct metric_sum *shm_metric_sum(const struct shm *s);

#endif
