/* The shared segment: children, wake-ups, places for bodies, connections and counters. The fill
 * table is in shm_fill.c. Atomics are seq_cst unless they say otherwise; only counters do. */
#include "shm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "network.h"
#include "shm_private.h"
#include "xalloc.h"

/* How often shm_body_begin() tries again when others came and went while it counted. */
enum { BODY_TRIES = 4 };

static const char *const child_state_names[] = {
    [CHILD_NONE] = "none",
    [CHILD_STARTING] = "starting",
    [CHILD_READY] = "ready",
    [CHILD_DRAINING] = "draining",
    [CHILD_DEAD] = "dead",
};

static const char *const counter_names[COUNT_MAX] = {
    [COUNT_REQUESTS] = "requests",
    [COUNT_HITS] = "hits",
    [COUNT_FILLS] = "fills",
    [COUNT_FOLLOWS] = "follows",
    [COUNT_PASSED] = "passed",
    [COUNT_UNCACHED] = "uncached",
    [COUNT_CHECKS] = "checks",
    [COUNT_CHECKS_SHARED] = "checks_shared",
    [COUNT_DENIED] = "denied",
    [COUNT_RESUMES] = "resumes",
    [COUNT_TAKEOVERS] = "takeovers",
    [COUNT_ADOPTED] = "adopted",
    [COUNT_DIGEST_FAILURES] = "digest_failures",
    [COUNT_STORE_ERRORS] = "store_errors",
    [COUNT_INDEX_ERRORS] = "index_errors",
    [COUNT_CONNECTIONS] = "connections",
    [COUNT_REFUSED] = "refused",
    [COUNT_BYTES_SENT] = "bytes_sent",
    [COUNT_BYTES_FETCHED] = "bytes_fetched",
    [COUNT_LIMITS] = "limits",
    [COUNT_LIMITED] = "limited",
    [COUNT_CORRUPT] = "corrupt",
    [COUNT_SCRUBBED] = "scrubbed",
    [COUNT_BYTES_SCRUBBED] = "bytes_scrubbed",
    [COUNT_STRANGERS] = "strangers",
    [COUNT_TOKENS] = "tokens",
    [COUNT_HELD_REFUSED] = "held_refused",
    [COUNT_TOO_MANY] = "too_many",
    [COUNT_CROWDED_OUT] = "crowded_out",
    [COUNT_NO_ROOM] = "no_room",
    [COUNT_EVICTED] = "evicted",
    [COUNT_BYTES_EVICTED] = "bytes_evicted",
    [COUNT_EXPIRED_AGE] = "expired_age",
    [COUNT_EXPIRED_UNUSED] = "expired_unused",
    [COUNT_BYTES_EXPIRED] = "bytes_expired",
    [COUNT_CLEANED] = "cleaned",
    [COUNT_HOSTS_DOWN] = "hosts_down",
    [COUNT_HOSTS_UP] = "hosts_up",
    [COUNT_KEPT_FROM_DOWN] = "kept_from_down",
    [COUNT_NEXT_HOSTS] = "next_hosts",
    [COUNT_RANGED] = "ranged",
    [COUNT_BYTES_RANGED] = "bytes_ranged",
    [COUNT_GRACE] = "grace",
};

const char *
child_state_name(enum child_state s)
{
	return s <= CHILD_DEAD ? child_state_names[s] : "unknown";
}

const char *
shm_counter_name(enum shm_counter c)
{
	return c < COUNT_MAX ? counter_names[c] : "unknown";
}

/* --- the segment ----------------------------------------------------------------------------- */

static bool
make_wake_fds(struct shm *s)
{
	for (unsigned i = 0; i < s->listeners; i++) {
		s->wake_fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (s->wake_fds[i] < 0)
			return false;
		s->seg->header.wake_fds[i] = s->wake_fds[i];
	}
	s->wake_fds[s->listeners] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	s->seg->gc_wake_fd = s->wake_fds[s->listeners];
	return s->seg->gc_wake_fd >= 0;
}

/* Keys are kept out of the swap, where the limit of locked memory allows. */
static bool
map_segment(struct shm *s)
{
	s->seg = mmap(NULL, s->length, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	if (s->seg == MAP_FAILED)
		return false;
	(void)madvise(s->seg, s->length, MADV_DONTDUMP); /* tokens are in it */
	(void)mlock(s->seg->key, sizeof(s->seg->key) + sizeof(s->seg->tickets));
	return true;
}

/* A memfd, so that the segment outlives an exec of the master. */
static bool
make_segment(struct shm *s)
{
	s->fd = memfd_create("registry-cache", MFD_CLOEXEC);
	return s->fd >= 0 && ftruncate(s->fd, (off_t)s->length) == 0 && map_segment(s);
}

static bool
make_keys(struct shm *s)
{
	return getrandom(s->seg->key, sizeof(s->seg->key), 0) == sizeof(s->seg->key) &&
	    shm_tickets_rotate(s, clock_ms(), 0);
}

static struct shm *
handle_new(unsigned listeners, unsigned fills)
{
	struct shm *s = xcalloc(1, sizeof(*s));

	s->listeners = listeners;
	s->fills = fills;
	s->length = sizeof(struct shm_segment) + fills * sizeof(struct shm_slot);
	s->fd = -1;
	s->seg = MAP_FAILED;
	for (unsigned i = 0; i < SHM_MAX_CHILDREN; i++)
		s->wake_fds[i] = -1;
	return s;
}

static struct shm_header
header_of(const struct shm *s)
{
	struct shm_header h = {
	    .magic = SHM_MAGIC,
	    .version = SHM_VERSION,
	    .segment_size = sizeof(struct shm_segment),
	    .slot_size = sizeof(struct shm_slot),
	    .counters = COUNT_MAX,
	    .listeners = s->listeners,
	    .fills = s->fills,
	};

	return h;
}

struct shm *
shm_create(unsigned listeners, unsigned fills)
{
	struct shm *s;
	int saved;

	if (listeners < 1 || listeners > SHM_MAX_LISTENERS || fills < 1 || fills > SHM_MAX_FILLS) {
		errno = EINVAL;
		return NULL;
	}
	s = handle_new(listeners, fills);
	if (make_segment(s))
		s->seg->header = header_of(s);
	if (s->seg == MAP_FAILED || !make_keys(s) || !make_wake_fds(s)) {
		saved = errno;
		shm_destroy(&s);
		errno = saved;
		return NULL;
	}
	shm_fill_init(s);
	shm_metric_init(s);
	shm_set_fill_limit(s, fills);
	return s;
}

/* Is this a segment that this program could have made? */
static bool
is_known(const struct shm_header *h, off_t size)
{
	struct shm like = {.listeners = h->listeners, .fills = h->fills};
	struct shm_header ours = header_of(&like);

	return memcmp(h, &ours, offsetof(struct shm_header, wake_fds)) == 0 &&
	    h->listeners <= SHM_MAX_LISTENERS && h->fills <= SHM_MAX_FILLS &&
	    (uint64_t)size == sizeof(struct shm_segment) + h->fills * sizeof(struct shm_slot);
}

struct shm *
shm_adopt(int fd)
{
	struct shm_header h;
	struct stat st;
	struct shm *s;

	if (fstat(fd, &st) != 0)
		return NULL;
	if (pread(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) || !is_known(&h, st.st_size)) {
		errno = EPROTO;
		return NULL;
	}
	s = handle_new(h.listeners, h.fills);
	s->fd = fd;
	memcpy(s->wake_fds, h.wake_fds, h.listeners * sizeof(*s->wake_fds));
	if (map_segment(s)) {
		s->wake_fds[s->listeners] = s->seg->gc_wake_fd;
		return s;
	}
	free(s);
	return NULL;
}

void
shm_destroy(struct shm **s)
{
	if (*s == NULL)
		return;
	for (unsigned i = 0; i <= (*s)->listeners; i++)
		if ((*s)->wake_fds[i] >= 0)
			close((*s)->wake_fds[i]);
	if ((*s)->seg != MAP_FAILED)
		munmap((*s)->seg, (*s)->length);
	if ((*s)->fd >= 0)
		close((*s)->fd);
	free(*s);
	*s = NULL;
}

int
shm_fd(const struct shm *s)
{
	return s->fd;
}

void
shm_set_fill_limit(struct shm *s, unsigned fills)
{
	if (fills < 1 || fills > s->fills)
		panic("a limit of %u fills, where there is room for %u", fills, s->fills);
	atomic_store(&s->seg->fill_limit, fills);
}

unsigned
shm_listeners(const struct shm *s)
{
	return s->listeners;
}

unsigned
shm_high(const struct shm *s)
{
	return atomic_load_explicit(&s->seg->high, memory_order_relaxed);
}

void
shm_note(const struct shm *s, unsigned listener)
{
	uint32_t high = shm_high(s);

	while (listener < s->listeners && listener >= high)
		if (atomic_compare_exchange_weak(&s->seg->high, &high, listener + 1))
			return;
}

unsigned
shm_gc(const struct shm *s)
{
	return s->listeners;
}

unsigned
shm_fills(const struct shm *s)
{
	return s->fills;
}

const uint8_t *
shm_key(const struct shm *s)
{
	return s->seg->key;
}

/* --- children -------------------------------------------------------------------------------- */

static struct shm_child *
child_of(const struct shm *s, unsigned child)
{
	if (child > s->listeners)
		panic("child %u of %u", child, s->listeners + 1);
	shm_note(s, child);
	return &s->seg->children[child];
}

/* Nanoseconds, not clock_ms(): the master may open several generations within a millisecond. */
static uint64_t
boot_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t
shm_child_open(struct shm *s, unsigned child)
{
	struct shm_child *c = child_of(s, child);
	uint64_t last = atomic_load(&s->seg->last_generation), generation = boot_ns();

	if (generation <= last)
		generation = last + 1;
	atomic_store(&s->seg->last_generation, generation);
	atomic_store(&c->heartbeat_ms, 0);
	atomic_store(&c->state, CHILD_STARTING);
	atomic_store(&c->generation, generation);
	return generation;
}

/* The generation is closed first: from then on its leases are dead, whatever its fills look
 * like. */
/* Stores only where there is something to forget, so that most cache lines stay shared. */
static void
forget_addresses(struct shm *s, unsigned listener)
{
	for (unsigned i = 0; listener < s->listeners && i < SHM_ADDRESSES; i++)
		if (atomic_load(&s->seg->addresses[listener][i]) != 0)
			atomic_store(&s->seg->addresses[listener][i], 0);
}

void
shm_child_closed(struct shm *s, unsigned child)
{
	struct shm_child *c = child_of(s, child);

	atomic_store(&c->generation, 0);
	atomic_store(&c->state, CHILD_DEAD);
	atomic_store(&c->bodies, 0);
	atomic_store(&c->connections, 0);
	forget_addresses(s, child);
	shm_fill_abandon_all(s, child);
	shm_metric_closed(s, child);
	for (unsigned i = 0; i < shm_high(s); i++)
		shm_wake(s, i);
}

uint64_t
shm_child_generation(const struct shm *s, unsigned child)
{
	return child <= s->listeners ? atomic_load(&s->seg->children[child].generation) : 0;
}

void
shm_child_set_state(struct shm *s, unsigned child, enum child_state state)
{
	atomic_store(&child_of(s, child)->state, state);
}

enum child_state
shm_child_state(const struct shm *s, unsigned child)
{
	return atomic_load(&child_of(s, child)->state);
}

void
shm_heartbeat(struct shm *s, unsigned child, uint64_t now_ms)
{
	atomic_store_explicit(&child_of(s, child)->heartbeat_ms, now_ms, memory_order_relaxed);
}

uint64_t
shm_last_heartbeat(const struct shm *s, unsigned child)
{
	return atomic_load_explicit(&child_of(s, child)->heartbeat_ms, memory_order_relaxed);
}

/* --- wake-ups -------------------------------------------------------------------------------- */

int
shm_wake_fd(const struct shm *s, unsigned listener)
{
	return listener <= s->listeners ? s->wake_fds[listener] : -1;
}

/* EAGAIN means that the eventfd is as readable as can be. */
void
shm_wake(struct shm *s, unsigned listener)
{
	const uint64_t one = 1;

	if (write(s->wake_fds[listener], &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_error("cannot wake listener %u: %m", listener);
}

void
shm_wake_drain(struct shm *s, unsigned listener)
{
	uint64_t count;

	if (read(s->wake_fds[listener], &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_error("cannot drain the wake-ups of listener %u: %m", listener);
}

/* --- client bodies in flight ----------------------------------------------------------------- */

static uint64_t
bodies_sum(const struct shm *s)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < shm_high(s); i++)
		sum += atomic_load(&s->seg->children[i].bodies);
	return sum;
}

static void
body_give_back(struct shm *s, unsigned listener)
{
	uint64_t waiters;

	atomic_fetch_sub(&child_of(s, listener)->bodies, 1);
	if (atomic_load(&s->seg->body_waiters) == 0)
		return;
	waiters = atomic_exchange(&s->seg->body_waiters, 0);
	for (unsigned i = 0; i < shm_high(s); i++)
		if (waiters & UINT64_C(1) << i)
			shm_wake(s, i);
}

/* There is no count of all to keep in step with the listeners' own: a process may die between
 * two stores. So a place is taken first, then all are counted, and given back when they are too
 * many; giving back wakes whoever was refused because of it. Who goes on losing that race wakes
 * itself and tries on its next turn. */
bool
shm_body_begin(struct shm *s, unsigned listener, unsigned limit)
{
	struct shm_child *c = child_of(s, listener);

	for (int i = 0; i < BODY_TRIES; i++) {
		if (limit == 0 || bodies_sum(s) < limit) {
			atomic_fetch_add(&c->bodies, 1);
			if (limit == 0 || bodies_sum(s) <= limit)
				return true;
			body_give_back(s, listener);
		}
		atomic_fetch_or(&s->seg->body_waiters, UINT64_C(1) << listener);
		if (bodies_sum(s) >= limit)
			return false;
	}
	shm_wake(s, listener);
	return false;
}

void
shm_body_end(struct shm *s, unsigned listener)
{
	if (atomic_load(&child_of(s, listener)->bodies) == 0)
		panic("listener %u ends a body that it never began", listener);
	body_give_back(s, listener);
}

/* --- client connections and their addresses --------------------------------------------------- */

unsigned
shm_connections(const struct shm *s)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < shm_high(s); i++)
		sum += atomic_load(&s->seg->children[i].connections);
	return sum;
}

unsigned
shm_connections_add(struct shm *s, unsigned listener, int delta)
{
	atomic_fetch_add(&child_of(s, listener)->connections, (uint32_t)delta);
	return shm_connections(s);
}

/* FNV-1a. */
static unsigned
address_bucket(const char *address)
{
	char client[NETWORK_CLIENT_SIZE];
	uint64_t h = 14695981039346656037u;

	for (const char *c = network_client(address, client); *c != '\0'; c++)
		h = (h ^ (unsigned char)*c) * 1099511628211u;
	return (unsigned)(h ^ h >> 32) & (SHM_ADDRESSES - 1);
}

unsigned
shm_address_add(struct shm *s, unsigned listener, const char *address, int delta)
{
	unsigned bucket = address_bucket(address), sum = 0;

	shm_note(s, listener);
	atomic_fetch_add(&s->seg->addresses[listener][bucket], (uint32_t)delta);
	for (unsigned i = 0; i < shm_high(s); i++)
		sum += atomic_load(&s->seg->addresses[i][bucket]);
	return sum;
}

void
shm_rest_store(struct shm *s, uint64_t until_ms)
{
	atomic_store(&s->seg->rest_until, until_ms);
}

bool
shm_store_rests(const struct shm *s, uint64_t now_ms)
{
	return now_ms < atomic_load_explicit(&s->seg->rest_until, memory_order_relaxed);
}

/* --- counters -------------------------------------------------------------------------------- */

void
shm_count(struct shm *s, unsigned child, enum shm_counter c, uint64_t n)
{
	atomic_fetch_add_explicit(&child_of(s, child)->counters[c], n, memory_order_relaxed);
}

uint64_t
shm_counter_sum(const struct shm *s, enum shm_counter c)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i <= s->listeners; i++)
		sum += atomic_load_explicit(&s->seg->children[i].counters[c], memory_order_relaxed);
	return sum;
}
