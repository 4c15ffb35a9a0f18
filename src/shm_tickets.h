/* The keys of TLS session tickets, for all listeners of the cache, whatever their configuration or
 * program: a client resumes at any of them. They are in the shared segment only, and a restart
 * makes others.
 *
 * A key:  newest   new tickets are made with it, for one period of rotation
 *         older    tickets are still read, for SHM_TICKET_KEYS - 1 periods
 *         gone     overwritten: what was made with it can be read by nobody any more */
#ifndef SHM_TICKETS_H
#define SHM_TICKETS_H

#include <stdbool.h>
#include <stdint.h>

struct shm;

enum { SHM_TICKET_KEYS = 3, SHM_TICKET_NAME = 16, SHM_TICKET_SECRET = 32 };

struct shm_ticket_key {
	uint8_t name[SHM_TICKET_NAME]; /* stands in the ticket */
	uint8_t cipher[SHM_TICKET_SECRET];
	uint8_t mac[SHM_TICKET_SECRET];
};

/* The master: makes a new key when the newest is `period_ms` old, or there is none. `now` is
 * clock_ms(). False: the system gave no random bytes; the keys are as they were. */
bool shm_tickets_rotate(struct shm *s, uint64_t now, uint64_t period_ms)
    __attribute__((warn_unused_result));
/* The key that is the newest but `age`. False: there is none. The caller overwrites it after use. */
bool shm_ticket_key(const struct shm *s, unsigned age, struct shm_ticket_key *key)
    __attribute__((warn_unused_result));

#endif
