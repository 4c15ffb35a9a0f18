/* Trying an index out in a process of its own, before anybody relies on it. */
#include "index.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"

enum { PROBE_SECONDS = 45 }; /* a damaged tree may be a circle */

static bool
see_object(const struct digest *d, const struct index_object *o, void *arg)
{
	(void)d;
	(void)o;
	(void)arg;
	return true;
}

static bool
see_lease(const struct digest *d, const struct index_lease *l, void *arg)
{
	(void)d;
	(void)l;
	(void)arg;
	return true;
}

/* The child: dies quietly of what it finds. */
static void
probe(const char *dir)
{
	static const int deadly[] = {SIGBUS, SIGSEGV, SIGABRT, SIGFPE, SIGALRM, SIGTERM, SIGINT};
	struct rlimit none = {0, 0};
	struct index *ix;
	sigset_t all;
	bool fine;

	for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
		signal(deadly[i], SIG_DFL);
	sigfillset(&all);
	sigprocmask(SIG_UNBLOCK, &all, NULL);
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(PROBE_SECONDS);
	ix = index_open(dir);
	fine = ix != NULL && index_each_object(ix, see_object, NULL) == INDEX_OK &&
	    index_each_lease(ix, see_lease, NULL) == INDEX_OK;
	_exit(fine ? 0 : 1);
}

bool
index_probe(const char *dir)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		probe(dir);
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		log_warn("index: cannot be tried out");
		return true; /* then it shows in use */
	}
	if (WIFSIGNALED(status))
		log_warn("index: reading it dies of signal %d", WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
