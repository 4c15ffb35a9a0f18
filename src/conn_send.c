/* Sending: memory, a range of a file, memory again; plain or TLS. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "conn_private.h"
#include "log.h"
#include "tls.h"

enum {
	PAUSED = -10,       /* besides TLS_…: nothing may be sent now */
	CORK_LEAST = 65536, /* bytes of a file that are worth two system calls more */
};

const char conn_file_unreadable[] = "a file cannot be read";

/* --- the two ways of moving bytes ------------------------------------------------------------- */

static ssize_t
move_out(struct conn *c, const void *p, size_t n, bool more)
{
	ssize_t sent;

	if (c->tls != NULL)
		return tls_write(c->tls, p, n);
	do
		sent = send(c->fd, p, n, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
	while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return sent;
	return errno == EAGAIN ? TLS_WANT_WRITE : TLS_BROKEN;
}

static ssize_t
move_file_tls(struct conn *c, size_t n)
{
	ssize_t sent = tls_send_file(c->tls, c->file_fd, c->file_offset, n);

	if (sent != TLS_NO_FILE)
		return sent;
	c->finish_reason = conn_file_unreadable;
	return TLS_BROKEN;
}

static ssize_t
move_file(struct conn *c, size_t n)
{
	off_t offset = (off_t)c->file_offset;
	ssize_t sent;

	if (c->tls != NULL)
		return move_file_tls(c, n);
	do
		sent = sendfile(c->fd, c->file_fd, &offset, n);
	while (sent < 0 && errno == EINTR);
	if (sent > 0)
		return sent;
	if (sent < 0 && errno == EAGAIN)
		return TLS_WANT_WRITE;
	if (sent == 0 || (errno != EPIPE && errno != ECONNRESET)) {
		c->finish_reason = conn_file_unreadable;
		log_warn("conn %s: sendfile at %llu: %s", c->address,
		    (unsigned long long)c->file_offset,
		    sent == 0 ? "the file is shorter than it was" : strerror(errno));
	}
	return TLS_BROKEN;
}

/* --- output ----------------------------------------------------------------------------------- */

struct buf *
conn_output(struct conn *c)
{
	if (!conn_has_output(c))
		c->moved = clock_ms();
	return &c->out;
}

void
conn_send(struct conn *c, const void *p, size_t n)
{
	if (c->phase != CONN_CLOSED)
		buf_append(conn_output(c), p, n);
}

void
conn_send_file(struct conn *c, int fd, uint64_t offset, uint64_t n)
{
	if (c->file_left > 0)
		panic("conn: a second file range before the first was sent");
	if (!conn_has_output(c))
		c->moved = clock_ms();
	c->out_first = buf_len(&c->out);
	c->file_fd = fd;
	c->file_offset = offset;
	c->file_left = n;
}

bool
conn_has_output(const struct conn *c)
{
	return buf_len(&c->out) > 0 || c->file_left > 0;
}

bool
conn_sends_file(const struct conn *c)
{
	return c->file_left > 0;
}

/* One piece of what is next in line. *full: the socket took less than it was offered, so it takes
 * no more now. */
static ssize_t
send_piece(struct conn *c, bool *full)
{
	size_t memory = c->file_left > 0 ? c->out_first : buf_len(&c->out);
	size_t file = c->file_left < CONN_TURN_BYTES ? (size_t)c->file_left : CONN_TURN_BYTES;
	size_t may = conn_may_send(c, memory > 0 ? memory : file);
	ssize_t n;

	if (may == 0)
		return PAUSED;
	if (memory > 0) {
		memory = may;
		n = move_out(c, buf_data(&c->out), memory, c->file_left > 0);
		if (n > 0) {
			buf_consume(&c->out, (size_t)n);
			c->out_first -= c->file_left > 0 ? (size_t)n : 0;
		}
		return n;
	}
	n = move_file(c, may);
	*full = c->tls == NULL && n < (ssize_t)may;
	if (n > 0) {
		c->file_offset += (uint64_t)n;
		c->file_left -= (uint64_t)n;
	}
	return n;
}

static void
all_sent(struct conn *c)
{
	if (c->phase != CONN_LINGER || c->shut)
		return;
	c->shut = true;
	c->phase_since = clock_ms();
	if (c->tls == NULL && shutdown(c->fd, SHUT_WR) == 0)
		return;
	conn_close(c, c->finish_reason);
}

void
conn_kick(struct conn *c)
{
	if (c->phase == CONN_CLOSED)
		return;
	c->kicked = true;
	conn_want_write(c, true);
}

/* Records of 16 KiB each are a system call; corked, they leave as large segments. */
static void
set_cork(const struct conn *c, int on)
{
	(void)setsockopt(c->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
}

/* Sends for one turn of the loop. */
static bool
flush(struct conn *c)
{
	size_t turn = 0;
	bool full = false;

	while (c->phase != CONN_CLOSED && conn_has_output(c)) {
		ssize_t n = turn < CONN_TURN_BYTES && !full ? send_piece(c, &full) : TLS_WANT_WRITE;

		if (n == PAUSED)
			return false;
		if (n == TLS_WANT_WRITE || n == TLS_WANT_READ) {
			conn_want_write(c, true);
			return false;
		}
		if (n <= 0) {
			conn_close(c, c->finish_reason == conn_file_unreadable
				? conn_file_unreadable : "client connection broke");
			return false;
		}
		turn += (size_t)n;
		conn_was_sent(c, (size_t)n);
		c->moved = clock_ms();
	}
	if (c->phase == CONN_CLOSED)
		return false;
	all_sent(c);
	return c->phase != CONN_CLOSED;
}

bool
conn_flush(struct conn *c)
{
	bool corked = c->tls != NULL && c->file_left > CORK_LEAST, done;

	if (corked)
		set_cork(c, 1);
	done = flush(c);
	if (corked && c->phase != CONN_CLOSED)
		set_cork(c, 0);
	return done;
}
