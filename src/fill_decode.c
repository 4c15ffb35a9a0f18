/* Bodies that an upstream encodes though it was asked not to (RFC 9110 section 8.4, WIRE.md 3.2). Some say
 * Content-Encoding of bytes that are the object as it is (a layer is a gzip file), others have encoded
 * it; only the digest tells. So the part holds what came, and nobody is given a byte of it; when its
 * digest is not the object's it is decoded into another part. Such a fill is never gone on with by
 * Range, neither here nor by another process: it begins again. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <event2/event.h>
#include <zlib.h>

#include "fill_private.h"
#include "log.h"
#include "registry.h"
#include "store.h"
#include "store_scan.h"
#include "xalloc.h"

enum {
	DECODE_BLOCK = 65536,
	DECODE_RESTARTS = 3,         /* after broken transfers */
	DECODE_RATIO = 100,          /* as much as a byte may become … */
	DECODE_FREE = 16 * 1024 * 1024, /* … and this in any case */
	GZIP_WINDOW = 16 + MAX_WBITS,   /* zlib's words for the three formats */
	ZLIB_WINDOW = MAX_WBITS,
	RAW_WINDOW = -MAX_WBITS,
};

struct decoder {
	int fd; /* what came */
	uint64_t at, size; /* of it, in bytes: read so far, all */
	uint64_t out;      /* bytes that it became so far */
	z_stream z;
	bool ready; /* z is set up */
	bool ended; /* at the end of a stream */
	unsigned char in[DECODE_BLOCK];
};

static enum fill_coding
coding_of(const struct upstream_answer *a)
{
	const char *value = upstream_header(a, "Content-Encoding", 0);

	if (value == NULL || *value == '\0' || strcasecmp(value, "identity") == 0)
		return CODING_NONE;
	if (upstream_header(a, "Content-Encoding", 1) != NULL)
		return CODING_OTHER;
	if (strcasecmp(value, "gzip") == 0 || strcasecmp(value, "x-gzip") == 0)
		return CODING_GZIP;
	return strcasecmp(value, "deflate") == 0 ? CODING_DEFLATE : CODING_OTHER;
}

const char *
decode_head(struct fill *f, const struct upstream_answer *a)
{
	enum fill_coding coding = coding_of(a);
	char text[DIGEST_STR_SIZE];

	if (coding == CODING_NONE)
		return NULL;
	if (a->status != 200 || f->bytes > 0 || buf_len(&f->gather) > 0)
		return "it is encoded now, and was not before";
	if (!store_keep_to_leader(f->fd, true))
		return strerror(errno);
	log_info("fill %s: %s says Content-Encoding, though it was asked not to encode",
	    digest_str(&f->digest, text), f->source.host);
	f->coding = coding;
	f->encoded_size = a->content_length;
	f->size = -1; /* of the object, which is not known any more */
	return NULL;
}

void
decode_restart(struct fill *f)
{
	if (++f->restarts > DECODE_RESTARTS) {
		lead_abort(f, FILL_END_UPSTREAM);
		return;
	}
	store_remove_part(f->fills->c.store, &f->digest, f->lease.id);
	lead_fetch_afresh(f);
}

void
decode_release(struct fill *f)
{
	struct decoder *d = f->decoder;

	f->beside = 0;
	if (d == NULL)
		return;
	if (d->ready)
		inflateEnd(&d->z);
	close(d->fd);
	free(d);
	f->decoder = NULL;
}

/* --- decoding -------------------------------------------------------------------------------- */

static void
failed(struct fill *f, const char *why)
{
	char text[DIGEST_STR_SIZE];

	shm_count(f->fills->c.shm, f->fills->c.owner.listener, COUNT_DIGEST_FAILURES, 1);
	log_error("fill %s: neither what %s sent is it, nor what that decodes to: %s",
	    digest_str(&f->digest, text), f->source.host, why);
	lead_abort(f, FILL_END_DIGEST);
}

/* "deflate" is zlib's format, but some send the bare one (RFC 9110 section 8.4.1.2). */
static int
window_of(const struct fill *f, const unsigned char *first, size_t n)
{
	if (f->coding == CODING_GZIP)
		return GZIP_WINDOW;
	if (n >= 2 && (first[0] & 0x0f) == Z_DEFLATED && (first[0] << 8 | first[1]) % 31 == 0)
		return ZLIB_WINDOW;
	return RAW_WINDOW;
}

static void
work_soon(struct fill *f)
{
	struct timeval now = {0, 0};

	event_add(f->fills->work, &now);
}

void
decode_begin(struct fill *f)
{
	struct decoder *d;
	int fd;

	if (f->coding == CODING_OTHER) {
		failed(f, "a coding that is not known");
		return;
	}
	fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0) {
		failed(f, strerror(errno));
		return;
	}
	d = xcalloc(1, sizeof(*d));
	d->fd = fd;
	d->size = f->bytes;
	f->decoder = d;
	if (!store_file_disk(fd, &f->beside))
		f->beside = f->bytes;
	store_remove_part(f->fills->c.store, &f->digest, f->lease.id);
	if (!lead_new_part(f))
		return;
	fill_set_phase(f, PHASE_DECODE);
	work_soon(f);
}

void
decode_resume(struct fill *f)
{
	if (f->phase == PHASE_DECODE)
		work_soon(f);
}

/* More of what came; false: it cannot be read. */
static bool
read_block(struct decoder *d)
{
	ssize_t n = pread(d->fd, d->in, sizeof(d->in), (off_t)d->at);

	if (n <= 0)
		return false;
	d->at += (uint64_t)n;
	d->z.next_in = d->in;
	d->z.avail_in = (uInt)n;
	return true;
}

/* Files of several gzip streams are one (RFC 1952 section 2.2). NULL, or what is wrong. */
static const char *
inflate_block(struct fill *f)
{
	struct decoder *d = f->decoder;
	unsigned char *out = buf_room(&f->gather, DECODE_BLOCK);
	size_t n;
	int r;

	if (d->ended && (f->coding != CODING_GZIP || inflateReset(&d->z) != Z_OK))
		return "bytes follow its end";
	d->z.next_out = out;
	d->z.avail_out = DECODE_BLOCK;
	r = inflate(&d->z, Z_NO_FLUSH);
	if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
		return d->z.msg != NULL ? d->z.msg : "it cannot be decoded";
	d->ended = r == Z_STREAM_END;
	n = DECODE_BLOCK - d->z.avail_out;
	hasher_update(f->hasher, out, n);
	buf_grew(&f->gather, n);
	d->out += n;
	return d->out > DECODE_FREE && d->out / DECODE_RATIO > d->size ? "it becomes too large" : NULL;
}

/* One block. NULL, or what is wrong; *more is false at the end. */
static const char *
decode_some(struct fill *f, bool *more)
{
	struct decoder *d = f->decoder;
	uint64_t before = d->out;
	const char *wrong;
	bool all_read;

	if (d->z.avail_in == 0 && d->at < d->size && !read_block(d))
		return "it cannot be read again";
	if (!d->ready && inflateInit2(&d->z, window_of(f, d->in, d->z.avail_in)) != Z_OK)
		return "zlib cannot be set up";
	d->ready = true;
	all_read = d->z.avail_in == 0;
	*more = !all_read || !d->ended;
	if (!*more)
		return NULL;
	wrong = inflate_block(f);
	return wrong == NULL && all_read && d->out == before && !d->ended ? "it ends early" : wrong;
}

void
decode_step(struct fill *f)
{
	struct decoder *d = f->decoder;
	uint64_t out = d->out + FILL_STEP, in = d->at + FILL_STEP;
	bool more = true;

	while (d->out < out && d->at < in) {
		const char *wrong = decode_some(f, &more);

		if (wrong != NULL) {
			failed(f, wrong);
			return;
		}
		if (!more) {
			f->decoded = true;
			lead_finish(f);
			return;
		}
		if (buf_len(&f->gather) >= FILL_GATHER && !fetch_flush(f))
			return;
		if (space_waits(f))
			return;
	}
}
