/* What tests of one store share: a folder of its own. */
#ifndef STORE_TRIAL_H
#define STORE_TRIAL_H

#include <CUnit/CUnit.h>

#include "scratch.h"
#include "store.h"

static char *folder; /* the test's, from begin() to end() */

static inline struct store *
begin(void)
{
	struct store *s;

	folder = scratch_folder();
	s = store_open(folder);
	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	return s;
}

static inline void
end(struct store **s)
{
	store_close(s);
	scratch_remove(&folder);
}

#endif
