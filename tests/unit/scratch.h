/* What tests of files and processes need: a folder of their own, child processes that report,
 * memory that they share. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "digest.h"

/* A new, empty folder; its path is owned by the caller. Made under TMPDIR, else /tmp. */
char *scratch_folder(void);
/* Removes the folder with all that is in it; *path becomes NULL. */
void scratch_remove(char **path);
/* `folder`/`name`, owned by the caller. */
char *scratch_path(const char *folder, const char *name);
/* Makes the file with this text. */
void scratch_write(const char *folder, const char *name, const char *text);
bool scratch_exists(const char *folder, const char *name);

/* Runs `run` in a child, which exits with what it returns. */
pid_t scratch_spawn(int (*run)(void *arg), void *arg);
/* Waits for it. Its exit status, or 128 + the signal that ended it. */
int scratch_reap(pid_t pid);
/* Kills it (SIGKILL) and waits for it. */
void scratch_kill(pid_t pid);
/* Spawns and reaps. */
int scratch_run(int (*run)(void *arg), void *arg);

/* Zeroed memory that children share with their parent. */
void *scratch_shared(size_t size);
void scratch_unshare(void *p, size_t size);

/* The n-th of an endless row of digests. */
struct digest scratch_digest(unsigned n);
/* A pause of up to `max_us` microseconds, to move processes against one another. */
void scratch_jitter(unsigned max_us);

/* How often to try: `n` times, or an eighth of that where UNIT_SLOW is set, because every step takes long. */
unsigned scratch_rounds(unsigned n);
/* In a child with a mount namespace of its own: mounts a tmpfs of `size` ("1m") on `folder`.
 * False: not allowed. */
bool scratch_mount_tmpfs(const char *folder, const char *size);
/* Likewise makes `folder` read-only. */
bool scratch_mount_read_only(const char *folder);
/* What a child returns that could not mount, and what is done about it: says that the test was
 * skipped. */
enum { SCRATCH_SKIPPED = 77 };
bool scratch_skipped(int status, const char *why);

/* In a child: says what is wrong and ends it with status 1. */
#define MUST(condition) ((condition) ? (void)0 : scratch_die(__FILE__, __LINE__, #condition))
void scratch_die(const char *file, int line, const char *condition) __attribute__((noreturn));

#endif
