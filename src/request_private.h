/* What the files of the request module share: request.c (life, machine), request_object.c (look
 * up, check, join), request_send.c (head and body of objects), request_answer.c (errors,
 * refusals, field filters), request_pass.c and request_uncached.c. Nobody else includes this. */
#ifndef REQUEST_PRIVATE_H
#define REQUEST_PRIVATE_H

#include <sys/types.h>

#include "arena.h"
#include "fill.h"
#include "http.h"
#include "index.h"
#include "request.h"
#include "route.h"
#include "registry.h"

struct check_answer;
struct check_ticket;
struct pass;
struct refusal;
struct resolve;
struct uncached;

enum request_state {
	REQUEST_ROUTE,
	REQUEST_LOOKUP,
	REQUEST_CHECK,
	REQUEST_RESOLVE,
	REQUEST_JOIN,
	REQUEST_FILL,
	REQUEST_ADMIT,
	REQUEST_HEAD,
	REQUEST_BODY,
	REQUEST_PASS,
	REQUEST_UNCACHED,
	REQUEST_DONE,
};
const char *request_state_name(enum request_state s);

enum step {
	STEP_NEXT, /* the state was changed: go on */
	STEP_WAIT, /* an event and a limit of time are armed */
	STEP_DONE, /* answered, or given up */
};

enum { REQUEST_MAX_JOINS = 16, REQUEST_SMALL_BODY = 16384 };

struct request {
	struct conn *conn;
	struct services *s;
	struct arena arena;
	struct http_head head;
	struct route route;
	enum request_state state;
	uint64_t id, started_ms, waiting_ms;
	const char *given_id;    /* request_id()'s, once it was asked for */
	uint64_t answered_ms;    /* clock_ms when its head was made; 0: not yet */
	uint64_t check_began_ms; /* of its last check; 0: there was none */
	uint64_t check_ms;       /* what its checks took, together */
	const char *authorization, *accept; /* NULL: none */

	/* the object */
	struct digest digest;
	bool has_digest, hit, checked, led, joined, resumed;
	struct index_object object;
	struct check_ticket *ticket;
	struct fill_client *fill;
	struct registry_call *spare; /* for UNCACHED: a transfer that has begun; NULL: none */
	unsigned joins;
	int fd; /* its own; -1: none */
	dev_t device;
	ino_t inode;
	const char *media_type; /* in the arena, or ""; of the index, the fill or the check */
	int64_t size;           /* bytes of the whole object; -1: not known */
	struct notes *notes;    /* of the last answer to this client's credentials; NULL: none */

	/* the answer */
	bool keep_alive, head_sent, chunked, in_admit, has_place, uncached_pass;
	uint64_t first, end, at; /* of the object: what is being sent is [first, end), `at` is next; end UINT64_MAX: to its end */
	int status;
	uint64_t bytes;      /* of body handed to the connection */
	const char *outcome; /* for the access line */
	const char *code;    /* error code of the answer, for the access line; NULL: none */
	struct pass *pass;
	struct uncached *uncached;
	struct resolve *resolve;
	TAILQ_ENTRY(request) admit;
};

/* request.c */
void request_goto(struct request *req, enum request_state state);
/* Runs the steps of the connection's request, and of those that follow it. Every callback ends
 * with it. */
void request_drive(struct conn *c);

/* request_log.c */
/* The client's X-Request-Id when it is plain, else one that is made: in the arena. */
const char *request_id(struct request *req);
/* Its access line. */
void request_log(struct request *req);

/* request_object.c */
enum step step_lookup(struct request *req);
enum step step_check(struct request *req);
enum step step_join(struct request *req);
enum step step_fill(struct request *req);
/* Takes `fd`; false when it is another file than the one that bytes were sent of. */
bool request_use_file(struct request *req, int fd) __attribute__((warn_unused_result));
/* A GET of this object with the client's credentials; `accept` is where its Accept field goes,
 * and outlives the value. */
struct upstream_request request_get(const struct request *req, struct upstream_header *accept);

/* request_send.c */
enum step step_admit(struct request *req);
enum step step_head(struct request *req);
enum step step_body(struct request *req);
void request_release_place(struct request *req);
/* Status line and the fields that every answer with an object carries; the caller adds the length
 * and ends it. */
struct buf *request_object_head(struct request *req, int status);
/* HEAD of an object that is not here, from the check's answer. */
enum step request_answer_head(struct request *req);

/* request_answer.c */
/* Begins an answer: status line, connection, the API version. */
struct buf *request_begin(struct request *req, int status);
/* The one way to fail: an OCI error body, or, when the head was sent, a connection cut short.
 * Returns STEP_DONE. */
enum step request_fail(struct request *req, int status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Relays a registry's refusal as WIRE.md section 5 maps it. Returns STEP_DONE. */
enum step request_refuse(struct request *req, const struct refusal *refusal);
/* A check, fill or pass that got no answer. */
enum step request_no_answer(struct request *req, enum upstream_result result, const char *detail);
/* Relays the answer's fields but for those that concern one hop or one host; Location and Link
 * stay on the cache. */
void request_relay_fields(struct request *req, struct buf *out, const struct upstream_header *h, size_t n);
/* The connection is cut short of what was promised. Returns STEP_DONE. */
enum step request_cut(struct request *req, const char *why);

/* request_verdict.c */
#define REQUEST_INDEX_TYPE "application/vnd.oci.image.index.v1+json"
/* Is this a registry's "no", to be relayed as it is? */
bool request_is_refusal(int status);
/* What the client is told of a status that is neither that nor a success. */
int request_mapped(int status);
enum request_verdict {
	VERDICT_RELAY,        /* as it is */
	VERDICT_BAD_STATUS,   /* request_mapped() */
	VERDICT_NO_ANSWER,    /* a login page: 502 */
	VERDICT_NO_REFERRERS, /* the registry lacks them: 404 */
};
/* Of an answer that is streamed through. */
enum request_verdict request_judge(const struct request *req, const struct upstream_answer *a);

/* request_pass.c */
enum step step_pass(struct request *req);
void pass_free(struct pass **p);
void pass_input(struct request *req);

/* request_resolve.c */
enum step step_resolve(struct request *req);
void resolve_free(struct resolve **r);

/* request_uncached.c */
enum step step_uncached(struct request *req);
void uncached_free(struct uncached **u);

#endif
