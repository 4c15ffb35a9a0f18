/* The keys of TLS session tickets. One process writes them, the master; who reads one while it is
 * overwritten sees that by its version, and tries again. Atomics are seq_cst. */
#include "shm_tickets.h"

#include <string.h>
#include <sys/random.h>

#include "shm_private.h"

enum { READ_TRIES = 1000 };

_Static_assert(sizeof(struct shm_ticket_key) == 8 * SHM_TICKET_WORDS, "a key fills its words");

bool
shm_tickets_rotate(struct shm *s, uint64_t now, uint64_t period_ms)
{
	struct shm_tickets *t = &s->seg->tickets;
	uint64_t made = atomic_load(&t->made), words[SHM_TICKET_WORDS];
	struct shm_ticket_slot *slot = &t->slots[made % SHM_TICKET_KEYS];

	if (made > 0 && now - t->newest_ms < period_ms)
		return true;
	if (getrandom(words, sizeof(words), 0) != sizeof(words))
		return false;
	atomic_fetch_add(&slot->version, 1);
	for (unsigned i = 0; i < SHM_TICKET_WORDS; i++)
		atomic_store(&slot->words[i], words[i]);
	atomic_fetch_add(&slot->version, 1);
	atomic_store(&t->made, made + 1);
	t->newest_ms = now;
	explicit_bzero(words, sizeof(words));
	return true;
}

/* False: it is being overwritten. */
static bool
read_slot(const struct shm_ticket_slot *slot, struct shm_ticket_key *key)
{
	uint64_t version = atomic_load(&slot->version), words[SHM_TICKET_WORDS];
	bool whole;

	for (unsigned i = 0; i < SHM_TICKET_WORDS; i++)
		words[i] = atomic_load(&slot->words[i]);
	whole = version % 2 == 0 && atomic_load(&slot->version) == version;
	if (whole)
		memcpy(key, words, sizeof(*key));
	explicit_bzero(words, sizeof(words));
	return whole;
}

bool
shm_ticket_key(const struct shm *s, unsigned age, struct shm_ticket_key *key)
{
	const struct shm_tickets *t = &s->seg->tickets;

	for (unsigned i = 0; i < READ_TRIES; i++) {
		uint64_t made = atomic_load(&t->made);

		if (age >= SHM_TICKET_KEYS || age >= made)
			return false;
		if (read_slot(&t->slots[(made - 1 - age) % SHM_TICKET_KEYS], key) &&
		    atomic_load(&t->made) == made)
			return true;
	}
	return false;
}
