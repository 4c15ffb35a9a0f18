/* Host, ns, path and X-Dragonfly-Registry -> upstream, repository, kind, reference. Pure: no I/O, no
 * configuration struct. Names and grammar: OCI distribution-spec "Endpoints", "Pulling manifests" and
 * "Registry Proxying"; WIRE.md sections 1 and 2.
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
	unsigned registry;  /* the number of the one that `host` is of, from 1; 0: of none */
};

/* One of server.registries. Borrowed likewise, with its lists. */
struct route_registry {
	const char *name;           /* lower case */
	const char *const *aliases; /* likewise */
	size_t naliases;
	const char *scheme;
	const char *const *hosts; /* the first is what a route names */
	size_t nhosts;
	bool trusted;
	const char *realm; /* a host that it may send clients to for tokens, besides its own; NULL: none */
	bool library; /* a repository of one component is below "library/" */
};

struct route_table;

/* Compiles the rules (tried in order; one with regex NULL is the default and matches when no
 * other does). NULL: *bad is the index of the rule that is wrong and *error says why (owned by
 * the caller). */
struct route_table *route_table_new(
    const struct route_rule *rules, size_t n, size_t *bad, char **error);
/* The registries that requests may name by ns, path or header, in the order of their numbers. */
void route_table_set_registries(
    struct route_table *t, const struct route_registry *registries, size_t n);
void route_table_free(struct route_table **t);
/* Docker Hub has three names: "docker.io" for each of them, any other name as it is. */
const char *route_plain_name(const char *name);
/* Can a capture choose the registrable domain of `host`? True: not trusted unless it is said.
 * Exported for tests. */
bool route_captures_choose_domain(const char *host);

enum route_kind {
	ROUTE_PASS,     /* anything else, below /v2 or not: streamed through */
	ROUTE_PING,     /* GET or HEAD /v2/ */
	ROUTE_MANIFEST, /* /v2/<name>/manifests/<reference> */
	ROUTE_BLOB,     /* /v2/<name>/blobs/<digest> */
	ROUTE_REFERRERS, /* /v2/<name>/referrers/<digest>: streamed through, but for its errors */
	/* Of no upstream, when registries can be named by the path and nothing named one: */
	ROUTE_OWN_PING, /* GET or HEAD /v2/ */
	ROUTE_TOKEN,    /* /token */
};
const char *route_kind_name(enum route_kind k);

enum route_result {
	ROUTE_OK,
	ROUTE_NO_UPSTREAM, /* no rule matches this Host and there is no default: 404 NAME_UNKNOWN */
	ROUTE_BAD_HOST,    /* the captures made no valid host: 400 */
	ROUTE_UNKNOWN,     /* ns or header name no registry that is configured: 404 NAME_UNKNOWN */
	ROUTE_CONFLICT,    /* what names the registry names two, or ns is there twice: 400 */
	ROUTE_BAD_PATH,    /* "..", encoded slash or NUL, controls, no "/" first, too long: 400 */
	ROUTE_BAD_NAME,    /* not a repository name by the grammar: 400 NAME_INVALID */
	ROUTE_BAD_REFERENCE, /* no tag by the grammar, and no colon in it: 400 MANIFEST_INVALID */
	ROUTE_BAD_DIGEST,  /* no digest, or an upper-case or mis-sized one: 400 DIGEST_INVALID */
};

/* What chose the upstream. Whoever names its registry otherwise than by a prefix of the repository
 * knows the repository by the registry's own name for it. */
enum route_carrier {
	ROUTE_BY_DEFAULT, /* nothing: the default backend, or none */
	ROUTE_BY_RULE,    /* Host */
	ROUTE_BY_NS,      /* ?ns=; a prefix may be there too (BuildKit sends both) */
	ROUTE_BY_HEADER,  /* X-Dragonfly-Registry; likewise */
	ROUTE_BY_MOUNT,   /* /<registry>/v2/… */
	ROUTE_BY_PREFIX,  /* /v2/<registry>/…, and that alone */
};

/* What a request says. */
struct route_question {
	const char *host;     /* as sent, lower-cased */
	const char *target;   /* path[?query] as sent */
	const char *registry; /* X-Dragonfly-Registry: a URL or a host; NULL: none */
	bool reading;         /* GET or HEAD */
};

/* Where a request goes. Strings live in the arena. */
struct route {
	enum route_kind kind;
	enum route_carrier carrier;
	const char *scheme, *host; /* the upstream; host with its port, when it has one */
	const char *upstream;      /* scheme://host */
	unsigned registry; /* which of server.registries that is, from 1; 0: none of them */
	bool trusted;              /* its check vouches for objects that others delivered */
	const char *target;        /* what to ask upstream: path[?query], without `ns` */
	const char *repository;    /* manifests, blobs and referrers; "" otherwise */
	const char *reference;     /* tag or digest as text; "" otherwise */
	bool has_digest;           /* of an object: the reference is a digest that we can check … */
	struct digest digest;      /* … this one */
	/* How the client's paths differ from the registry's; "" where they do not. */
	const char *mount;   /* before "/v2": "/quay.io" */
	const char *prefix;  /* after "/v2/": "quay.io/" */
	const char *ns;      /* "ns=…" as it was sent */
	const char *ns_name; /* the same decoded, when it was acted upon */
	const char *trouble; /* of UNKNOWN and CONFLICT: what was found */
};

/* Which registry it is, is said by (a) a rule that matches Host, (b) the parameter ns, (c) the first
 * component of the repository, (d) what is before /v2, (e) the header, or nothing: the default. Those
 * of (b) to (e) that are there must agree. A rule that matches leaves the path alone: it is the
 * registry's own; ns and header are then looked at for a contradiction only. After (d), too, the path
 * is the registry's own. Names are those of route_table_set_registries(); ns and the header may also
 * name one by a host of its, and the default backend by its host. Without registries, only (a) counts.
 *
 * Manifests, blobs and referrers are
 * recognised from the right (a repository may be called "a/blobs/b"), for the methods GET and
 * HEAD only (`reading`); a digest of an algorithm that we do not know, uploads
 * (/blobs/uploads/…), and everything else is ROUTE_PASS. "sha256%3A" is accepted. Every `ns`
 * parameter is taken out of the query, however its name is encoded; the rest stays byte for
 * byte. What is passed through keeps its path as sent, but for "/v2", which is "/v2/". */
enum route_result route_request(const struct route_table *t, const struct route_question *q,
    struct arena *arena, struct route *out) __attribute__((warn_unused_result));
/* The repository that `name` (`n` bytes) is at the registry that its first component names, as in
 * /v2/<registry>/…, in the arena; *number is that registry's. NULL: it names none. */
const char *route_repository(const struct route_table *t, const char *name, size_t n,
    struct arena *arena, unsigned *number);
/* The registry of this number; NULL for 0: its default backend is what that stands for. */
const struct route_registry *route_registry(const struct route_table *t, unsigned number);
/* Set scheme, host, upstream, registry and trusted of *out: of this registry; of the default backend; of
 * the only upstream that a request without a rule may get. False: there is none such. */
bool route_to(const struct route_table *t, unsigned number, struct arena *arena,
    struct route *out) __attribute__((warn_unused_result));
bool route_default(const struct route_table *t, struct arena *arena, struct route *out)
    __attribute__((warn_unused_result));
bool route_only(const struct route_table *t, struct arena *arena, struct route *out)
    __attribute__((warn_unused_result));

#endif
