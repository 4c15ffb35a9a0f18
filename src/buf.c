/* A byte queue in one block of memory, moved to the front when room is short. */
#include "buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "xalloc.h"

unsigned char *
buf_room(struct buf *b, size_t n)
{
	size_t len = buf_len(b);

	if (b->size - b->tail >= n && b->data != NULL)
		return b->data + b->tail;
	if (b->head > 0) {
		memmove(b->data, b->data + b->head, len);
		b->head = 0;
		b->tail = len;
	}
	if (b->data == NULL || b->size - b->tail < n) {
		size_t want = b->size * 2 > len + n ? b->size * 2 : len + n;

		b->data = xrealloc(b->data, want);
		b->size = want;
	}
	return b->data + b->tail;
}

void
buf_grew(struct buf *b, size_t n)
{
	if (n > b->size - b->tail)
		panic("buf grew by %zu, beyond its room of %zu", n, b->size - b->tail);
	b->tail += n;
}

void
buf_append(struct buf *b, const void *p, size_t n)
{
	if (n == 0)
		return;
	memcpy(buf_room(b, n), p, n);
	b->tail += n;
}

void
buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n > 0) {
		vsnprintf((char *)buf_room(b, (size_t)n + 1), (size_t)n + 1, fmt, again);
		b->tail += (size_t)n;
	}
	va_end(again);
}

void
buf_consume(struct buf *b, size_t n)
{
	if (n > buf_len(b))
		panic("buf consumes %zu of %zu", n, buf_len(b));
	b->head += n;
	if (b->head == b->tail)
		b->head = b->tail = 0;
}

void
buf_free(struct buf *b)
{
	free(b->data);
	*b = (struct buf){0};
}
