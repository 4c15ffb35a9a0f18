/* Which hosts of registries do not answer: records without a payload, whose stamp is all of their
 * state. */
#include "shm_health.h"

#include <stdlib.h>

#include "shm_private.h"

/* The time is when it last failed while it is up, and until when nobody asks while it is down. */
struct record {
	uint64_t time; /* 44 bits of clock_ms */
	unsigned failures, fault, step;
	bool down, probed;
};

enum { FAILURES_MAX = 255, STEP_MAX = 31, TRIES = 100 };

static uint64_t
pack(struct record r)
{
	return r.time << 20 | (uint64_t)r.probed << 18 | (uint64_t)r.down << 17 | r.step << 12 |
	    r.fault << 8 | r.failures;
}

static struct record
unpack(uint64_t w)
{
	return (struct record){
	    .time = w >> 20,
	    .probed = w >> 18 & 1,
	    .down = w >> 17 & 1,
	    .step = w >> 12 & STEP_MAX,
	    .fault = w >> 8 & HEALTH_MAX_FAULT,
	    .failures = w & FAILURES_MAX,
	};
}

static struct shm_table
table_of(const struct shm *s)
{
	return (struct shm_table){s->seg->health, SHM_HEALTH_BUCKETS, 0};
}

static void
view_of(struct record r, uint64_t now, struct health_view *v)
{
	*v = (struct health_view){
	    .failures = r.failures, .fault = r.fault, .wait_ms = r.time > now ? r.time - now : 0};
}

/* Processes and hosts that failed together do not try again together. */
static uint64_t
delay(const struct health_rules *rules, unsigned step)
{
	uint64_t ms = rules->first_ms;

	while (step-- > 0 && ms < rules->most_ms)
		ms *= 2;
	ms = ms < rules->most_ms ? ms : rules->most_ms;
	return ms * 3 / 4 + (uint64_t)random() % (ms / 2 + 1);
}

enum health_state
shm_health_ask(const struct shm *s, const uint8_t key[HEALTH_KEY_BYTES],
    const struct health_rules *rules, uint64_t now, struct health_view *v)
{
	const struct shm_table t = table_of(s);
	struct record r, probed;
	uint64_t w;

	if (rules->after == 0 || !shm_table_get(&t, key, &w, NULL))
		return HEALTH_UP;
	r = unpack(w);
	view_of(r, now, v);
	if (!r.down)
		return HEALTH_UP;
	if (now < r.time)
		return HEALTH_DOWN;
	probed = r;
	probed.probed = true;
	probed.time = now + rules->hold_ms;
	return shm_table_move(&t, key, w, pack(probed)) ? HEALTH_PROBE : HEALTH_DOWN;
}

bool
shm_health_is_down(const struct shm *s, const uint8_t key[HEALTH_KEY_BYTES], uint64_t now)
{
	const struct shm_table t = table_of(s);
	uint64_t w;

	return shm_table_get(&t, key, &w, NULL) && unpack(w).down && now < unpack(w).time;
}

/* False: nothing of it is to be noted. */
static bool
after_failure(struct record *r, const struct health_rules *rules, unsigned fault, bool probe,
    uint64_t now)
{
	if (r->down && !probe) /* asked before it was down */
		return false;
	if (!r->down && now > r->time + HEALTH_FORGET_MS)
		*r = (struct record){0};
	r->failures += r->failures < FAILURES_MAX;
	r->fault = fault < HEALTH_MAX_FAULT ? fault : HEALTH_MAX_FAULT;
	r->probed = false;
	r->time = now;
	if (r->down)
		r->step += r->step < STEP_MAX;
	r->down = r->failures >= rules->after;
	if (r->down)
		r->time += delay(rules, r->step);
	return true;
}

bool
shm_health_failed(const struct shm *s, const uint8_t key[HEALTH_KEY_BYTES],
    const struct health_rules *rules, unsigned fault, bool probe, uint64_t now,
    struct health_view *v)
{
	const struct shm_table t = table_of(s);
	struct record r;
	uint64_t w;
	bool was_down, known, noted = false;

	for (int i = 0; rules->after > 0 && i < TRIES && !noted; i++) {
		known = shm_table_get(&t, key, &w, NULL);
		r = known ? unpack(w) : (struct record){.time = now};
		was_down = r.down;
		if (!after_failure(&r, rules, fault, probe, now))
			return false;
		noted = known ? shm_table_move(&t, key, w, pack(r))
			      : shm_table_add(&t, key, pack(r), NULL);
	}
	if (!noted)
		return false;
	view_of(r, now, v);
	return r.down && !was_down;
}

bool
shm_health_answered(
    const struct shm *s, const uint8_t key[HEALTH_KEY_BYTES], struct health_view *v)
{
	const struct shm_table t = table_of(s);
	uint64_t w;

	while (shm_table_get(&t, key, &w, NULL)) {
		if (!shm_table_move(&t, key, w, 0))
			continue;
		view_of(unpack(w), 0, v);
		return unpack(w).down;
	}
	return false;
}

void
shm_health_let_go(const struct shm *s, const uint8_t key[HEALTH_KEY_BYTES], uint64_t now)
{
	const struct shm_table t = table_of(s);
	struct record r;
	uint64_t w;

	if (!shm_table_get(&t, key, &w, NULL))
		return;
	r = unpack(w);
	if (!r.down || !r.probed)
		return;
	r.probed = false;
	r.time = now;
	shm_table_move(&t, key, w, pack(r)); /* or another has found something */
}
