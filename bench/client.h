/* What the load clients share: loopback sockets, requests, and reading one answer's head. Every
 * client dies with a message on the first thing that is not as it should be: a wrong answer is no
 * measurement.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { CLIENT_HEAD_MAX = 16384 };

/* One answer as it arrives. All zero: nothing was received yet. */
struct reply {
	char head[CLIENT_HEAD_MAX]; /* the head, and what came with it of the body */
	size_t used;                /* bytes in `head` */
	size_t body_at;             /* where the body starts in `head`; 0: head not complete */
	uint64_t length;            /* Content-Length, bytes */
	uint64_t got;               /* body bytes received, those in `head` included */
};

void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Microseconds on CLOCK_MONOTONIC. */
uint64_t now_us(void);
/* Decimal in lowest…highest, or death. `what` names it in the message. */
unsigned parse_number(const char *text, const char *what, unsigned lowest, unsigned highest);

/* A connected socket to 127.0.0.1, which blocks for 30 s at most; the caller closes it. */
int client_connect(unsigned port);
void client_set_nonblocking(int fd);
/* What requests ask of the object (a Range field's value); answers must be 206 then. NULL: all. */
extern const char *client_range;
/* A GET request with the credential of `user`; new memory, owned by the caller. */
char *client_request(const char *path, unsigned port, unsigned user);
/* Sends all of it: a request always fits an idle socket's buffer. */
void client_send(int fd, const char *request);

/* Receives into the head. False: nothing was there to read, or not in time. Dies unless the answer
 * is 200 (206 for a range) with a Content-Length. Once body_at > 0, `got` body bytes are in head + body_at. */
bool reply_read_head(struct reply *r, int fd);
bool reply_complete(const struct reply *r);
void reply_reset(struct reply *r);

#endif
