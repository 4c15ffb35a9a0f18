/* What registries ask for, as their challenges have said: a memory of this process, bounded; the oldest
 * entry makes room. And what a request is about. For registry*.c only. */
#ifndef REGISTRY_DEMAND_H
#define REGISTRY_DEMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "challenge.h"

enum { DEMANDS_MAX = 64 };

enum demand_kind { DEMAND_NONE, DEMAND_BASIC, DEMAND_TOKEN };

struct demand {
	enum demand_kind kind;
	struct realm realm;  /* TOKEN … */
	const char *service; /* … NULL: none */
};

/* An all-zero struct is an empty one. */
struct demands {
	struct demand_entry {
		char *upstream; /* scheme://host; NULL: free */
		struct demand demand;
		unsigned long age;
	} entry[DEMANDS_MAX];
	unsigned long ages;
};

/* The strings of *d are copies in `arena`. False: nothing is known, and *d says DEMAND_NONE. */
bool demands_get(const struct demands *ds, const char *upstream, struct arena *arena, struct demand *d);
/* Copied; DEMAND_NONE is forgotten. */
void demands_note(struct demands *ds, const char *upstream, const struct demand *d);
void demands_forget(struct demands *ds, const char *upstream);
void demands_free(struct demands *ds);

#endif
