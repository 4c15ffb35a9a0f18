/* Request bodies: of known length, or chunked (RFC 9112 section 7.1). The decoder is strict,
 * because whoever reads a chunked body otherwise than the next server does can be made to see
 * another request: every line ends with CR LF, a size is hex digits and nothing else, lines are
 * bounded.
 */
#include <string.h>

#include "http.h"

enum {
	MAX_SIZE_DIGITS = 16,
	MAX_SIZE_LINE = 1024,    /* with extensions */
	MAX_TRAILERS = 8 * 1024, /* all of them together */
};

enum body_state {
	BODY_SIZE,         /* hex digits */
	BODY_EXTENSION,    /* after ';', to CR */
	BODY_SIZE_LF,
	BODY_DATA,         /* `chunk` bytes */
	BODY_DATA_CR,
	BODY_DATA_LF,
	BODY_TRAILER,      /* at the start of a trailer line */
	BODY_TRAILER_LINE, /* in it, to CR */
	BODY_TRAILER_LF,
	BODY_LAST_LF,      /* of the empty line that ends the body */
};

void
http_body_init(struct http_body *b, const struct http_head *head)
{
	*b = (struct http_body){.chunked = head->chunked, .left = head->body_length};
	b->done = b->left == 0;
}

static int
hex_value(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
expect(struct http_body *b, unsigned char c, char wanted, enum body_state next)
{
	b->state = (uint8_t)next;
	return c == wanted;
}

static bool
in_size(struct http_body *b, unsigned char c)
{
	int digit = hex_value(c);

	if (digit >= 0) {
		b->chunk = b->chunk << 4 | (unsigned)digit;
		return ++b->line <= MAX_SIZE_DIGITS && b->chunk <= INT64_MAX;
	}
	b->state = c == ';' ? BODY_EXTENSION : BODY_SIZE_LF;
	return b->line > 0 && (c == ';' || c == '\r');
}

/* A line of text that is dropped: to its CR, within `max` bytes. */
static bool
in_dropped(struct http_body *b, unsigned char c, uint32_t max, enum body_state at_cr)
{
	if (++b->line > max)
		return false;
	if (c == '\r')
		b->state = (uint8_t)at_cr;
	return c >= 0x20 ? c != 0x7f : c == '\r' || c == '\t';
}

static bool
at_trailer(struct http_body *b, unsigned char c)
{
	if (c == '\r')
		return expect(b, c, '\r', BODY_LAST_LF);
	b->state = BODY_TRAILER_LINE;
	return c != ' ' && c != '\t' && c != ':' && in_dropped(b, c, MAX_TRAILERS, BODY_TRAILER_LF);
}

static bool
size_ends(struct http_body *b, unsigned char c)
{
	b->line = 0;
	return expect(b, c, '\n', b->chunk > 0 ? BODY_DATA : BODY_TRAILER);
}

/* One byte of the coding, anything but a chunk's data. */
static bool
step(struct http_body *b, unsigned char c)
{
	switch ((enum body_state)b->state) {
	case BODY_SIZE: return in_size(b, c);
	case BODY_EXTENSION: return in_dropped(b, c, MAX_SIZE_LINE, BODY_SIZE_LF);
	case BODY_SIZE_LF: return size_ends(b, c);
	case BODY_DATA: return false;
	case BODY_DATA_CR: return expect(b, c, '\r', BODY_DATA_LF);
	case BODY_DATA_LF: return expect(b, c, '\n', BODY_SIZE);
	case BODY_TRAILER: return at_trailer(b, c);
	case BODY_TRAILER_LINE: return in_dropped(b, c, MAX_TRAILERS, BODY_TRAILER_LF);
	case BODY_TRAILER_LF: return expect(b, c, '\n', BODY_TRAILER);
	case BODY_LAST_LF:
		b->done = true;
		return c == '\n';
	}
	return false;
}

/* Moves data, at most *max, which is lowered; returns how much. */
static uint64_t
move(struct buf *in, struct buf *out, uint64_t wanted, size_t *max)
{
	size_t n = buf_len(in);

	if (n > wanted)
		n = (size_t)wanted;
	if (n > *max)
		n = *max;
	if (n > 0) {
		buf_append(out, buf_data(in), n);
		buf_consume(in, n);
	}
	*max -= n;
	return n;
}

static bool
read_chunked(struct http_body *b, struct buf *in, struct buf *out, size_t max)
{
	while (!b->done && buf_len(in) > 0) {
		if (b->state != BODY_DATA) {
			unsigned char c = *buf_data(in);

			buf_consume(in, 1);
			if (!step(b, c))
				return false;
			continue;
		}
		if (max == 0)
			break;
		b->chunk -= move(in, out, b->chunk, &max);
		if (b->chunk == 0)
			b->state = BODY_DATA_CR;
	}
	return true;
}

bool
http_body_read(struct http_body *b, struct buf *in, struct buf *out, size_t max)
{
	if (b->done)
		return true;
	if (b->chunked)
		return read_chunked(b, in, out, max);
	b->left -= (int64_t)move(in, out, (uint64_t)b->left, &max);
	b->done = b->left == 0;
	return true;
}
