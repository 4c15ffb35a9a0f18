/* Objects: looking them up, asking whether this client may have them, joining their fills. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "clock.h"
#include "log.h"
#include "notes.h"
#include "refusal.h"
#include "registry.h"
#include "request_private.h"
#include "shm.h"
#include "store.h"

enum { REST_MS = 5000 };

static void
count(struct request *req, enum shm_counter c)
{
	shm_count(req->s->shm, req->s->listener, c, 1);
}

bool
request_use_file(struct request *req, int fd)
{
	struct stat st;

	if (fstat(fd, &st) != 0 ||
	    (req->bytes > 0 && req->fd >= 0 && (st.st_dev != req->device || st.st_ino != req->inode))) {
		close(fd);
		return false;
	}
	if (req->fd >= 0)
		close(req->fd);
	req->fd = fd;
	req->device = st.st_dev;
	req->inode = st.st_ino;
	return true;
}

uint64_t
request_deadline(struct request *req)
{
	if (req->head_sent)
		return 0;
	if (req->deadline_ms == 0)
		req->deadline_ms = clock_ms() + req->s->first_byte_ms;
	return req->deadline_ms;
}

struct upstream_request
request_get(struct request *req, struct upstream_header *accept)
{
	*accept = (struct upstream_header){"Accept", req->accept};
	return (struct upstream_request){
	    .method = "GET",
	    .scheme = req->route.scheme,
	    .host = req->route.host,
	    .registry = req->route.registry,
	    .target = req->route.target,
	    .authorization = req->authorization,
	    .headers = accept,
	    .nheaders = req->accept != NULL ? 1 : 0,
	    .range_first = -1,
	    .range_last = -1,
	    .follow = true,
	    .deadline_ms = request_deadline(req),
	    .first_host = req->first_host,
	};
}

/* --- look up ---------------------------------------------------------------------------------- */

/* A record whose file is gone or has another size is dropped on first use (DESIGN.md section 4). */
static void
drop_record(struct request *req, const char *why)
{
	char text[DIGEST_STR_SIZE];

	log_warn("index: %s: %s: record dropped", digest_str(&req->digest, text), why);
	(void)index_delete_object(req->s->index, &req->digest);
}

void
request_unreadable(struct request *req)
{
	count(req, COUNT_STORE_ERRORS);
	shm_rest_store(req->s->shm, clock_ms() + REST_MS);
	if (req->hit && req->s->index != NULL)
		drop_record(req, "the file cannot be read");
}

/* Opens the object of a record. False with *broken: the cache cannot read it, though it is
 * there. */
static bool
open_object(struct request *req, bool *broken)
{
	uint64_t size;
	int fd = store_open_object(req->s->store, &req->digest, &size);

	*broken = false;
	if (fd < 0) {
		if (errno == ENOENT) {
			drop_record(req, "there is no file");
		} else {
			log_warn("store: cannot open an object: %s", strerror(errno));
			count(req, COUNT_STORE_ERRORS);
			*broken = true;
		}
		return false;
	}
	if (size != req->object.size) {
		close(fd);
		drop_record(req, "the file has another size");
		return false;
	}
	if (!request_use_file(req, fd)) {
		*broken = true;
		return false;
	}
	return true;
}

/* May this upstream's word be taken for an object that it did not deliver itself? DESIGN.md
 * section 6. */
static bool
is_vouched(struct request *req)
{
	return req->route.trusted ||
	    index_get_proof(req->s->index, req->route.upstream, &req->digest) == INDEX_OK;
}

static void
take_hit(struct request *req)
{
	req->hit = true;
	req->size = (int64_t)req->object.size;
	if (req->route.kind == ROUTE_MANIFEST && req->object.media_type[0] != '\0')
		req->media_type = arena_strdup(&req->arena, req->object.media_type);
}

bool
request_find(struct request *req)
{
	bool broken;

	if (req->s->index == NULL || req->s->store == NULL ||
	    index_get_object(req->s->index, &req->digest, &req->object) != INDEX_OK ||
	    !open_object(req, &broken) || !is_vouched(req))
		return false;
	take_hit(req);
	return true;
}

static enum step
found(struct request *req)
{
	if (!is_vouched(req)) {
		request_goto(req, REQUEST_UNCACHED);
		return STEP_NEXT;
	}
	take_hit(req);
	if (req->head_sent)
		request_goto(req, REQUEST_BODY);
	else
		request_goto(req, req->checked ? REQUEST_ADMIT : REQUEST_CHECK);
	return STEP_NEXT;
}

/* HEAD needs no more than the check, but for a manifest of which the registry gives no length or no
 * type: clients cannot do without (WIRE.md 4.1), so it is fetched. GET goes on as `otherwise` says. */
static enum step
not_here(struct request *req, enum request_state otherwise)
{
	bool fetch = req->route.kind == ROUTE_MANIFEST && otherwise == REQUEST_JOIN &&
	    (req->size < 0 || req->media_type[0] == '\0');

	if (req->head.method == HTTP_HEAD && req->checked && fetch) {
		request_goto(req, REQUEST_JOIN);
		return STEP_NEXT;
	}
	if (req->head.method == HTTP_HEAD && req->checked)
		return request_answer_head(req);
	request_goto(req, req->head.method == HTTP_HEAD ? REQUEST_CHECK : otherwise);
	return STEP_NEXT;
}

enum step
step_lookup(struct request *req)
{
	bool broken;

	fill_leave(&req->fill); /* the one it came from has ended */
	if (req->s->index == NULL || req->s->store == NULL ||
	    (!req->head_sent && shm_store_rests(req->s->shm, clock_ms())))
		return not_here(req, REQUEST_UNCACHED);
	switch (index_get_object(req->s->index, &req->digest, &req->object)) {
	case INDEX_OK:
		if (open_object(req, &broken))
			return found(req);
		if (broken && req->head_sent)
			return request_cut(req, "the object is not the file that was sent so far");
		if (broken)
			return not_here(req, REQUEST_UNCACHED);
		break;
	case INDEX_ERROR:
	case INDEX_MISS:
		break;
	}
	return not_here(req, REQUEST_JOIN);
}

/* --- check ------------------------------------------------------------------------------------ */

static void
note_name(struct request *req)
{
	if (req->s->index != NULL)
		(void)index_put_name(req->s->index, req->route.upstream, req->route.repository,
		    req->route.reference, &req->digest, clock_wall());
}

static void
note_media_type(struct request *req, const struct upstream_answer *head)
{
	const char *type = upstream_header(head, "Content-Type", 0);

	if (req->media_type[0] == '\0' && type != NULL)
		req->media_type = arena_strndup(&req->arena, type, strcspn(type, "; \t"));
}

/* A tag's digest, from the registry itself. What is named by an algorithm that we cannot check
 * passes (WIRE.md 2.2). */
static void
allowed_tag(struct request *req, const struct upstream_answer *head)
{
	const char *text = head->registry_digest;
	enum digest_parse r =
	    text == NULL ? DIGEST_BAD : digest_parse(text, strlen(text), &req->digest);

	if (r != DIGEST_OK) {
		request_goto(req, r == DIGEST_UNKNOWN ? REQUEST_PASS : REQUEST_RESOLVE);
		return;
	}
	req->has_digest = true;
	req->route.target =
	    arena_printf(&req->arena, "/v2/%s/manifests/%s", req->route.repository, text);
	note_name(req);
	request_goto(req, REQUEST_LOOKUP);
}

static void
allowed(struct request *req, const struct check_answer *a)
{
	req->checked = true;
	req->first_host = a->head->host;
	notes_take(&req->notes, a->head);
	if (req->route.kind == ROUTE_MANIFEST)
		note_media_type(req, a->head);
	if (!req->hit && req->size < 0)
		req->size = a->size;
	if (!req->has_digest)
		allowed_tag(req, a->head);
	else if (req->hit)
		request_goto(req, REQUEST_ADMIT);
	else
		request_goto(req, REQUEST_LOOKUP);
	request_granted(req);
}

static void
refused(struct request *req, const struct check_answer *a)
{
	struct refusal *r;

	if (request_may_be_grace(a->head->status) && request_by_grace(req))
		return;
	r = refusal_new(a->head);
	refusal_add_body(r, a->body, a->body_length);
	request_goto(req, REQUEST_DONE);
	(void)request_refuse(req, r);
	refusal_free(&r);
}

/* An answer about something of another size is not about this object. To HEAD some proxies say that there is
 * nothing, of whatever size it is. */
static bool
is_other_object(const struct request *req, const struct check_answer *a)
{
	return req->hit && a->size > 0 && (uint64_t)a->size != req->object.size;
}

static void
on_checked(void *arg, const struct check_answer *a)
{
	struct request *req = arg;
	struct conn *c = req->conn;

	req->ticket = NULL;
	req->check_ms += clock_ms() - req->check_began_ms;
	request_measure_check(req, (enum metric_check)a->verdict);
	switch (a->verdict) {
	case CHECK_ALLOWED:
		if (is_other_object(req, a)) {
			request_goto(req, REQUEST_DONE);
			(void)request_no_answer(
			    req, UPSTREAM_PROTOCOL, "it knows this digest with another size");
		} else {
			allowed(req, a);
		}
		break;
	case CHECK_REFUSED:
		refused(req, a);
		break;
	case CHECK_FAILED:
		if (request_by_grace(req))
			break;
		request_goto(req, REQUEST_DONE);
		(void)request_no_answer(req, a->result, a->detail);
		break;
	}
	request_drive(c);
}

enum step
step_check(struct request *req)
{
	struct check_question q = {
	    .scheme = req->route.scheme,
	    .host = req->route.host,
	    .registry = req->route.registry,
	    .target = req->route.target,
	    .accept = req->accept,
	    .authorization = req->authorization,
	    .deadline_ms = request_deadline(req),
	    .blob = req->route.kind == ROUTE_BLOB,
	    .want_body = req->head.method != HTTP_HEAD,
	};

	if (req->ticket != NULL)
		return STEP_WAIT;
	req->check_began_us = clock_us();
	req->check_began_ms = req->check_began_us / 1000;
	req->ticket = check_ask(req->s->check, &q, on_checked, req);
	return STEP_WAIT;
}

/* --- join ------------------------------------------------------------------------------------- */

static void
on_fill_changed(void *arg)
{
	struct request *req = arg;

	request_drive(req->conn);
}

static enum step
uncached(struct request *req)
{
	fill_leave(&req->fill);
	request_goto(req, REQUEST_UNCACHED);
	return STEP_NEXT;
}

enum step
step_join(struct request *req)
{
	struct fill_want want = {
	    .digest = &req->digest,
	    .kind = req->route.kind == ROUTE_BLOB ? OBJECT_BLOB : OBJECT_MANIFEST,
	    .scheme = req->route.scheme,
	    .host = req->route.host,
	    .registry = req->route.registry,
	    .target = req->route.target,
	    .client = turns_client(conn_address(req->conn)),
	    .authorization = req->authorization,
	    .accept = req->accept,
	    .first_host = req->first_host,
	    .deadline_ms = request_deadline(req),
	    .checked = req->checked,
	    .unproven = req->route.trusted ? NULL : req->route.upstream,
	};

	if (++req->joins > REQUEST_MAX_JOINS)
		return request_fail(req, 502, "UNAVAILABLE",
		    "the object could not be fetched in %d attempts", REQUEST_MAX_JOINS);
	fill_leave(&req->fill);
	switch (fill_join(req->s->fills, &want, on_fill_changed, req, &req->fill)) {
	case FILL_JOINED:
		req->joined = true;
		request_goto(req, REQUEST_FILL);
		return STEP_NEXT;
	case FILL_JOIN_OBJECT:
		request_goto(req, REQUEST_LOOKUP);
		return STEP_NEXT;
	case FILL_JOIN_CHECK:
		request_goto(req, REQUEST_CHECK);
		return STEP_NEXT;
	case FILL_JOIN_UNCACHED:
		break;
	}
	return uncached(req);
}

/* --- fill ------------------------------------------------------------------------------------- */

/* A size that was promised to the client stays. */
static void
note_size(struct request *req, const struct fill_status *st)
{
	if (req->head_sent && !req->chunked && st->size < 0)
		return;
	req->size = st->size;
}

static void
note_fill(struct request *req, const struct fill_status *st)
{
	struct notes *notes = fill_take_notes(req->fill);

	if (notes != NULL) {
		notes_free(&req->notes);
		req->notes = notes;
	}
	req->led |= st->leading;
	req->resumed |= st->resumed;
	note_size(req, st);
	if (!req->checked)
		request_granted(req);
	req->checked = true; /* by its own check, or by its own GET */
	if (req->route.kind == ROUTE_MANIFEST && st->media_type[0] != '\0' &&
	    req->media_type[0] == '\0')
		req->media_type = arena_strdup(&req->arena, st->media_type);
}

static enum step
fill_has_ended(struct request *req, const struct fill_status *st)
{
	switch (st->end) {
	case FILL_END_AGAIN:
		req->deadline_ms = 0; /* it may have waited for its turn, or for another's fetch */
		request_goto(req, REQUEST_LOOKUP);
		return STEP_NEXT;
	case FILL_END_REFUSED:
		return request_refuse(req, fill_refusal(req->fill));
	case FILL_END_BUSY:
		if (req->head_sent && ranged_wanted(req))
			return uncached(req);
		return request_fail(
		    req, 503, "TOOMANYREQUESTS", "too many fetches from registries are under way");
	case FILL_END_UPSTREAM:
		return request_fail(req, 502, "UNAVAILABLE",
		    "the registry %s did not deliver the object%s%s", req->route.upstream,
		    *st->why != '\0' ? ": " : "", st->why);
	case FILL_END_TIMEOUT:
		return request_fail(req, 504, "UNAVAILABLE",
		    "the registry %s did not answer in time%s%s", req->route.upstream,
		    *st->why != '\0' ? ": " : "", st->why);
	case FILL_END_DIGEST:
		return request_fail(req, 502, "DIGEST_INVALID",
		    "the registry %s delivered other bytes than the digest names",
		    req->route.upstream);
	case FILL_END_UNCACHED:
		if (!req->head_sent && (req->spare = fill_take_call(req->fill)) != NULL)
			note_fill(req, st);
		return uncached(req);
	default:
		return STEP_WAIT;
	}
}

/* Takes the fill's file for its own, so that it outlives the fill. */
static bool
use_fill_file(struct request *req, const struct fill_status *st)
{
	int fd;

	if (req->fd >= 0 && st->inode == req->inode && st->device == req->device)
		return true;
	fd = fcntl(st->fd, F_DUPFD_CLOEXEC, 0);
	return fd >= 0 && request_use_file(req, fd);
}

/* The first byte is not there. A range of a large object need not wait for it: once the size is known its
 * head can be made, and what is not known in time is asked for by the range itself. */
static enum step
fill_without_bytes(struct request *req, const struct fill_status *st)
{
	int64_t size = st->size >= 0 ? st->size : req->checked ? req->size : -1;
	bool knows_size = size > 0 && !req->head_sent;

	if (!ranged_may(req, st->own))
		return STEP_WAIT;
	if ((!knows_size || size <= REQUEST_NEAR) && !ranged_is_due(req, 0))
		return STEP_WAIT;
	if (knows_size) {
		note_fill(req, st);
		req->size = size;
	}
	request_goto(req, knows_size ? REQUEST_ADMIT : REQUEST_RANGED);
	return STEP_NEXT;
}

/* Waits until the first byte can be sent, so that a failure before it is told by its status. */
enum step
step_fill(struct request *req)
{
	struct fill_status st;
	bool is_manifest =
	    req->route.kind == ROUTE_MANIFEST; /* small, and needs its length: waited for */

	fill_look(req->fill, &st);
	if (st.end != FILL_END_NONE && st.end != FILL_END_DONE)
		return fill_has_ended(req, &st);
	if (st.fd < 0 || (st.readable == 0 && st.end != FILL_END_DONE) ||
	    (is_manifest && st.end != FILL_END_DONE))
		return fill_without_bytes(req, &st);
	if (!req->route.trusted &&
	    !st.own) /* another upstream's bytes: it must deliver them itself */
		return uncached(req);
	if (!use_fill_file(req, &st) && !req->head_sent)
		return uncached(req);
	if (req->fd < 0 || req->inode != st.inode || req->device != st.device)
		return request_cut(req, "the bytes come from another file than those sent so far");
	note_fill(req, &st);
	if (st.size < 0 && ranged_wanted(req) && !req->head_sent)
		return fill_without_bytes(req, &st);
	if (st.size < 0 && req->head.minor == 0)
		return STEP_WAIT;
	request_goto(req, req->head_sent ? REQUEST_BODY : REQUEST_ADMIT);
	return STEP_NEXT;
}
