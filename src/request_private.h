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
#include "shm_metrics.h"

struct check_answer;
struct challenge;
struct check_ticket;
struct exchange;
struct login_ticket;
struct pass;
struct ranged;
struct refusal;
struct resolve;
struct uncached;

enum request_state {
	REQUEST_LOGIN,
	REQUEST_ROUTE,
	REQUEST_LOOKUP,
	REQUEST_CHECK,
	REQUEST_RESOLVE,
	REQUEST_JOIN,
	REQUEST_FILL,
	REQUEST_ADMIT,
	REQUEST_HEAD,
	REQUEST_BODY,
	REQUEST_RANGED,
	REQUEST_PASS,
	REQUEST_UNCACHED,
	REQUEST_TOKEN,
	REQUEST_DONE,
};
const char *request_state_name(enum request_state s);

enum step {
	STEP_NEXT, /* the state was changed: go on */
	STEP_WAIT, /* an event and a limit of time are armed */
	STEP_DONE, /* answered, or given up */
};

enum {
	REQUEST_MAX_JOINS = 16,
	REQUEST_SMALL_BODY = 16384,
	REQUEST_NEAR = 8 * 1024 * 1024, /* bytes ahead of a fill that are waited for in any case */
};

struct request {
	struct conn *conn;
	struct services *s;
	struct arena arena;
	struct http_head head;
	struct route route;
	enum request_state state;
	uint64_t id, started_ms, waiting_ms;
	uint64_t started_us, answered_us, check_began_us; /* as those in ms, by clock_us */
	const char *given_id;    /* request_id()'s, once it was asked for */
	uint64_t answered_ms;    /* clock_ms when its head was made; 0: not yet */
	uint64_t check_began_ms; /* of its last check; 0: there was none */
	uint64_t check_ms;       /* what its checks took, together */
	const char *authorization, *accept; /* NULL: none; what was for the cache is not in it */

	/* its user, where the cache has its own */
	struct login_ticket *login;
	bool asked_login, known;
	const char *user; /* NULL: none, or not known */

	/* the object */
	struct digest digest;
	bool has_digest, hit, checked, led, joined, resumed;
	bool was_ranged;   /* some of it came by a range from upstream, beside the fill … */
	bool alone;        /* … or all, because there is no fill */
	bool ignore_range; /* the whole is sent: its upstream has no ranges */
	struct index_object object;
	struct check_ticket *ticket;
	struct fill_client *fill;
	struct registry_call *spare; /* for UNCACHED: a transfer that has begun; NULL: none */
	unsigned joins;
	uint64_t deadline_ms; /* clock_ms: for the head of a registry's answer; 0: it was not asked yet */
	bool by_grace;        /* served unchecked: the registry could not answer … */
	uint64_t grace_age_s; /* … and had allowed it so long ago */
	unsigned first_host;  /* of the registry, that answered last: is asked first; 0: no matter */
	const char *answer_host; /* whose Location and Link are relayed; NULL: the route's */
	int fd; /* its own; -1: none */
	dev_t device;
	ino_t inode;
	const char *media_type; /* in the arena, or ""; of the index, the fill or the check */
	int64_t size;           /* bytes of the whole object; -1: not known */
	struct notes *notes;    /* of the last answer to this client's credentials; NULL: none */

	/* the answer */
	unsigned client;      /* turns_client() */
	unsigned retry_after; /* seconds, for request_fail(); 0: as the status has it */
	bool keep_alive, head_sent, chunked, in_admit, has_place;
	uint64_t first, end, at; /* of the object: what is being sent is [first, end), `at` is next; end UINT64_MAX: to its end */
	struct http_span *spans; /* of a multipart answer, in the arena; NULL: it is none … */
	size_t nspans, span;     /* … how many, and which one [first, end) is */
	char boundary[33];
	int status;
	uint64_t bytes;      /* of body handed to the connection */
	const char *outcome; /* for the access line */
	const char *code;    /* error code of the answer, for the access line; NULL: none */
	struct pass *pass;
	struct uncached *uncached;
	struct ranged *ranged;
	struct resolve *resolve;
	struct exchange *exchange;
	TAILQ_ENTRY(request) admit;
};

/* request.c */
void request_goto(struct request *req, enum request_state state);
/* Runs the steps of the connection's request, and of those that follow it. Every callback ends
 * with it. */
void request_drive(struct conn *c);
/* struct upstream_ops' turn: what has come is sent, and `req` goes on. */
void request_turn(struct request *req);

/* request_log.c */
/* The client's X-Request-Id when it is plain, else one that is made: in the arena. */
const char *request_id(struct request *req);
/* Its access line. */
void request_log(struct request *req);

/* request_login.c */
enum step step_login(struct request *req);
/* The challenge of a 401 of the cache's own. */
void request_challenge(struct request *req, struct buf *out);
/* request_metrics.c: a check was answered; the request has ended; it got its turn to send, or gave up. */
void request_measure_check(struct request *req, enum metric_check result);
void request_measure(struct request *req);
void request_measure_wait(struct request *req, bool got_it);

/* request_held.c */
/* The registry is asked on the cache's own behalf, and this was answered here: *step. */
bool request_held(struct request *req, bool reading, enum step *step);
/* Is this status (of an answer to enum upstream_asker) about the cache's own credential, and not the client's? */
bool request_is_own(int asker, int status);
enum step request_refuse_own(struct request *req, int asker, int status);

/* request_object.c */
enum step step_lookup(struct request *req);
enum step step_check(struct request *req);
enum step step_join(struct request *req);
enum step step_fill(struct request *req);
/* The disk cannot give what it was given: the object is dropped, to be fetched again, and for some
 * seconds every listener passes requests through. */
void request_unreadable(struct request *req);
/* Takes `fd`; false when it is another file than the one that bytes were sent of. */
bool request_use_file(struct request *req, int fd) __attribute__((warn_unused_result));
/* Until when a registry may begin its answer: the same for all that is asked before the client's
 * head is sent, anew for what comes after it. */
uint64_t request_deadline(struct request *req);
/* Looks the object up and opens it, as a hit. False: it is not here, or not for this upstream. */
bool request_find(struct request *req) __attribute__((warn_unused_result));
/* A GET of this object with the client's credentials; `accept` is where its Accept field goes,
 * and outlives the value. */
struct upstream_request request_get(struct request *req, struct upstream_header *accept);

/* request_grace.c */
/* The registry has allowed it to the client's own credential. */
void request_granted(struct request *req);
/* It has refused it, with this status. */
void request_revoked(struct request *req, int status);
/* Is this status of a registry that cannot answer, as no answer is? */
bool request_may_be_grace(int status);
/* After no answer. True: it may be served unchecked, and its state is ADMIT. */
bool request_by_grace(struct request *req) __attribute__((warn_unused_result));

/* request_admit.c */
/* Has its client begun too many requests? Then it is answered. */
bool request_is_too_many(struct request *req);
enum step step_admit(struct request *req);
void request_release_place(struct request *req);

/* request_send.c */
enum step step_head(struct request *req);
enum step step_body(struct request *req);
/* Status line and the fields that every answer with an object carries; the caller adds the length
 * and ends it. */
struct buf *request_object_head(struct request *req, int status);
/* HEAD of an object that is not here, from the check's answer. */
enum step request_answer_head(struct request *req);
/* request_image.c: a manifest is sent from the store; what it names counts as used, too. */
void request_touch_image(struct request *req);

/* The Range field that is to be honoured; NULL: none. */
const char *request_range(struct request *req);

/* request_parts.c */
/* Makes [first, end) the first of `n` parts; how long the multipart body is, in bytes. `spans` lives as
 * long as the request. */
uint64_t parts_begin(struct request *req, struct http_span *spans, size_t n);
/* "multipart/byteranges; boundary=…", in the arena. */
const char *parts_type(struct request *req);
/* The head of the part that is next goes out. */
void parts_send_head(struct request *req);
/* Goes on to the next part; false: that was the last, and the end was sent. Of an answer that is not
 * multipart nothing is sent. */
bool parts_next(struct request *req);

/* request_ranged.c */
/* Is a part of the object wanted? */
bool ranged_wanted(struct request *req);
/* May that part be fetched by itself, while its fill goes on? `own`: the fill has its bytes from the
 * request's own upstream. */
bool ranged_may(struct request *req, bool own);
/* `at` waits for its bytes, of which the fill has this many: has it waited for long enough, or is it
 * known that they come too late? When not, a timer drives the request on. */
bool ranged_is_due(struct request *req, uint64_t readable);
/* There is no fill and will be none: leaves it. The part comes straight from upstream. */
enum step ranged_alone(struct request *req);
/* Alone, and there is no part to be had: the whole is sent. */
enum step ranged_give_whole(struct request *req);
enum step step_ranged(struct request *req);
void ranged_free(struct ranged **r);

/* request_answer.c */
/* Begins an answer: status line, connection, the API version. */
struct buf *request_begin(struct request *req, int status);
/* Ends the head of an answer of the cache's own, and gives it this body of JSON. Returns STEP_DONE. */
enum step request_end_json(struct request *req, struct buf *out, const char *body);
/* The one way to fail: an OCI error body, or, when the head was sent, a connection cut short.
 * Returns STEP_DONE. */
enum step request_fail(struct request *req, int status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Relays a registry's refusal as WIRE.md section 5 maps it. Returns STEP_DONE. */
enum step request_refuse(struct request *req, const struct refusal *refusal);
/* A registry's answer that is no client's: told as WIRE.md section 5 maps it, with the Retry-After that it had
 * (NULL: none). Returns STEP_DONE. */
enum step request_bad_status(struct request *req, int status, const char *retry_after);
/* A check, fill or pass that got no answer. */
enum step request_no_answer(struct request *req, enum upstream_result result, const char *detail);
/* Relays the answer's fields but for those that concern one hop or one host; Location and Link
 * stay on the cache. */
void request_relay_fields(struct request *req, struct buf *out, const struct upstream_header *h, size_t n);
/* The path of a URL, with what follows it, when that is of this request's upstream: relative, or
 * absolute (default ports left out or not); else NULL. */
const char *request_path_on_upstream(const struct request *req, const char *url);
/* The connection is cut short of what was promised. Returns STEP_DONE. */
enum step request_cut(struct request *req, const char *why);

/* request_back.c */
/* "https" or "http": what URLs of the cache begin with that this client is given. */
const char *request_scheme(const struct request *req);
/* Such a path as the client has to ask for it: with the prefix, the mount and the ns of its own
 * request. */
const char *request_client_path(struct request *req, const char *path);
/* A Link field (RFC 8288) whose URLs are relative to the cache. */
const char *request_client_link(struct request *req, const char *value);

/* request_verdict.c */
#define REQUEST_INDEX_TYPE "application/vnd.oci.image.index.v1+json"
/* Is this a registry's "no", to be relayed as it is? */
bool request_is_refusal(int status);
/* The status that the client is told of one that is relayed: its own, but for a 429 that the
 * configuration makes a 503. */
int request_told(const struct request *req, int status);
/* What the client is told of a status that is neither that nor a success. */
int request_mapped(int status);
enum request_verdict {
	VERDICT_RELAY,        /* as it is */
	VERDICT_BAD_STATUS,   /* request_mapped() */
	VERDICT_NO_ANSWER,    /* a login page: 502 */
	VERDICT_OWN,          /* it is about the cache's own credential: request_refuse_own() */
	VERDICT_NO_REFERRERS, /* the registry lacks them: 404 */
};
/* Of an answer that is streamed through. */
enum request_verdict request_judge(const struct request *req, const struct upstream_answer *a);

/* request_own.c */
/* The name of this registry; "" for 0. */
const char *request_registry_name(const struct request *req, unsigned number);
/* The client's Authorization as the registry is to see it; NULL: none. */
const char *request_credential(struct request *req);
/* Does a 401 send the client to the cache's own realm, in place of the registry's challenges? */
bool request_has_own_realm(const struct request *req);
/* Writes that challenge for a 401 with these fields. */
void request_own_challenge(
    struct request *req, struct buf *out, const struct upstream_header *h, size_t n);
/* Keeps what the request's upstream asks for at this repository. */
void request_learn_realm(struct request *req, const char *repository, const struct challenge *c);
/* Answers it. Returns STEP_DONE. */
enum step request_own_ping(struct request *req);

/* request_token.c */
enum step step_token(struct request *req);
void exchange_free(struct exchange **x);
void exchange_input(struct request *req);

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
