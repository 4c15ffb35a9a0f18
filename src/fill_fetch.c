/* The leader's transfer: request, answer, bytes to hash and file, going on by Range after a
 * failure. RFC 9110 sections 13.1.5 (If-Range), 14.4 (Content-Range), 15.3.7 (206), 15.5.17
 * (416). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <event2/event.h>

#include "clock.h"
#include "fill_private.h"
#include "http.h"
#include "log.h"
#include "media.h"
#include "notes.h"
#include "refusal.h"
#include "shm_metrics.h"
#include "store.h"
#include "registry.h"

enum { RETRY_FIRST_MS = 100, RETRY_MAX_MS = 2000 };

/* --- writing ---------------------------------------------------------------------------------- */

static void
write_failed(struct fill *f)
{
	log_warn("store: cannot write a part file: %s", strerror(errno));
	shm_count(f->fills->c.shm, f->fills->c.owner.listener, COUNT_STORE_ERRORS, 1);
	buf_free(&f->gather);
	lead_abort(f, FILL_END_UNCACHED);
}

/* Write-back begins early, so that it never comes all at once. */
static void
start_write_back(struct fill *f)
{
	if (f->bytes - f->flushed < FILL_FLUSH)
		return;
	(void)sync_file_range(
	    f->fd, (off_t)f->flushed, (off_t)(f->bytes - f->flushed), SYNC_FILE_RANGE_WRITE);
	f->flushed = f->bytes;
}

bool
fetch_write(struct fill *f)
{
	while (buf_len(&f->gather) > 0) {
		ssize_t n =
		    pwrite(f->fd, buf_data(&f->gather), buf_len(&f->gather), (off_t)f->bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		buf_consume(&f->gather, (size_t)n);
		f->bytes += (uint64_t)n;
	}
	return true;
}

/* A manifest that clients refuse for its size (4 MiB, containerd's limit) is none to keep: it is passed
 * through. True: that ended the fill. */
static bool
manifest_too_large(struct fill *f)
{
	uint64_t bytes = f->size >= 0 ? (uint64_t)f->size : f->bytes;
	char text[DIGEST_STR_SIZE];

	if (f->source.kind != OBJECT_MANIFEST || bytes <= MEDIA_DOCUMENT_MAX)
		return false;
	log_info("fill %s: a manifest of more than 4 MiB is passed through",
	    digest_str(&f->digest, text));
	fetch_keep_for_origin(f);
	lead_abort(f, FILL_END_UNCACHED);
	return true;
}

/* Whoever asks for it asks the registry. */
static bool
manifest_is_signed(struct fill *f)
{
	if (f->source.kind != OBJECT_MANIFEST || !media_is_signed(f->media_type))
		return false;
	fetch_keep_for_origin(f);
	lead_abort(f, FILL_END_UNCACHED);
	return true;
}

bool
fetch_flush(struct fill *f)
{
	if (buf_len(&f->gather) == 0)
		return true;
	if (!space_for_more(f))
		return false;
	if (space_waits(f))
		return true;
	if (!fetch_write(f)) {
		write_failed(f);
		return false;
	}
	start_write_back(f);
	shm_fill_progress(f->fills->c.shm, f->ref, fill_announced(f));
	fill_tell(f);
	return !manifest_too_large(f);
}

/* --- failing and going on --------------------------------------------------------------------- */

static void
retry_now(evutil_socket_t fd, short what, void *arg)
{
	struct fill *f = arg;

	(void)fd;
	(void)what;
	if (f->coding == CODING_NONE)
		fetch_start(f);
	else
		decode_restart(f);
}

static unsigned
retry_delay(unsigned tries)
{
	unsigned ms = RETRY_FIRST_MS << (tries < 5 ? tries : 5);

	ms = ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS;
	return ms * 3 / 4 + (unsigned)random() % (ms / 2 + 1);
}

/* Where a transfer broke, the registry's next host goes on, at once; after an error of them all the
 * first is asked first again. True: it is such a change. */
static bool
change_host(struct fill *f)
{
	bool broke = f->source.first_host > 0 && f->refusal == NULL;

	f->source.first_host = broke ? f->source.first_host + 1 : 0;
	return broke && f->hosts > 1 && f->tries == 0;
}

/* No time is left for another try. */
static bool
is_late(const struct fill *f, uint64_t then)
{
	return then - f->failing_since > f->fills->c.retry_ms ||
	    (f->bytes == 0 && f->source.deadline_ms != 0 && then >= f->source.deadline_ms);
}

/* Tries again after a while, or ends the fill as `end` when nothing came for too long. */
static void
retry_or_end(struct fill *f, enum fill_end end, const char *why)
{
	struct fills *fs = f->fills;
	unsigned ms = change_host(f) ? 0 : retry_delay(f->tries);
	struct timeval delay = {ms / 1000, (ms % 1000) * 1000};
	char text[DIGEST_STR_SIZE];

	registry_cancel(&f->call);
	if (!fetch_flush(f))
		return;
	if (space_waits(f)) { /* for what was gathered: it would be lost */
		lead_abort(f, FILL_END_UNCACHED);
		return;
	}
	log_warn("fill %s: from %s at byte %" PRIu64 ": %s", digest_str(&f->digest, text),
	    f->source.host, f->bytes, why);
	snprintf(f->why, sizeof(f->why), "%s", why);
	if (f->failing_since == 0)
		f->failing_since = clock_ms();
	if (is_late(f, clock_ms() + ms) || (end == FILL_END_TIMEOUT && f->bytes == 0)) {
		lead_abort(f, end);
		return;
	}
	refusal_free(&f->refusal);
	f->tries++;
	shm_metric_retry(fs->c.shm, fs->c.owner.listener, fill_target(f));
	if (f->timer == NULL)
		f->timer = event_new(fs->c.base, -1, 0, retry_now, f);
	if (f->timer == NULL || event_add(f->timer, &delay) != 0)
		lead_abort(f, end);
}

/* --- the answer ------------------------------------------------------------------------------- */

static void
note_media_type(struct fill *f, const struct upstream_answer *a)
{
	const char *type = upstream_header(a, "Content-Type", 0);
	size_t n = type != NULL ? strcspn(type, "; \t") : 0;

	if (n == 0 || n >= sizeof(f->media_type))
		return;
	memcpy(f->media_type, type, n);
	f->media_type[n] = '\0';
}

static void
note_etag(struct fill *f, const struct upstream_answer *a)
{
	const char *etag = upstream_header(a, "ETag", 0);

	f->etag[0] = '\0';
	f->etag_host = a->host;
	if (etag != NULL && etag[0] == '"' && strlen(etag) < sizeof(f->etag))
		strcpy(f->etag, etag);
}

static void
on_spare_done(void *arg, enum upstream_result r, const char *detail)
{
	struct fill *f = arg;

	(void)r;
	(void)detail;
	f->spare = NULL;
}

static void
on_spare_data(void *arg, const void *p, size_t n)
{
	(void)arg;
	(void)p;
	panic("%zu bytes came from a paused transfer: %p", n, p);
}

/* The store cannot have the object: who leads may have it for itself. */
void
fetch_keep_for_origin(struct fill *f)
{
	static const struct upstream_ops ops = {NULL, on_spare_data, on_spare_done, NULL, NULL};

	if (f->call == NULL || f->bytes > 0 || buf_len(&f->gather) > 0)
		return;
	f->spare = f->call;
	f->call = NULL;
	registry_retarget(f->spare, &ops, f);
	registry_pause(f->spare);
}

/* The whole object's size became known. False: it ended the fill. */
static bool
note_size(struct fill *f, int64_t size)
{
	if (f->size >= 0 && size >= 0 && f->size != size) {
		log_warn("fill: %s says %" PRId64 " bytes where it was %" PRId64, f->source.host,
		    size, f->size);
		lead_abort(f, FILL_END_DIGEST);
		return false;
	}
	if (size >= 0)
		f->size = size;
	return space_for_answer(f);
}

static void
accepted(struct fill *f, const struct upstream_answer *a, int64_t size)
{
	f->vouched = true;
	notes_take(&f->notes, a);
	note_etag(f, a);
	if (f->media_type[0] == '\0')
		note_media_type(f, a);
	if (manifest_is_signed(f) || !note_size(f, size) || manifest_too_large(f))
		return;
	shm_fill_set_size(f->fills->c.shm, f->ref, f->size, (unsigned)a->status);
	fill_tell(f);
}

static void
on_partial(struct fill *f, const struct upstream_answer *a)
{
	uint64_t first, last;
	int64_t total;

	if (!http_parse_content_range(
		upstream_header(a, "Content-Range", 0), &first, &last, &total) ||
	    first != f->bytes)
		retry_or_end(f, FILL_END_UPSTREAM, "an answer of another range than was asked for");
	else
		accepted(f, a, total);
}

static void
on_refused(struct fill *f, const struct upstream_answer *a)
{
	refusal_free(&f->refusal);
	f->refusal = refusal_new(a);
	f->failed_answer = true;
}

/* text/html is no manifest, whatever the status says (WIRE.md section 5). */
static bool
is_page(const struct upstream_answer *a)
{
	const char *type = upstream_header(a, "Content-Type", 0);

	return a->status < 300 && type != NULL && strncasecmp(type, "text/html", 9) == 0;
}

static void
on_head(void *arg, const struct upstream_answer *a)
{
	struct fill *f = arg;

	bool is_body = a->status == 200 || (a->status == 206 && f->bytes > 0);
	const char *wrong;

	f->failed_answer = false;
	f->skip = 0;
	f->source.first_host = a->host;
	f->hosts = a->hosts;
	if (f->source.kind == OBJECT_MANIFEST && is_page(a)) {
		lead_abort(f, FILL_END_UPSTREAM); /* a login page with status 200 */
	} else if (is_body && (wrong = decode_head(f, a)) != NULL) {
		retry_or_end(f, FILL_END_UPSTREAM, wrong);
	} else if (a->status == 200) {
		f->skip = f->bytes;
		accepted(f, a, f->coding == CODING_NONE ? a->content_length : -1);
	} else if (a->status == 206 && f->bytes > 0) {
		on_partial(f, a);
	} else if (a->status == 416 && f->bytes > 0) { /* there is nothing after what we have */
		f->failed_answer = true;
		f->vouched = true;
		registry_cancel(&f->call);
		lead_finish(f);
	} else {
		on_refused(f, a);
	}
}

static void
made_progress(struct fill *f, size_t n)
{
	f->tries = 0;
	f->failing_since = 0;
	shm_count(f->fills->c.shm, f->fills->c.owner.listener, COUNT_BYTES_FETCHED, n);
}

static void
on_data(void *arg, const void *p, size_t n)
{
	struct fill *f = arg;
	const unsigned char *bytes = p;

	if (f->failed_answer) {
		if (f->refusal != NULL)
			refusal_add_body(f->refusal, p, n);
		return;
	}
	if (f->skip > 0) {
		size_t skipped = f->skip < n ? (size_t)f->skip : n;

		f->skip -= skipped;
		bytes += skipped;
		n -= skipped;
	}
	if (n == 0)
		return;
	made_progress(f, n);
	hasher_update(f->hasher, bytes, n);
	buf_append(&f->gather, bytes, n);
	if (buf_len(&f->gather) >= FILL_GATHER)
		fetch_flush(f);
}

static void
on_turn(void *arg)
{
	fetch_flush(arg);
}

/* --- the end of a transfer -------------------------------------------------------------------- */

static void
ended_refused(struct fill *f)
{
	int status = f->refusal->status;

	if (status >= 500 || status == 408)
		retry_or_end(f, FILL_END_REFUSED, "the registry answered with an error");
	else if (f->bytes > 0) /* these credentials do not go on: another client's may */
		lead_abort(f, FILL_END_AGAIN);
	else
		lead_abort(f, FILL_END_REFUSED);
}

static void
ended_broken(struct fill *f, enum upstream_result r, const char *detail)
{
	bool down = r == UPSTREAM_DOWN || r == UPSTREAM_SILENT;
	enum fill_end end = r == UPSTREAM_TIMEOUT || r == UPSTREAM_SILENT ? FILL_END_TIMEOUT
									 : FILL_END_UPSTREAM;
	char text[DIGEST_STR_SIZE];

	if (detail == NULL || *detail == '\0')
		detail = upstream_result_name(r);
	/* who has begun goes on trying; who comes to a host that is down is told so at once */
	if (upstream_may_pass(r) || (down && (f->bytes > 0 || f->tries > 0))) {
		retry_or_end(f, end, detail);
		return;
	}
	snprintf(f->why, sizeof(f->why), "%s", detail);
	log_warn("fill %s: from %s: %s", digest_str(&f->digest, text), f->source.host, detail);
	lead_abort(f, end); /* it would be the same again */
}

static bool
is_short(const struct fill *f)
{
	int64_t size = f->coding == CODING_NONE ? f->size : f->encoded_size;

	return size >= 0 && f->bytes + buf_len(&f->gather) < (uint64_t)size;
}

static void
on_done(void *arg, enum upstream_result r, const char *detail)
{
	struct fill *f = arg;

	f->call = NULL;
	if (f->refusal != NULL && (r == UPSTREAM_OK || f->refusal->status < 500))
		ended_refused(f); /* the status is what counts, not how its body ended */
	else if (r != UPSTREAM_OK)
		ended_broken(f, r, detail);
	else if (is_short(f))
		retry_or_end(f, FILL_END_UPSTREAM, "the body ended early");
	else
		lead_finish(f);
}

void
fetch_start(struct fill *f)
{
	static const struct upstream_ops ops = {on_head, on_data, on_done, NULL, on_turn};
	struct upstream_header headers[1];
	struct upstream_request r = {
	    .method = "GET",
	    .scheme = f->source.scheme,
	    .host = f->source.host,
	    .registry = f->source.registry,
	    .target = f->source.target,
	    .authorization = f->source.authorization,
	    .headers = headers,
	    .range_first = f->bytes > 0 ? (int64_t)f->bytes : -1,
	    .range_last = -1,
	    .follow = true,
	    .if_range = f->etag[0] != '\0' ? f->etag : NULL,
	    .if_range_host = f->etag_host,
	    .first_host = f->source.first_host,
	    .deadline_ms = f->bytes > 0 ? 0 : f->source.deadline_ms,
	};

	if (f->source.accept != NULL)
		headers[r.nheaders++] = (struct upstream_header){"Accept", f->source.accept};
	f->resumed |= f->bytes > 0;
	if (f->bytes > 0)
		shm_count(f->fills->c.shm, f->fills->c.owner.listener, COUNT_RESUMES, 1);
	f->failed_answer = false;
	f->source.first_host = 0;
	f->call = registry_start(f->fills->c.registries, &r, &ops, f);
}
