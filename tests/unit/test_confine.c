/* What a confined process can do no more. Each trial is a child that confines itself first; a kernel,
 * or a valgrind, without the means is no failure. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "confine.h"
#include "scratch.h"
#include "suites.h"

enum { KILLED = 128 + SIGSYS };

struct folders {
	char *inside, *outside;
};

/* 0, or errno. */
static int
write_in(const char *folder, const char *name)
{
	char *path = scratch_path(folder, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), why = fd < 0 ? errno : 0;

	if (fd >= 0)
		close(fd);
	free(path);
	return why;
}

static int
unlink_in(const char *folder, const char *name)
{
	char *path = scratch_path(folder, name);
	int why = unlink(path) == 0 ? 0 : errno;

	free(path);
	return why;
}

static int
try_files(void *arg)
{
	const struct folders *f = arg;
	const char *folders[] = {f->inside, "/there/is/no/such/folder"}, *why;

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (!confine_files(folders, 2, &why)) {
		MUST(why == NULL);
		return SCRATCH_SKIPPED;
	}
	MUST(write_in(f->inside, "new") == 0);
	MUST(unlink_in(f->inside, "new") == 0);
	MUST(write_in(f->outside, "new") == EACCES);
	MUST(write_in(f->outside, "there") == EACCES);
	MUST(unlink_in(f->outside, "there") == EACCES);
	MUST(scratch_exists(f->outside, "there"));
	MUST(write_in("/dev", "null") == 0);
	MUST(execl("/bin/true", "true", (char *)NULL) != 0 && errno == EACCES);
	return 0;
}

static void
files_are_written_in_the_folders_only(void)
{
	struct folders f = {scratch_folder(), scratch_folder()};
	int status;

	scratch_write(f.outside, "there", "text");
	status = scratch_run(try_files, &f);
	if (!scratch_skipped(status, "there is no Landlock"))
		CU_ASSERT_EQUAL(status, 0);
	scratch_remove(&f.inside);
	scratch_remove(&f.outside);
}

static int
use_the_network(void)
{
	int fds[2];

	MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0);
	MUST(pipe(fds) == 0);
	MUST(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0) < 0 && errno == ENOSYS);
	return 0;
}

static int
start_a_program(void)
{
	return execl("/bin/true", "true", (char *)NULL);
}

static int
trace_others(void)
{
	return (int)ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
}

static int
become_root(void)
{
	return setuid(0);
}

static int
make_a_namespace(void)
{
	return unshare(CLONE_NEWUSER);
}

struct trial {
	const char *name;
	int (*call)(void);
	int status;
};

static int
try_call(void *arg)
{
	const struct trial *t = arg;
	const char *why;

	confine_memory();
	MUST(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (!confine_calls(&why)) {
		MUST(why == NULL);
		return SCRATCH_SKIPPED;
	}
	return t->call();
}

static void
what_only_an_intruder_calls_is_the_end(void)
{
	static struct trial trials[] = {
	    {"network", use_the_network, 0},
	    {"start", start_a_program, KILLED},
	    {"trace", trace_others, KILLED},
	    {"root", become_root, KILLED},
	    {"namespace", make_a_namespace, KILLED},
	};

	for (size_t i = 0; i < sizeof(trials) / sizeof(*trials); i++) {
		int status = scratch_run(try_call, &trials[i]);

		if (!scratch_skipped(status, "there is no seccomp") && status != trials[i].status) {
			printf("\n    %s: status %d", trials[i].name, status);
			CU_FAIL("a trial ended otherwise");
		}
	}
}

void
suite_confine(void)
{
	CU_pSuite s = CU_add_suite("confine", NULL, NULL);

	CU_add_test(s, "files are written in the folders only", files_are_written_in_the_folders_only);
	CU_add_test(s, "what only an intruder calls is the end", what_only_an_intruder_calls_is_the_end);
}
