/* One call in a test of `upstream`: asks, runs the loop until the call has ended, and keeps all
 * that was called back. */
#ifndef TRIAL_H
#define TRIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "upstream.h"

struct event_base;

/* The process's loop and upstream, between trial_begin() and trial_end(). */
extern struct event_base *trial_base;
extern struct upstream *trial_upstream;

/* Limits that no test reaches; tests change what they are about. */
struct upstream_config trial_config(void);
void trial_begin(const struct upstream_config *config);
void trial_end(void);
/* Ends and begins with these limits, in milliseconds. Short ones are for tests that are about
 * them: machines are slow at times. */
void trial_change_limits(unsigned idle_ms, unsigned first_byte_ms);
/* Runs the loop until *flag; a test that waits for more than 20 seconds has failed (false). */
bool trial_run_until(const bool *flag);
/* Runs the loop until test(arg). */
bool trial_run_while(bool (*test)(void *arg), void *arg);

/* Set what is wanted, call trial_go() or trial_start(), look at the rest. Zeroed it is a GET. */
struct trial {
	struct upstream_request r;
	struct upstream_call *call;
	const char *upload; /* given in pieces of `piece` bytes */
	size_t upload_at, piece;
	bool upload_waits, upload_fails;
	void (*on_head)(struct trial *t), (*on_data)(struct trial *t), (*on_done)(struct trial *t);
	void *other;

	int status;
	int64_t content_length;
	char *fields; /* "name=value|…", "" before the head */
	char digest[128];
	unsigned redirects, heads, dones, turns;
	struct buf body;
	size_t in_turn, most_in_turn;
	bool out_of_order; /* data before the head, or anything after done or a cancel */
	bool headed, done;
	enum upstream_result result;
	char detail[256];
};
/* Asks for http://host/target. `host` and `target` are borrowed. */
void trial_want(struct trial *t, const char *host, const char *target);
void trial_start(struct trial *t);
/* Starts and runs to the end; false: it did not end. */
bool trial_go(struct trial *t);
bool trial_body_is(const struct trial *t, const char *text);
/* The body is origin_pattern() of this many bytes. */
bool trial_body_is_pattern(const struct trial *t, size_t n);
void trial_free(struct trial *t);

/* Parts of suite_upstream(), in files of their own. */
void add_upstream_flow_suite(void);
void add_upstream_upload_suite(void);
void add_upstream_redirect_suite(void);

#endif
