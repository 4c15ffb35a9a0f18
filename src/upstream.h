/* Talking to registries: with upstream_*.c the one module that knows libcurl. One multi handle a
 * process, driven by libevent; easy handles and connections are kept and used again.
 *
 * The life of a call:
 *   started   upstream_start(): on the wire, or waiting for a connection
 *   head      ops->head was called, once, with the final answer's head (redirects are followed
 *             before)
 *   body      ops->data is called as bytes arrive; upstream_pause() stops that, upstream_resume()
 *             goes on
 *   ended     ops->done was called, once; the call is freed after it returns and is not to be used
 *             any more. It may end while paused, when all of its body was delivered before.
 * upstream_cancel() ends a call at any time without a further callback.
 *
 * Callbacks never run inside upstream_start(), _resume(), _pause() or _cancel(): always from the
 * event loop, so they may start and cancel other calls, and cancel their own.
 *
 * Redirects (WIRE.md section 9): 301, 302, 303, 307, 308 of GET and HEAD are followed, at most 10;
 * relative ones too; Authorization goes to no other scheme, host or port than the call's own, and
 * is not sent again after it was once dropped; https never leads to http. A target with a private
 * or loopback address is refused unless the registry itself has such an address or
 * `allow_private_redirects` is set; one with a link-local address unless the registry has one.
 */
#ifndef UPSTREAM_H
#define UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;

/* Set-up of a process; times in milliseconds. Strings are borrowed. */
struct upstream_config {
	const char *ca_path;         /* PEM file trusted besides the system's; NULL: none … */
	const char *more_ca_path;    /* … and another */
	unsigned connect_timeout_ms; /* DNS, TCP and TLS */
	unsigned idle_timeout_ms; /* no more than low_speed bytes a second for this long: broken */
	unsigned first_byte_timeout_ms; /* no head for this long after the request: timed out */
	unsigned low_speed;             /* bytes a second */
	bool allow_private_redirects;
	const char *user_agent;
};

struct upstream;

/* NULL: said why in the log (for example a CA file that cannot be read). Owned by the caller. */
struct upstream *upstream_new(struct event_base *base, const struct upstream_config *config);
void upstream_free(struct upstream **u);

struct upstream_header {
	const char *name, *value;
};

enum { UPSTREAM_MAX_HEADERS = 128 };

/* What is asked. Everything is borrowed and copied by upstream_start(). */
struct upstream_request {
	const char *method; /* "GET", "HEAD", "POST", … */
	const char *scheme, *host;
	unsigned registry; /* registry.h: the number of the one that `host` is of; 0: of none */
	unsigned first_host; /* registry.h: which of its hosts comes first, from 1 (and round again);
			      * 0: no matter */
	const char *target;        /* path[?query], sent as it is */
	const char *authorization; /* the client's, or NULL */
	/* Besides. Accept-Encoding: identity is always sent, Expect and hop-by-hop fields never,
	 * Accept only from here; Authorization, Host and lengths in here are left out. */
	const struct upstream_header *headers;
	size_t nheaders;
	const char *if_range; /* a strong tag; NULL: none … */
	unsigned if_range_host; /* … told to this one of the registry's hosts only */
	int64_t range_first; /* ≥ 0: Range: bytes=first-[last]; -1: none */
	int64_t range_last;  /* -1: to the end */
	bool follow;         /* follow redirects (GET and HEAD) */
	bool has_body;       /* ops->body gives it … */
	int64_t body_length; /* … of this length; -1: chunked */
	bool share_h2;       /* small calls (checks): HTTP/2 may be used */
	uint64_t deadline_ms; /* clock_ms: no head of the final answer by then: timed out; 0: none.
			       * Not looked at before an upload has ended. */
};

/* On whose behalf a registry was asked: registry.h. */
enum upstream_asker {
	ASKER_CLIENT, /* with the client's credential, if any: what it says is for the client */
	ASKER_HELD,   /* with one that the cache holds: a 401 or 403 is about that one */
	ASKER_NOBODY, /* with none, for the cache keeps the clients' to itself */
};

/* A head as the registry gave it. Valid during the callback. */
struct upstream_answer {
	int status;
	int64_t content_length;                /* -1: not said */
	const struct upstream_header *headers; /* in order, every line; names as sent */
	size_t nheaders;
	/* Docker-Content-Digest of the registry's own hop (not a redirect's target), or NULL */
	const char *registry_digest;
	unsigned redirects; /* how many were followed */
	/* registry.h: which host answered, of how many; 0: the request's own */
	unsigned host, hosts;
	const char *host_name; /* NULL: the request's own */
	enum upstream_asker asker;
};
/* The nth (from 0) value of a field, NULL when there is none. Case-insensitive. */
const char *upstream_header(const struct upstream_answer *a, const char *name, unsigned nth);

enum upstream_result {
	UPSTREAM_OK,       /* it ended; a body without Content-Length may still have been cut */
	UPSTREAM_CONNECT,  /* no connection (DNS, refused, TLS, proxy), or it died before a head */
	UPSTREAM_TIMEOUT,  /* connect or first byte took too long */
	UPSTREAM_UNTRUSTED, /* its certificate is not to be trusted, or not of that name */
	UPSTREAM_BROKEN,   /* the transfer broke or stood still after the head */
	UPSTREAM_PROTOCOL, /* not HTTP, or a head over the limits */
	UPSTREAM_REDIRECT, /* a redirect that may not be followed, or too many */
	UPSTREAM_BODY_FAILED, /* ops->body said so */
	/* Never of upstream itself: not asked, for it is known … */
	UPSTREAM_DOWN,  /* … that no connection comes about */
	UPSTREAM_SILENT /* … that it does not answer in time */
};
const char *upstream_result_name(enum upstream_result r);
/* May it go better at the next try? */
bool upstream_may_pass(enum upstream_result r);

struct upstream_call;

enum upstream_body { UPSTREAM_BODY_DATA, UPSTREAM_BODY_WAIT, UPSTREAM_BODY_FAIL };

struct upstream_ops {
	void (*head)(void *arg, const struct upstream_answer *answer); /* may be NULL */
	/* Body bytes. At most 512 KiB a turn of the loop. All of them are taken. */
	void (*data)(void *arg, const void *p, size_t n);
	/* `detail` is libcurl's text, without credentials. */
	void (*done)(void *arg, enum upstream_result r, const char *detail);
	/* Puts up to `size` bytes of the request's body into `to`, *n of them (0 with DATA: the
	 * end). WAIT: none now; upstream_resume() asks again. */
	enum upstream_body (*body)(void *arg, void *to, size_t size, size_t *n);
	/* Called once per turn of the loop after data() was called in it; may be NULL. For
	 * gathering. */
	void (*turn)(void *arg);
};

/* Never fails here: what is wrong comes by ops->done. Owned by `u` until done or cancelled. */
struct upstream_call *upstream_start(struct upstream *u, const struct upstream_request *r,
    const struct upstream_ops *ops, void *arg);
/* Has a redirect been followed? May be asked in ops->done too. */
bool upstream_is_redirected(const struct upstream_call *c);
void upstream_pause(struct upstream_call *c);
void upstream_resume(struct upstream_call *c);
/* *c becomes NULL; nothing happens when it is NULL. */
void upstream_cancel(struct upstream_call **c);

#endif
