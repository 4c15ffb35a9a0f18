/* Who the clients of the cache are: passwords are tried by a thread, one at a time, so that the loop never
 * waits for a hash. Of a credential that was tried only an HMAC is kept: one that is right is known from
 * then on, one that is wrong for LOGIN_WRONG_MS, so that repeats cost nothing.
 *
 * Requests with the same credential wait for the same trial. Client addresses take turns, and one may
 * have LOGIN_PER_ADDRESS credentials waiting: who guesses passwords waits for himself. */
#ifndef LOGIN_H
#define LOGIN_H

#include <stdbool.h>
#include <stdint.h>

#include "secret.h"

struct event_base;
struct login; /* one a process */
struct login_ticket; /* one that waits */
struct users;

enum { LOGIN_WRONG_MS = 10000, LOGIN_PER_ADDRESS = 16, LOGIN_MAX_WAITING = 256 };

/* `users` is borrowed; the key is copied. Owned by the caller. */
struct login *login_new(
    struct event_base *base, const struct users *users, const uint8_t key[SECRET_BYTES]);
/* Waits for the trial under way. Nobody is told any more. */
void login_free(struct login **l);

enum login_answer {
	LOGIN_YES,
	LOGIN_NO,
	LOGIN_WAIT, /* the callback will say, from the loop */
	LOGIN_BUSY, /* too many wait */
};
typedef void login_fn(void *arg, bool known);

/* `address` is the client's, as text. WAIT: *ticket ends with the callback or by login_cancel(). */
enum login_answer login_ask(struct login *l, const char *name, const char *password,
    const char *address, login_fn *told, void *arg, struct login_ticket **ticket);
/* *t becomes NULL; nothing happens when it is NULL. */
void login_cancel(struct login_ticket **t);

#endif
