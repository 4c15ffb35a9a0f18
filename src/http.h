/* HTTP/1.1 on the client's side: parsing a request head (llhttp), reading a request body,
 * formatting answers. Pure: bytes in, values out; no I/O. Sources: RFC 9110 (semantics), RFC 9112
 * (messages).
 */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "buf.h"

enum {
	HTTP_MAX_HEADERS = 256,       /* fields */
	HTTP_MAX_TARGET = 16 * 1024, /* bytes of a request target */
};

enum http_method {
	HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE, HTTP_OPTIONS, HTTP_OTHER
};

struct http_header {
	const char *name;  /* as sent; compare with http_name_is() */
	const char *value; /* trimmed */
};

/* A parsed head. Everything points into the arena. */
struct http_head {
	enum http_method method;
	const char *method_name;
	/* As sent, in origin form: path[?query]; an absolute-form target is cut to that. */
	const char *target;
	/* Host, or of the absolute form; lower-cased, with its port; "" when absent (HTTP/1.0). */
	const char *host;
	int minor;          /* HTTP/1.minor */
	bool keep_alive;    /* what the client asked for (RFC 9112 section 9.3) */
	bool chunked;       /* the body is chunked */
	int64_t body_length; /* Content-Length; 0 when absent; -1 when chunked */
	bool expect_continue;
	const struct http_header *headers;
	size_t nheaders;
};

enum http_parse {
	HTTP_OK,   /* *consumed bytes were the head */
	HTTP_MORE, /* not all of it is there yet */
	HTTP_BAD,  /* *error says why (static text): answer 400 and close */
};

/* Reads a request head from the first `len` bytes at `data`. Leading empty lines are skipped
 * (RFC 9112 section 2.2). Refuses, besides what llhttp refuses in its strict default: obs-fold,
 * bare LF, NUL and control bytes, a missing or second Host in HTTP/1.1, Content-Length with
 * Transfer-Encoding, a transfer coding other than chunked, more than HTTP_MAX_HEADERS fields, a
 * target of more than HTTP_MAX_TARGET bytes, HTTP versions other than 1.0 and 1.1, a target that
 * is neither origin nor absolute form or has bytes other than printable ASCII, more than 16
 * empty lines before the head. Data that can never become a head is refused at once, not when
 * the head ends. */
enum http_parse http_parse_head(const char *data, size_t len, struct arena *arena,
    struct http_head *head, size_t *consumed, const char **error)
    __attribute__((warn_unused_result));

const char *http_method_name(enum http_method m);
bool http_name_is(const char *name, const char *wanted); /* case-insensitive */
/* The first value of this field, NULL when absent. */
const char *http_header_get(const struct http_head *head, const char *name);
/* All values of this field, joined by ", " in their order (RFC 9110 section 5.3), in the arena;
 * NULL when absent. */
const char *http_header_joined(const struct http_head *head, const char *name, struct arena *arena);

/* --- request bodies --------------------------------------------------------------------------- */

/* Reads one request body, of known length or chunked, from what the connection received.
 * Embedded; no memory of its own. */
struct http_body {
	int64_t left;      /* known length: bytes still to come */
	bool chunked;
	uint8_t state;     /* chunked: the decoder's state */
	uint64_t chunk;    /* chunked: bytes left in this chunk */
	uint32_t line;     /* chunked: bytes seen of the present line, to bound it */
	bool done;
};
void http_body_init(struct http_body *b, const struct http_head *head);
/* Decodes from `in` (which it consumes) and appends at most `max` body bytes to `out`. False:
 * the coding is broken: answer 400 and close. */
bool http_body_read(struct http_body *b, struct buf *in, struct buf *out, size_t max)
    __attribute__((warn_unused_result));

/* --- ranges (RFC 9110 section 14) ------------------------------------------------------------- */

enum http_range {
	HTTP_RANGE_NONE,  /* no Range, another unit, or not well-formed: answer 200 */
	HTTP_RANGE_ONE,   /* one was asked for, inside the object: answer 206 */
	HTTP_RANGE_MANY,  /* several were: answer 206 as multipart/byteranges, even if only one is left */
	HTTP_RANGE_BEYOND /* none can be satisfied: answer 416 */
};

/* [first, end) of an object. */
struct http_span {
	uint64_t first, end;
};

enum { HTTP_MAX_RANGES = 1024 }; /* as many as podman asks for at a time (WIRE.md 3.3) */

/* For how many ranges of this Range field's value (NULL: none) there must be room. */
size_t http_count_ranges(const char *value);
/* Reads it against an object of `size` bytes into `spans`, which has room for http_count_ranges(); *n
 * says how many can be satisfied, in the order asked for. "bytes=500-0" cannot be (WIRE.md 7.3); an
 * empty object has no ranges: HTTP_RANGE_NONE, as for more than HTTP_MAX_RANGES or for more than twice
 * the object in all (RFC 9110 section 14.2 allows to ignore them). */
enum http_range http_parse_ranges(
    const char *value, uint64_t size, struct http_span *spans, size_t *n);
/* Is it a list of ranges that an object of the right size might have? */
bool http_is_range(const char *value);
/* "bytes <first>-<last>/<size>" (RFC 9110 section 14.4): false when it is none. *size is -1 for "*". */
bool http_parse_content_range(const char *value, uint64_t *first, uint64_t *last, int64_t *size);
/* "bytes * /<size>" without the blank, of a 416: the size, -1 when it does not say it. */
int64_t http_parse_unsatisfied(const char *value);
/* Does an If-None-Match value (list, "*", weak tags; RFC 9110 section 13.1.2) match this quoted
 * strong tag? */
bool http_etag_matches(const char *value, const char *etag);

/* --- answers ---------------------------------------------------------------------------------- */

const char *http_reason(int status);
/* "HTTP/1.1 <status> <reason>\r\n" with Date, and Connection: close when `close`. */
void http_begin(struct buf *out, int status, bool close);
/* A field; one with a control byte (CR and LF among them) in its name or value is left out. */
void http_field(struct buf *out, const char *name, const char *value);
void http_field_u64(struct buf *out, const char *name, uint64_t value);
void http_end(struct buf *out);
/* Is this field hop-by-hop (RFC 9110 section 7.6.1), and not to be relayed? */
bool http_is_hop_by_hop(const char *name);
/* Is `name` one of those that a Connection value (NULL: none) names as hop-by-hop too? */
bool http_connection_names(const char *connection, const char *name);
/* The JSON of an OCI error body (distribution-spec "Error Codes"), in the arena. */
const char *http_error_body(struct arena *arena, const char *code, const char *message);

#endif
