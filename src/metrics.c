/* The table of metrics, and how each kind of row is written. To add one: a row, and a field of struct
 * metrics_values or a word of struct metric_counts that it reads. */
#include "metrics.h"

#include <stddef.h>

#include "buf.h"
#include "version.h"


typedef void row_of_upstream(
    struct metrics_text *t, const struct metrics_values *v, unsigned upstream, size_t at);

struct row {
	struct metrics_family family;
	void (*write)(struct metrics_text *t, const struct metrics_values *v, size_t at);
	size_t at;          /* where it finds its value, if that is not the only one of its kind */
	const char *labels; /* for the manual; NULL: none */
	row_of_upstream *each; /* instead of `write`: called for every upstream, with its label set */
};

/* --- words of labels -------------------------------------------------------------------------- */

static const char *const kinds[METRIC_KINDS] = {
    "manifest", "blob", "referrers", "ping", "token", "other"};
static const char *const outcomes[METRIC_OUTCOMES] = {"hit", "grace", "fill", "follow", "resumed",
    "ranged", "checked", "passed", "uncached", "denied", "error"};
static const char *const classes[METRIC_CLASSES] = {"none", "2xx", "3xx", "4xx", "5xx"};
static const char *const checks[METRIC_CHECKS] = {"allowed", "refused", "failed"};
static const char *const answers[METRIC_ANSWERS] = {
    "ok", "refused", "limited", "error", "none", "broken"};
static const char *const queues[METRIC_QUEUES] = {"workers", "streamers"};
static const char *const roles[2] = {"listener", "gc"};
static const char *const deaths[METRIC_DEATHS] = {"signal", "exit", "silent"};
static const char *const tls_versions[METRIC_TLS_VERSIONS] = {"1.2", "1.3"};
static const char *const objects[2] = {"blob", "manifest"};

/* --- how rows are written --------------------------------------------------------------------- */

static uint64_t
word_at(const void *base, size_t at)
{
	return *(const uint64_t *)((const char *)base + at);
}

/* A field of struct metrics_values. */
static void
plain(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	metrics_value(t, word_at(v, at));
}

/* Likewise, 0 meaning that there is none yet. */
static void
if_any(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	if (word_at(v, at) != 0)
		metrics_value(t, word_at(v, at));
}

/* A word of struct metric_counts. */
static void
summed(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	metrics_value(t, word_at(&v->sum->counts, at));
}

/* Words that follow each other there, one for each of `values`. */
static void
series(struct metrics_text *t, const uint64_t *words, const char *label,
    const char *const *values, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		metrics_label(t, label, values[i]);
		metrics_value(t, words[i]);
		metrics_unlabel(t, 1);
	}
}

static void
histogram(struct metrics_text *t, const struct metric_histogram *h)
{
	metrics_histogram(t, h->bucket, metric_bounds_us, METRIC_BUCKETS, h->sum_us);
}

static void
by_upstream(struct metrics_text *t, const struct metrics_values *v, const struct row *row)
{
	for (unsigned i = 0; i < METRIC_UPSTREAMS; i++) {
		if (v->sum->name[i][0] == '\0')
			continue;
		metrics_label(t, "upstream", v->sum->name[i]);
		row->each(t, v, i, row->at);
		metrics_unlabel(t, 1);
	}
}

/* Places that requests are counted under, but that are nobody to talk to. */
static bool
is_real(unsigned upstream)
{
	return upstream != METRIC_NONE;
}

/* `at` is 0 for requests, the offset of `bytes` for these. */
static void
upstream_traffic(struct metrics_text *t, const struct metrics_values *v, unsigned i, size_t at)
{
	for (unsigned k = 0; k < METRIC_KINDS; k++)
		for (unsigned o = 0; o < METRIC_OUTCOMES; o++) {
			const struct metric_traffic *c =
			    &v->sum->counts.upstream[i].traffic[k][o];

			if (c->requests == 0)
				continue;
			metrics_label(t, "kind", kinds[k]);
			metrics_label(t, "outcome", outcomes[o]);
			metrics_value(t, word_at(c, at));
			metrics_unlabel(t, 2);
		}
}

static void
upstream_word(struct metrics_text *t, const struct metrics_values *v, unsigned i, size_t at)
{
	if (is_real(i))
		metrics_value(t, word_at(&v->sum->counts.upstream[i], at));
}

static void
upstream_checks(struct metrics_text *t, const struct metrics_values *v, unsigned i, size_t at)
{
	(void)at;
	if (is_real(i))
		series(t, v->sum->counts.upstream[i].checks, "result", checks, METRIC_CHECKS);
}

static void
upstream_answers(struct metrics_text *t, const struct metrics_values *v, unsigned i, size_t at)
{
	(void)at;
	if (is_real(i))
		series(t, v->sum->counts.upstream[i].answers, "answer", answers, METRIC_ANSWERS);
}

static void
upstream_histogram(struct metrics_text *t, const struct metrics_values *v, unsigned i, size_t at)
{
	const char *base = (const char *)&v->sum->counts.upstream[i];

	if (is_real(i))
		histogram(t, (const struct metric_histogram *)(base + at));
}

/* The places beside real names were never asked by themselves. */
static void
upstream_up(struct metrics_text *t, const struct metrics_values *v, unsigned i, size_t at)
{
	(void)at;
	if (i > METRIC_NONE)
		metrics_value(t, v->sum->up[i] ? 1 : 0);
}

/* `at` is that of a field of struct metric_sum; -1 is not known. */
static void
upstream_quota(struct metrics_text *t, const struct metrics_values *v, unsigned i, size_t at)
{
	int64_t value = ((const int64_t *)((const char *)v->sum + at))[i];

	if (i > METRIC_NONE && value >= 0)
		metrics_value(t, (uint64_t)value);
}

static void
first_bytes(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	(void)at;
	for (unsigned o = 0; o < METRIC_OUTCOMES; o++) {
		metrics_label(t, "outcome", outcomes[o]);
		histogram(t, &v->sum->counts.first_byte[o]);
		metrics_unlabel(t, 1);
	}
}

static void
waits(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	(void)at;
	for (unsigned q = 0; q < METRIC_QUEUES; q++) {
		metrics_label(t, "queue", queues[q]);
		histogram(t, &v->sum->counts.wait[q]);
		metrics_unlabel(t, 1);
	}
}

static void
queue_timeouts(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	(void)at;
	series(t, v->sum->counts.given_up, "queue", queues, METRIC_QUEUES);
}

static void
queue_lengths(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	const struct metric_gauges *now = &v->sum->counts.now;
	const uint64_t lengths[METRIC_QUEUES] = {now->fills_queued, now->bodies_queued};

	(void)at;
	series(t, lengths, "queue", queues, METRIC_QUEUES);
}

static void
responses(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	(void)at;
	series(t, v->sum->counts.classes, "class", classes, METRIC_CLASSES);
}

static void
handshakes(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	(void)at;
	series(t, v->sum->counts.tls, "version", tls_versions, METRIC_TLS_VERSIONS);
}

static void
child_deaths(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	(void)at;
	for (unsigned r = 0; r < 2; r++) {
		metrics_label(t, "role", roles[r]);
		series(t, v->cache.deaths[r], "reason", deaths, METRIC_DEATHS);
		metrics_unlabel(t, 1);
	}
}

static void
reloads(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	static const char *const results[] = {"done", "failed"};
	const uint64_t words[] = {v->cache.reloads, v->cache.failed_reloads};

	(void)at;
	series(t, words, "result", results, 2);
}

/* What uses the disk is not known before gc has counted it. */
static void
by_object(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	(void)at;
	if (v->disk.known)
		series(t, v->disk.objects, "kind", objects, 2);
}

static void
disk_use(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	static const char *const uses[] = {"blob", "manifest", "fill", "dead_fill", "index"};
	const uint64_t bytes[] = {v->disk.bytes[0], v->disk.bytes[1], v->disk.reserved,
	    v->disk.adrift, v->disk.overhead};

	(void)at;
	if (v->disk.known)
		series(t, bytes, "use", uses, sizeof(uses) / sizeof(uses[0]));
}

static void
evictions(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	static const char *const reasons[] = {"limit", "age", "unused"};
	const uint64_t words[] = {v->counters[COUNT_EVICTED], v->counters[COUNT_EXPIRED_AGE],
	    v->counters[COUNT_EXPIRED_UNUSED]};

	(void)at;
	series(t, words, "reason", reasons, 3);
}

static void
evicted_bytes(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	static const char *const reasons[] = {"limit", "expired"};
	const uint64_t words[] = {
	    v->counters[COUNT_BYTES_EVICTED], v->counters[COUNT_BYTES_EXPIRED]};

	(void)at;
	series(t, words, "reason", reasons, 2);
}

static void
evicted_unused(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	(void)at;
	if (v->evicted_unused >= 0)
		metrics_value(t, (uint64_t)v->evicted_unused);
}

static void
pass_time(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	(void)at;
	if (v->cache.pass.ended_at != 0)
		metrics_micros(t, v->cache.pass.took_ms * 1000);
}

static void
if_index(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	if (v->has_index)
		metrics_value(t, word_at(v, at));
}

static void
index_records(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	static const char *const databases[INDEX_DATABASES] = {
	    "objects", "leases", "names", "proofs"};

	(void)at;
	if (v->has_index)
		series(t, v->index.records, "database", databases, INDEX_DATABASES);
}

static void
build(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	(void)v;
	(void)at;
	metrics_label(t, "version", PACKAGE_VERSION);
	metrics_value(t, 1);
}

static void
uptime(struct metrics_text *t, const struct metrics_values *v, size_t at)
{
	(void)at;
	metrics_value(t, v->now > v->cache.started_at ? v->now - v->cache.started_at : 0);
}

/* --- the table -------------------------------------------------------------------------------- */

#define COUNTER(name, help) {name, help, NULL, METRICS_COUNTER}
#define COUNTER_OF(unit, name, help) {name, help, unit, METRICS_COUNTER}
#define GAUGE(name, help) {name, help, NULL, METRICS_GAUGE}
#define GAUGE_OF(unit, name, help) {name, help, unit, METRICS_GAUGE}
#define TIMES(name, help) {name, help, "seconds", METRICS_HISTOGRAM}
#define AT(field) offsetof(struct metrics_values, field)
#define COUNTED(c) .write = plain, .at = offsetof(struct metrics_values, counters) + (c) * sizeof(uint64_t)
#define SUM(field) offsetof(struct metric_counts, field)
#define OF_UPSTREAM(field) offsetof(struct metric_upstream, field)

static const struct row rows[] = {
    /* clients */
    {COUNTER("requests", "Requests of clients that have ended."),
	.each = upstream_traffic, .labels = "upstream, kind, outcome"},
    {COUNTER_OF("bytes", "sent_bytes", "Bytes of bodies sent to clients."),
	.each = upstream_traffic, .at = offsetof(struct metric_traffic, bytes), .labels = "upstream, kind, outcome"},
    {COUNTER("responses", "Answers to clients by the class of their status; none: the client left "
			  "before."),
	.write = responses, .labels = "class"},
    {TIMES("first_byte_seconds", "From a request's head to that of its answer."),
	.write = first_bytes, .labels = "outcome"},
    {GAUGE("connections", "Connections of clients that are open."),
	.write = plain, .at = AT(connections)},
    {COUNTER("connections_accepted", "Connections of clients that were accepted."),
	COUNTED(COUNT_CONNECTIONS)},
    {COUNTER("connections_refused", "Connections refused because of server.maxConnections, "
				    "server.maxConnectionsPerAddress, or their PROXY head."),
	COUNTED(COUNT_REFUSED)},
    {COUNTER("connections_crowded_out", "Connections without a request closed to make room."),
	COUNTED(COUNT_CROWDED_OUT)},
    {COUNTER("requests_too_many", "Requests answered 429 because of server.requestRate."),
	COUNTED(COUNT_TOO_MANY)},
    {COUNTER("strangers", "Requests refused because the client is no user of the cache."),
	COUNTED(COUNT_STRANGERS)},
    {COUNTER("tls_handshakes", "TLS handshakes with clients that succeeded."),
	.write = handshakes, .labels = "version"},
    {COUNTER("tls_resumptions", "Those of them that resumed a session."),
	.write = summed, .at = SUM(tls_resumed)},
    {COUNTER("tls_failures", "Connections that ended within their TLS handshake."),
	.write = summed, .at = SUM(tls_failed)},

    /* upstreams */
    {COUNTER("checks", "Answers to the question whether a client may have an object."),
	.each = upstream_checks, .labels = "upstream, result"},
    {TIMES("check_seconds", "How long such an answer took."),
	.each = upstream_histogram, .at = OF_UPSTREAM(check), .labels = "upstream"},
    {COUNTER("checks_sent", "Checks that were sent to an upstream."), COUNTED(COUNT_CHECKS)},
    {COUNTER("checks_shared", "Checks that joined one under way."), COUNTED(COUNT_CHECKS_SHARED)},
    {COUNTER("upstream_answers", "What became of what was asked of an upstream: ok (1xx to 3xx), "
				 "refused (4xx), limited (429), error (5xx), none (no answer), "
				 "broken (it ended early)."),
	.each = upstream_answers, .labels = "upstream, answer"},
    {GAUGE("upstream_up", "Whether what was asked of an upstream last had an answer below 500."),
	.each = upstream_up, .labels = "upstream"},
    {COUNTER("upstream_retries", "Fetches that were tried again."),
	.each = upstream_word, .at = OF_UPSTREAM(retries), .labels = "upstream"},
    {GAUGE("upstream_quota_remaining", "What an upstream's last RateLimit-Remaining said."),
	.each = upstream_quota, .at = offsetof(struct metric_sum, quota_remaining), .labels = "upstream"},
    {GAUGE("upstream_quota_limit", "What an upstream's last RateLimit-Limit said."),
	.each = upstream_quota, .at = offsetof(struct metric_sum, quota_limit), .labels = "upstream"},
    {COUNTER("upstream_limits", "Answers 429 that keep further requests from an upstream for a "
				"while."),
	COUNTED(COUNT_LIMITS)},
    {COUNTER("upstream_limited", "Requests that such a limit kept from an upstream."),
	COUNTED(COUNT_LIMITED)},
    {COUNTER("upstream_hosts_down", "Hosts of registries that were found not to answer any more."),
	COUNTED(COUNT_HOSTS_DOWN)},
    {COUNTER("upstream_hosts_up", "Those of them that were found to answer again."),
	COUNTED(COUNT_HOSTS_UP)},
    {COUNTER("upstream_kept_from_down", "Requests that were not sent to a host because it is "
					"down."),
	COUNTED(COUNT_KEPT_FROM_DOWN)},
    {COUNTER("upstream_next_hosts", "Requests that went on to a registry's next host."),
	COUNTED(COUNT_NEXT_HOSTS)},
    {COUNTER("tokens", "Tokens that were asked of realms."), COUNTED(COUNT_TOKENS)},
    {COUNTER("held_refused", "Requests that a registry refused to a credential of the cache's."),
	COUNTED(COUNT_HELD_REFUSED)},
    {COUNTER("grace", "Requests served unchecked (server.checkGrace) while the upstream could not "
		      "answer."),
	COUNTED(COUNT_GRACE)},
    {COUNTER_OF("bytes", "fetched_bytes", "Bytes of bodies that an upstream sent."),
	.each = upstream_word, .at = OF_UPSTREAM(fetched), .labels = "upstream"},

    /* fills */
    {COUNTER("fills", "Fetches that were begun."), COUNTED(COUNT_FILLS)},
    {TIMES("fill_seconds", "How long fetches that succeeded took."),
	.each = upstream_histogram, .at = OF_UPSTREAM(fill), .labels = "upstream"},
    {GAUGE("fills_running", "Fetches under way."), .write = plain, .at = AT(fills_running)},
    {GAUGE("fills_running_limit", "How many may be (server.workers)."),
	.write = plain, .at = AT(fills_limit)},
    {GAUGE("followers", "Requests that read from the fetch of another request."),
	.write = summed, .at = SUM(now.followers)},
    {COUNTER("follows", "Fetches of other listeners that were followed."), COUNTED(COUNT_FOLLOWS)},
    {GAUGE("queue_length", "Fetches that wait for one of server.workers places, and answers that "
			   "wait for one of server.streamers."),
	.write = queue_lengths, .labels = "queue"},
    {TIMES("queue_wait_seconds", "How long those waited that had to wait."),
	.write = waits, .labels = "queue"},
    {COUNTER("queue_timeouts", "Those that waited in vain."),
	.write = queue_timeouts, .labels = "queue"},
    {COUNTER("ranged", "Ranges that were fetched beside the fetch of their object, and passed "
		       "through."),
	COUNTED(COUNT_RANGED)},
    {COUNTER_OF("bytes", "ranged_bytes", "Their bytes."), COUNTED(COUNT_BYTES_RANGED)},
    {COUNTER("resumes", "Fetches that were gone on with by Range."), COUNTED(COUNT_RESUMES)},
    {COUNTER("takeovers", "Fetches that were taken over from a listener that died."),
	COUNTED(COUNT_TAKEOVERS)},
    {COUNTER("digest_failures", "Objects whose bytes were not what their digest names."),
	COUNTED(COUNT_DIGEST_FAILURES)},
    {COUNTER("uncached", "Objects passed through because the cache could not keep them."),
	COUNTED(COUNT_UNCACHED)},

    /* the store */
    {GAUGE("objects", "Objects stored."), .write = by_object, .labels = "kind"},
    {GAUGE_OF("bytes", "disk_bytes", "Disk space by its use: objects, room for fetches under way, "
				     "what dead ones left, and the index and folders."),
	.write = disk_use, .labels = "use"},
    {GAUGE_OF("bytes", "disk_limit_bytes", "gc.disk.maxSize, when there is such a limit."),
	.write = if_any, .at = AT(disk.limit)},
    {COUNTER("evictions", "Objects removed: for the disk limits, maxAge or maxUnused."),
	.write = evictions, .labels = "reason"},
    {COUNTER_OF("bytes", "evicted_bytes", "Their bytes on disk."),
	.write = evicted_bytes, .labels = "reason"},
    {GAUGE_OF("seconds", "evicted_unused_seconds", "How long the object that was removed last for "
						   "the disk limits had been unused."),
	.write = evicted_unused},
    {COUNTER("no_room", "Objects passed through because the disk limits left no room."),
	COUNTED(COUNT_NO_ROOM)},
    {COUNTER("cleaned", "Files and records removed because they did not belong."),
	COUNTED(COUNT_CLEANED)},
    {GAUGE_OF("seconds", "last_pass_timestamp_seconds", "When the garbage collector's last pass "
							"ended."),
	.write = if_any, .at = AT(cache.pass.ended_at)},
    {GAUGE_OF("seconds", "last_pass_duration_seconds", "How long it took."), .write = pass_time},
    {COUNTER("adopted", "Object files without a record that were hashed and adopted."),
	COUNTED(COUNT_ADOPTED)},
    {COUNTER("scrubbed", "Objects that were hashed again."), COUNTED(COUNT_SCRUBBED)},
    {COUNTER_OF("bytes", "scrubbed_bytes", "Bytes read for that."), COUNTED(COUNT_BYTES_SCRUBBED)},
    {COUNTER("corrupt", "Stored objects that were found corrupt and removed."),
	COUNTED(COUNT_CORRUPT)},
    {COUNTER("store_errors", "Failures of the disk: full, read-only, I/O errors."),
	COUNTED(COUNT_STORE_ERRORS)},
    {COUNTER("index_errors", "Failures of the index."), COUNTED(COUNT_INDEX_ERRORS)},
    {GAUGE_OF("bytes", "index_bytes", "The size of the index."),
	.write = if_index, .at = AT(index.used_bytes)},
    {GAUGE_OF("bytes", "index_map_bytes", "What it may grow to before its map has to."),
	.write = if_index, .at = AT(index.map_bytes)},
    {GAUGE("index_records", "Records in the index."), .write = index_records, .labels = "database"},

    /* processes */
    {GAUGE("ready", "What /readyz says: 1 is ready."), .write = plain, .at = AT(ready)},
    {GAUGE("listeners_ready", "Listeners that serve."), .write = plain, .at = AT(listeners_ready)},
    {GAUGE("listeners_wanted", "How many there should be."),
	.write = plain, .at = AT(cache.wanted)},
    {COUNTER("child_deaths", "Children that ended though nobody wanted it: killed by a signal, by "
			     "their own exit, or by the master because they were silent."),
	.write = child_deaths, .labels = "role, reason"},
    {COUNTER("reloads", "Changes of the configuration."), .write = reloads, .labels = "result"},
    {GAUGE_OF("seconds", "last_reload_timestamp_seconds", "When it was changed last."),
	.write = if_any, .at = AT(cache.reloaded_at)},
    {GAUGE_OF("seconds", "start_time_seconds", "When the cache was started; counters are from "
					       "then."),
	.write = plain, .at = AT(cache.started_at)},
    {GAUGE_OF("seconds", "uptime_seconds", "How long ago that is."), .write = uptime},
    {{"build", "The version that runs.", NULL, METRICS_INFO}, .write = build, .labels = "version"},
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

void
metrics_write(const struct metrics_values *v, enum metrics_format format, struct buf *out)
{
	struct metrics_text t = {.out = out, .format = format};

	for (size_t i = 0; i < ROWS; i++) {
		metrics_begin(&t, &rows[i].family);
		if (rows[i].each != NULL)
			by_upstream(&t, v, &rows[i]);
		else
			rows[i].write(&t, v, rows[i].at);
	}
	metrics_end(&t);
}

const struct metrics_family *
metrics_describe(size_t i, const char **labels)
{
	*labels = i < ROWS ? rows[i].labels : NULL;
	return i < ROWS ? &rows[i].family : NULL;
}
