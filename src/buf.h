/* A byte queue: bytes are appended at the end and consumed at the front.
 *
 *      data            data+head              data+tail           data+size
 *       | consumed ......| waiting (buf_data) .....| room (buf_room) ....|
 */
#ifndef BUF_H
#define BUF_H

#include <stddef.h>

struct buf {
	unsigned char *data; /* NULL while empty and never used, or after buf_free() */
	size_t head;
	size_t tail;
	size_t size;
};

/* An all-zero struct buf is an empty one. */
static inline size_t
buf_len(const struct buf *b)
{
	return b->tail - b->head;
}

static inline unsigned char *
buf_data(const struct buf *b)
{
	return b->data + b->head;
}

/* Makes room for `n` more bytes and returns where they go; buf_grew() says how many were put
 * there. */
unsigned char *buf_room(struct buf *b, size_t n);
void buf_grew(struct buf *b, size_t n);
void buf_append(struct buf *b, const void *p, size_t n);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Drops `n` ≤ buf_len() bytes from the front. */
void buf_consume(struct buf *b, size_t n);
/* Gives the memory back; the buf is empty and may be used again. */
void buf_free(struct buf *b);

#endif
