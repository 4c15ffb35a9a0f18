/* What the files of `upstream` share: the process's libcurl set-up, one call, and who does what
 * with it. No other module includes this.
 *
 *   upstream.c           the multi handle on the event loop; the queue of calls that are due
 *   upstream_call.c      the life of a call, and the functions that callers use
 *   upstream_setup.c     the options of an easy handle, the header list of a hop
 *   upstream_stream.c    what libcurl calls back with: header lines, body bytes, upload
 *   upstream_header.c    reading a head
 *   upstream_redirect.c  where a 3xx leads, and whether it may
 *   upstream_watch.c     our own time limits
 *   upstream_tls.c       whom we trust
 */
#ifndef UPSTREAM_PRIVATE_H
#define UPSTREAM_PRIVATE_H

#include <sys/queue.h>

#include <curl/curl.h>
#include <event2/event.h>
#include <openssl/x509.h>

#include "arena.h"
#include "buf.h"
#include "upstream.h"

enum {
	UPSTREAM_TURN_BYTES = 512 * 1024,
	UPSTREAM_MAX_HEAD = 128 * 1024,
	UPSTREAM_MAX_REDIRECTS = 10,
	UPSTREAM_MAX_DISCARD = 64 * 1024, /* of a redirect's body; else its connection is cut */
	UPSTREAM_ARENA = 4 * 1024 * 1024,
};

TAILQ_HEAD(call_list, upstream_call);

struct upstream {
	struct event_base *base;
	struct upstream_config config;
	char *user_agent; /* our copy */
	CURLM *multi;
	CURLSH *share;            /* TLS sessions of all handles */
	struct event *curl_timer; /* libcurl's own */
	struct event *next_turn;  /* fires in the next turn of the loop when calls are due */
	struct event *turn_end;   /* fires at the end of this turn when data was delivered */
	struct event *watch;      /* our time limits; runs while there are calls */
	struct call_list calls;   /* in use */
	struct call_list due;     /* something is to be done outside of libcurl's callbacks */
	struct call_list turned;  /* data was delivered in this turn */
	struct call_list idle;    /* easy handles to be used again */
	unsigned ndue, nidle;
	X509_STORE *trust;
	bool trust_system; /* the system's certificates are in it */
};

/* Reads the lines of one answer's head, as libcurl hands them over. */
enum head_state { HEAD_STATUS, HEAD_FIELDS, HEAD_ENDED };
struct head {
	enum head_state state;
	int status;
	unsigned count;
	struct buf text; /* names and values, each ended by NUL */
	uint32_t name_at[UPSTREAM_MAX_HEADERS], value_at[UPSTREAM_MAX_HEADERS];
};

enum head_step { HEAD_MORE, HEAD_FINAL, HEAD_BAD };

enum address_class { ADDRESS_PUBLIC, ADDRESS_PRIVATE, ADDRESS_LINK_LOCAL };

struct upstream_call {
	TAILQ_ENTRY(upstream_call) entry;      /* calls or idle */
	TAILQ_ENTRY(upstream_call) due_entry;  /* when is_due */
	TAILQ_ENTRY(upstream_call) turn_entry; /* when has_turned */
	struct upstream *u;
	CURL *easy;
	char curl_error[CURL_ERROR_SIZE];
	struct head head;   /* of the hop's answer */
	struct arena arena; /* everything below that is a string */

	/* From here on all is forgotten when the call is over; what is above is used again. */
	struct upstream_request request;
	struct upstream_ops ops;
	void *arg;

	/* The hop under way. */
	const char *url;
	unsigned redirects;
	bool foreign;      /* to another origin than the call's own */
	bool auth_dropped; /* Authorization is not sent any more */
	bool fresh;        /* not on a kept connection */
	long port;         /* foreign: of the URL */
	size_t discarded;

	/* The next hop, known when a redirect's head was read. */
	const char *next_url; /* NULL: none */
	bool next_foreign;
	long next_port;

	enum address_class registry_address; /* set at the first redirect */
	bool address_refused;                /* by the rule on private addresses */
	const char *registry_digest;

	/* Where it is. */
	bool in_multi, is_due, has_turned;
	bool cancelled; /* no callback any more */
	bool ending;    /* ops->done is running */
	bool answered;  /* ops->head was called */

	/* Flow. */
	bool user_paused;
	bool recv_held, send_held; /* libcurl was told to wait */
	bool resume_send;
	size_t turn_bytes;
	int64_t body_left; /* upload of known length */
	bool body_ended;

	/* What we found wrong ourselves; goes before libcurl's verdict. */
	bool failed;
	enum upstream_result fault;
	const char *fault_text;

	/* Times of upstream_watch.c (clock_ms). */
	uint64_t begun, asked, slow_since, slice_start;
	uint64_t moved, slice_moved; /* bytes in both directions */
};

/* --- upstream.c */
/* Has the call looked at in the next turn of the loop (call_step). */
void upstream_schedule(struct upstream_call *c);
/* Takes it off the queue again. */
void upstream_unschedule(struct upstream_call *c);
/* Data was delivered to the call: ops->turn at the end of this turn. */
void upstream_mark_turn(struct upstream_call *c);

/* --- upstream_call.c */
/* Outside of libcurl's callbacks: does what is due. */
void call_step(struct upstream_call *c);
/* The hop ended as `code` says: goes on to the next one, or ends the call. Outside of libcurl's
 * callbacks. */
void call_hop_ended(struct upstream_call *c, CURLcode code);
/* Notes what is wrong, the first time; `text` is static or in the call's arena. Always false. */
bool call_fault(struct upstream_call *c, enum upstream_result r, const char *text);
/* Tells ops->turn, when data was delivered since. */
void call_end_turn(struct upstream_call *c);
/* Frees a call that is in no list. */
void call_free(struct upstream_call *c);

/* --- upstream_setup.c */
/* The options that a handle keeps. NULL: this libcurl lacks something (logged). */
CURL *setup_easy(struct upstream_call *c);
/* The options of the hop to c->url. False: the request cannot be put into words (fault noted). */
bool setup_hop(struct upstream_call *c) __attribute__((warn_unused_result));
/* May it be said again when a connection failed? GET and HEAD without a body. */
bool setup_repeatable(const struct upstream_request *r);
/* Copies the request into the call's arena. */
void setup_copy_request(struct upstream_call *c, const struct upstream_request *r);

/* --- upstream_stream.c: for setup_easy(). */
size_t stream_header(char *p, size_t size, size_t n, void *arg);
size_t stream_body(char *p, size_t size, size_t n, void *arg);
size_t stream_upload(char *p, size_t size, size_t n, void *arg);
/* The registry has refused an upload that it did not read to the end. */
bool stream_upload_refused(const struct upstream_call *c);

/* --- upstream_header.c */
void head_reset(struct head *h);
void head_free(struct head *h);
enum head_step head_line(struct head *h, const char *line, size_t n);
/* The value of the first such field, NULL: none. Valid until the next head_line(). */
const char *head_get(const struct head *h, const char *name);
/* False: contradictory or no number. -1 in *length: not said. */
bool head_content_length(const struct head *h, int64_t *length) __attribute__((warn_unused_result));
/* The answer's fields; the array is in the arena, the strings are the head's. */
const struct upstream_header *head_fields(const struct head *h, struct arena *arena);

/* --- upstream_redirect.c */
bool redirect_wanted(const struct upstream_call *c);
/* Notes the next hop. False: it may not be followed (fault noted). */
bool redirect_note(struct upstream_call *c) __attribute__((warn_unused_result));
/* Makes the noted hop the one under way. */
void redirect_take(struct upstream_call *c);
/* For setup_easy(). */
curl_socket_t redirect_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address);
int redirect_before_request(
    void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port);
/* What an address in text form is; anything that is none counts as private. */
enum address_class redirect_address_class(const char *ip);

/* --- upstream_watch.c */
/* Begins to watch a hop. */
void watch_begin(struct upstream_call *c);
/* The call's time limits start again: a head came, or it goes on after a pause. */
void watch_restart(struct upstream_call *c);
void watch_tick(evutil_socket_t fd, short what, void *arg);
/* Arms the tick, when it is not. */
void watch_arm(struct upstream *u);

/* --- upstream_tls.c */
/* A store with the certificates of `ca_path` (NULL: none). NULL: said why in the log. */
X509_STORE *trust_new(const char *ca_path, const char *more_ca_path);
/* CURLOPT_SSL_CTX_FUNCTION; arg is the struct upstream. */
CURLcode trust_apply(CURL *easy, void *ssl_ctx, void *arg);

#endif
