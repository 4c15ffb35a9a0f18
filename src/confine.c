/* Memory and files of a confined child. Its system calls are confine_calls.c's. */
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Of kernels newer than the headers (Linux: Documentation/userspace-api/landlock.rst). */
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif

/* What changes a file system, by the version of Landlock that came to know it; and starting programs,
 * which no folder allows. Reading stays free: resolver, certificates, the system's time zone. */
#define WRITES_1 \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | \
	    LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR | \
	    LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | \
	    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | \
	    LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)
#define WRITES_2 LANDLOCK_ACCESS_FS_REFER
#define WRITES_3 LANDLOCK_ACCESS_FS_TRUNCATE
#define OF_FILES \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE) /* what a rule on a file may say */

bool
confine_is_built(void)
{
	return !SANITIZED;
}

void
confine_memory(void)
{
	const struct rlimit none = {0, 0};

	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* core_pattern may be a pipe, which heeds no limit */
}

static uint64_t
writes_of(int version)
{
	return WRITES_1 | (version >= 2 ? WRITES_2 : 0) | (version >= 3 ? WRITES_3 : 0);
}

static bool
allow(int ruleset, const char *path, uint64_t what)
{
	struct landlock_path_beneath_attr rule = {.allowed_access = what};
	bool done;

	rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return errno == ENOENT;
	done = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
	close(rule.parent_fd);
	return done;
}

/* Closes the ruleset. */
static bool
restrict_to(int ruleset, const char *const *folders, size_t n, uint64_t writes)
{
	bool done = allow(ruleset, "/dev/null", writes & OF_FILES);

	for (size_t i = 0; done && i < n; i++)
		done = allow(ruleset, folders[i], writes);
	done = done && syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
	close(ruleset);
	return done;
}

bool
confine_files(const char *const *folders, size_t n, const char **why)
{
	int version = (int)syscall(
	    SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct landlock_ruleset_attr attr = {0};
	int ruleset;

	*why = NULL;
	if (version < 1)
		return false;
	attr.handled_access_fs = writes_of(version) | LANDLOCK_ACCESS_FS_EXECUTE;
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (ruleset >= 0 && restrict_to(ruleset, folders, n, writes_of(version)))
		return true;
	*why = strerror(errno);
	return false;
}
