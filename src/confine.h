/* What a child process gives up for good, so that whoever takes it over by a bug of ours gains little:
 * writing outside of a few folders (Landlock), system calls that it has no use for (seccomp), and core
 * dumps, which would hold keys and credentials. What the kernel does not have is done without. */
#ifndef CONFINE_H
#define CONFINE_H

#include <stdbool.h>
#include <stddef.h>

/* No core dumps, and no other process of this user may read this one's memory; new programs of this
 * process begin without that again. */
void confine_memory(void);

/* Files may be opened for writing, made, renamed and removed only below the `n` folders (borrowed),
 * and nothing may be executed. A folder that is not there is left out. False when the kernel has no
 * Landlock; *why (static, or from strerror) says what is wrong when it has one and refuses. Needs
 * PR_SET_NO_NEW_PRIVS. */
bool confine_files(const char *const *folders, size_t n, const char **why)
    __attribute__((warn_unused_result));

/* Only the system calls that a child has a use for: starting a program, tracing, mounting and the
 * like end the process (SIGSYS), what else is not known fails with ENOSYS. False and *why as above.
 * Needs PR_SET_NO_NEW_PRIVS. */
bool confine_calls(const char **why) __attribute__((warn_unused_result));

/* Sanitizers write reports where they like and trace the process: nothing is confined there. */
bool confine_is_built(void);

#endif
