/* Host and path -> upstream, repository, kind, reference. Pure: no I/O, no configuration struct.
 * Names and grammar: OCI distribution-spec "Endpoints" and "Pulling manifests"; WIRE.md section 2.
 */
#ifndef ROUTE_H
#define ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "arena.h"
#include "digest.h"

/* One upstream rule as the configuration gives it. Strings are borrowed and must outlive the
 * table. */
struct route_rule {
	const char *regex;  /* PCRE2, on the Host as sent, lower-cased; NULL: the default backend */
	const char *host;   /* host[:port]; $group1 … $group9 in it become the regex's captures */
	const char *scheme; /* "http" or "https" */
	int trusted;        /* 1, 0, or -1: derived (DESIGN.md section 6) */
};

struct route_table;

/* Compiles the rules (tried in order; one with regex NULL is the default and matches when no
 * other does). NULL: *bad is the index of the rule that is wrong and *error says why (owned by
 * the caller). */
struct route_table *route_table_new(
    const struct route_rule *rules, size_t n, size_t *bad, char **error);
void route_table_free(struct route_table **t);
/* Can a capture choose the registrable domain of `host`? True: not trusted unless it is said.
 * Exported for tests. */
bool route_captures_choose_domain(const char *host);

enum route_kind {
	ROUTE_PASS,     /* anything else, below /v2 or not: streamed through */
	ROUTE_PING,     /* GET or HEAD /v2/ */
	ROUTE_MANIFEST, /* /v2/<name>/manifests/<reference> */
	ROUTE_BLOB,     /* /v2/<name>/blobs/<digest> */
	ROUTE_REFERRERS, /* /v2/<name>/referrers/<digest>: streamed through, but for its errors */
};
const char *route_kind_name(enum route_kind k);

enum route_result {
	ROUTE_OK,
	ROUTE_NO_UPSTREAM, /* no rule matches this Host and there is no default: 404 NAME_UNKNOWN */
	ROUTE_BAD_HOST,    /* the captures made no valid host: 400 */
	ROUTE_BAD_PATH,    /* "..", encoded slash or NUL, controls, no "/" first, too long: 400 */
	ROUTE_BAD_NAME,    /* not a repository name by the grammar: 400 NAME_INVALID */
	ROUTE_BAD_REFERENCE, /* no tag by the grammar, and no colon in it: 400 MANIFEST_INVALID */
	ROUTE_BAD_DIGEST,  /* no digest, or an upper-case or mis-sized one: 400 DIGEST_INVALID */
};

/* Where a request goes. Strings live in the arena. */
struct route {
	enum route_kind kind;
	const char *scheme, *host; /* the upstream; host with its port, when it has one */
	const char *upstream;      /* scheme://host */
	unsigned registry; /* which of server.registries that is, from 1; 0: none of them */
	bool trusted;              /* its check vouches for objects that others delivered */
	const char *target;        /* what to ask upstream: path[?query], without `ns` */
	const char *repository;    /* manifests, blobs and referrers; "" otherwise */
	const char *reference;     /* tag or digest as text; "" otherwise */
	bool has_digest;           /* of an object: the reference is a digest that we can check … */
	struct digest digest;      /* … this one */
};

/* `host` as sent, lower-cased; `target` is path[?query] as sent. Manifests, blobs and referrers are
 * recognised from the right (a repository may be called "a/blobs/b"), for the methods GET and
 * HEAD only (`reading`); a digest of an algorithm that we do not know, uploads
 * (/blobs/uploads/…), and everything else is ROUTE_PASS. "sha256%3A" is accepted. Every `ns`
 * parameter is taken out of the query, however its name is encoded; the rest stays byte for
 * byte. What is passed through keeps its path as sent, but for "/v2", which is "/v2/". */
enum route_result route_request(const struct route_table *t, const char *host, const char *target,
    bool reading, struct arena *arena, struct route *out) __attribute__((warn_unused_result));

#endif
