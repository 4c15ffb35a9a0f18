/* The master's parts that need no run of the whole: addresses, binding, back-off, reaping, the
 * watchdog. Children are plain forks of the test, put into the master's table by hand. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "conf.h"
#include "log.h"
#include "master_private.h"
#include "shm.h"
#include "suites.h"

/* --- addresses ------------------------------------------------------------------------------- */

static void
reads_the_forms_of_an_address(void)
{
	static const struct {
		const char *text, *host, *port;
	} good[] = {
	    {"0.0.0.0:7000", "0.0.0.0", "7000"},
	    {"cache.example:80", "cache.example", "80"},
	    {"[::1]:7000", "::1", "7000"},
	    {"[::]:0", "::", "0"},
	    {"[fe80::1%eth0]:65535", "fe80::1%eth0", "65535"},
	    {":7000", "", "7000"},
	};
	struct master_address a;

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		CU_ASSERT_PTR_NULL(master_parse_address(good[i].text, &a));
		CU_ASSERT_STRING_EQUAL(a.host, good[i].host);
		CU_ASSERT_STRING_EQUAL(a.port, good[i].port);
	}
}

static void
refuses_what_is_no_address(void)
{
	static const char *const bad[] = {"", "7000", "host", "host:", "host:http", "host:-1",
	    "host:65536", "host:100000", "host: 80", "host:80 ", "::1:7000", "[::1]", "[::1:7000",
	    "[]:7000", "[::1]7000", "::"};
	struct master_address a;
	char long_host[400];

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CU_ASSERT_PTR_NOT_NULL(master_parse_address(bad[i], &a));
	memset(long_host, 'a', sizeof(long_host));
	strcpy(long_host + sizeof(long_host) - 6, ":7000");
	CU_ASSERT_PTR_NOT_NULL(master_parse_address(long_host, &a));
}

/* --- sockets --------------------------------------------------------------------------------- */

enum { SOCKETS = 3 };

static int
option_of(int fd, int option)
{
	int value = -1;
	socklen_t length = sizeof(value);

	CU_ASSERT_EQUAL(getsockopt(fd, SOL_SOCKET, option, &value, &length), 0);
	return value;
}

static void
close_sockets(const int *fds)
{
	for (int i = 0; i < SOCKETS; i++)
		close(fds[i]);
}

static void
all_sockets_listen_on_the_port_that_the_kernel_picked(void)
{
	char bound[MASTER_BOUND_SIZE];
	int fds[SOCKETS];
	struct master_address a;

	CU_ASSERT_TRUE_FATAL(master_listen("127.0.0.1:0", SOCKETS, fds, bound));
	CU_ASSERT_PTR_NULL(master_parse_address(bound, &a));
	CU_ASSERT_STRING_EQUAL(a.host, "127.0.0.1");
	CU_ASSERT_STRING_NOT_EQUAL(a.port, "0");
	for (int i = 0; i < SOCKETS; i++) {
		struct sockaddr_storage sa, first;
		socklen_t length = sizeof(sa), first_length = sizeof(first);

		CU_ASSERT_EQUAL(getsockname(fds[i], (struct sockaddr *)&sa, &length), 0);
		CU_ASSERT_EQUAL(getsockname(fds[0], (struct sockaddr *)&first, &first_length), 0);
		CU_ASSERT_EQUAL(length, first_length);
		CU_ASSERT_EQUAL(memcmp(&sa, &first, length), 0);
		CU_ASSERT_EQUAL(option_of(fds[i], SO_ACCEPTCONN), 1);
		CU_ASSERT_EQUAL(accept(fds[i], NULL, NULL), -1); /* and does not block */
		CU_ASSERT_EQUAL(errno, EAGAIN);
	}
	close_sockets(fds);
}

static void
a_second_daemon_cannot_share_the_port(void)
{
	char bound[MASTER_BOUND_SIZE], other[MASTER_BOUND_SIZE];
	int fds[SOCKETS], more[SOCKETS];

	CU_ASSERT_TRUE_FATAL(master_listen("127.0.0.1:0", SOCKETS, fds, bound));
	CU_ASSERT_FALSE(master_listen(bound, SOCKETS, more, other));
	close_sockets(fds);
	CU_ASSERT_TRUE_FATAL(master_listen(bound, SOCKETS, more, other));
	CU_ASSERT_STRING_EQUAL(bound, other);
	close_sockets(more);
}

static void
an_address_without_host_is_every_address(void)
{
	char bound[MASTER_BOUND_SIZE];
	struct master_address a;
	int fds[SOCKETS];

	CU_ASSERT_TRUE_FATAL(master_listen(":0", SOCKETS, fds, bound));
	CU_ASSERT_PTR_NULL(master_parse_address(bound, &a));
	CU_ASSERT(strcmp(a.host, "::") == 0 || strcmp(a.host, "0.0.0.0") == 0);
	close_sockets(fds);
}

static void
an_address_that_is_not_ours_is_an_error(void)
{
	char bound[MASTER_BOUND_SIZE];
	int fds[SOCKETS];

	CU_ASSERT_FALSE(master_listen("192.0.2.1:0", SOCKETS, fds, bound));
	CU_ASSERT_FALSE(master_listen("no port", SOCKETS, fds, bound));
}

/* --- back-off -------------------------------------------------------------------------------- */

static void
respawn_delay_doubles_from_100_ms_to_10_s(void)
{
	static const uint64_t delays[] = {0, 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000};

	for (unsigned i = 0; i < sizeof(delays) / sizeof(*delays); i++)
		CU_ASSERT_EQUAL(master_respawn_delay(i), delays[i]);
	CU_ASSERT_EQUAL(master_respawn_delay(1000000), 10000);
}

static void
overdue_is_by_heartbeat_when_ready_and_by_age_before(void)
{
	CU_ASSERT_FALSE(master_overdue(true, 1000000, 10000, 10000));
	CU_ASSERT_TRUE(master_overdue(true, 1000000, 10001, 10000));
	CU_ASSERT_FALSE(master_overdue(false, MASTER_START_MS, MASTER_START_MS, 10000));
	CU_ASSERT_TRUE(master_overdue(false, MASTER_START_MS + 1, 0, 10000));
}

/* --- children -------------------------------------------------------------------------------- */

/* A master of one listener and gc, with no process. */
struct fixture {
	struct conf conf;
	struct master_edition edition;
	struct master_child children[2];
	struct master master;
};

static void
fixture_open(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	f->conf.server.heartbeat_timeout = 10000;
	f->edition.conf = &f->conf;
	f->master.current = &f->edition;
	f->master.phase = MASTER_DRAINING; /* nothing is forked by itself */
	f->master.children = f->children;
	f->master.nchildren = 2;
	f->master.shm = shm_create(1, 1);
	CU_ASSERT_PTR_NOT_NULL_FATAL(f->master.shm);
	for (unsigned i = 0; i < 2; i++) {
		f->children[i].number = i;
		f->children[i].duty = DUTY_SERVING;
		strcpy(f->children[i].role, i == 0 ? "listener 0" : "gc");
	}
	f->children[1].is_gc = true;
}

/* A process that stays until it is killed, in the first child's place since `forked_at`. */
static void
fixture_fork(struct fixture *f, uint64_t forked_at, enum child_state state)
{
	struct master_child *c = &f->children[0];

	c->generation = shm_child_open(f->master.shm, 0);
	shm_child_set_state(f->master.shm, 0, state);
	shm_heartbeat(f->master.shm, 0, forked_at);
	c->forked_at = forked_at;
	c->was_ready = c->killed = false;
	c->pid = fork();
	CU_ASSERT_FATAL(c->pid >= 0);
	if (c->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* should the test itself die */
		for (;;)
			pause();
	}
}

/* Returns when the process has died; it is left for master_reap(). The signal that killed it. */
static int
await_death(pid_t pid)
{
	siginfo_t info = {0};

	CU_ASSERT_EQUAL_FATAL(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	return info.si_code == CLD_KILLED ? info.si_status : 0;
}

static void
fixture_kill(struct fixture *f, uint64_t now)
{
	kill(f->children[0].pid, SIGKILL);
	CU_ASSERT_EQUAL(await_death(f->children[0].pid), SIGKILL);
	master_reap(&f->master, now);
	CU_ASSERT_EQUAL(f->children[0].pid, 0);
}

static void
deaths_before_readiness_are_throttled_and_a_ready_child_is_replaced_at_once(void)
{
	struct fixture f;
	struct master_child *c = &f.children[0];

	fixture_open(&f);
	fixture_fork(&f, 1000, CHILD_STARTING);
	fixture_kill(&f, 2000);
	CU_ASSERT_EQUAL(c->respawn_at, 2100);
	fixture_fork(&f, 3000, CHILD_STARTING);
	fixture_kill(&f, 8000); /* it lived, but was never ready */
	CU_ASSERT_EQUAL(c->respawn_at, 8000 + 200);
	fixture_fork(&f, 20000, CHILD_READY);
	fixture_kill(&f, 20001); /* it was ready, but only just */
	CU_ASSERT_EQUAL(c->respawn_at, 20001);
	CU_ASSERT_EQUAL(c->failures, 0);
	fixture_fork(&f, 30000, CHILD_STARTING);
	fixture_kill(&f, 30001); /* the throttle has forgotten */
	CU_ASSERT_EQUAL(c->respawn_at, 30001 + 100);
	shm_destroy(&f.master.shm);
}

static void
a_reaped_child_has_its_generation_closed(void)
{
	struct fixture f;

	fixture_open(&f);
	fixture_fork(&f, 1000, CHILD_READY);
	CU_ASSERT_NOT_EQUAL(shm_child_generation(f.master.shm, 0), 0);
	fixture_kill(&f, 2000);
	CU_ASSERT_EQUAL(shm_child_generation(f.master.shm, 0), 0);
	CU_ASSERT_FALSE(master_child_is_ready(&f.master, &f.children[0]));
	shm_destroy(&f.master.shm);
}

static void
a_process_that_is_no_child_of_ours_is_reaped_and_forgotten(void)
{
	struct fixture f;
	pid_t stranger;

	fixture_open(&f);
	stranger = fork();
	if (stranger == 0)
		_exit(3);
	(void)await_death(stranger);
	master_reap(&f.master, 1000);
	CU_ASSERT_EQUAL(waitpid(stranger, NULL, WNOHANG), -1);
	CU_ASSERT_EQUAL(errno, ECHILD);
	CU_ASSERT_EQUAL(f.children[0].failures + f.children[1].failures, 0);
	shm_destroy(&f.master.shm);
}

static void
the_watchdog_kills_a_silent_child_and_no_other(void)
{
	struct fixture f;

	fixture_open(&f);
	fixture_fork(&f, 1000, CHILD_READY);
	master_watchdog(&f.master, 11000);
	CU_ASSERT_FALSE(f.children[0].killed);
	shm_heartbeat(f.master.shm, 0, 5000);
	master_watchdog(&f.master, 15000);
	CU_ASSERT_FALSE(f.children[0].killed);
	master_watchdog(&f.master, 15001);
	CU_ASSERT_TRUE(f.children[0].killed);
	CU_ASSERT_EQUAL(await_death(f.children[0].pid), SIGKILL);
	master_reap(&f.master, 15001);
	shm_destroy(&f.master.shm);
}

static void
the_watchdog_kills_a_child_that_never_becomes_ready(void)
{
	struct fixture f;

	fixture_open(&f);
	fixture_fork(&f, 1000, CHILD_STARTING);
	/* It beats, and that is not enough. */
	shm_heartbeat(f.master.shm, 0, 1000 + MASTER_START_MS);
	master_watchdog(&f.master, 1000 + MASTER_START_MS);
	CU_ASSERT_FALSE(f.children[0].killed);
	master_watchdog(&f.master, 1001 + MASTER_START_MS);
	CU_ASSERT_TRUE(f.children[0].killed);
	CU_ASSERT_EQUAL(await_death(f.children[0].pid), SIGKILL);
	master_reap(&f.master, 1001 + MASTER_START_MS);
	shm_destroy(&f.master.shm);
}

static void
no_child_is_blamed_for_the_time_that_the_master_stood_still(void)
{
	struct fixture f;

	fixture_open(&f);
	fixture_fork(&f, 1000, CHILD_READY);
	f.master.watch_from = 3600000; /* the machine was suspended until then */
	master_watchdog(&f.master, 3605000);
	CU_ASSERT_FALSE(f.children[0].killed);
	master_watchdog(&f.master, 3610001);
	CU_ASSERT_TRUE(f.children[0].killed);
	CU_ASSERT_EQUAL(await_death(f.children[0].pid), SIGKILL);
	master_reap(&f.master, 3610001);
	shm_destroy(&f.master.shm);
}

static void
the_loop_sleeps_until_the_next_wanted_respawn(void)
{
	struct fixture f;

	fixture_open(&f);
	f.children[0].respawn_at = 500; /* the listener */
	f.children[1].respawn_at = 700; /* gc */
	CU_ASSERT_EQUAL(master_next_respawn(&f.master, 1000), 1000);
	f.master.phase = MASTER_RECOVERING;
	CU_ASSERT_EQUAL(master_next_respawn(&f.master, 1000), 700);
	f.master.phase = MASTER_SERVING;
	CU_ASSERT_EQUAL(master_next_respawn(&f.master, 1000), 500);
	f.children[0].pid = 1;
	CU_ASSERT_EQUAL(master_next_respawn(&f.master, 1000), 700);
	CU_ASSERT_EQUAL(master_next_respawn(&f.master, 600), 600);
	shm_destroy(&f.master.shm);
}

static void
add(CU_pSuite s, const char *name, void (*test)(void))
{
	CU_add_test(s, name, test);
}

void
suite_master(void)
{
	CU_pSuite s = CU_add_suite("master", NULL, NULL);

	add(s, "reads the forms of an address", reads_the_forms_of_an_address);
	add(s, "refuses what is no address", refuses_what_is_no_address);
	add(s, "all sockets listen on the port that the kernel picked",
	    all_sockets_listen_on_the_port_that_the_kernel_picked);
	add(s, "a second daemon cannot share the port", a_second_daemon_cannot_share_the_port);
	add(s, "an address without host is every address",
	    an_address_without_host_is_every_address);
	add(s, "an address that is not ours is an error", an_address_that_is_not_ours_is_an_error);
	add(s, "respawn delay doubles from 100 ms to 10 s",
	    respawn_delay_doubles_from_100_ms_to_10_s);
	add(s, "overdue is by heartbeat when ready and by age before",
	    overdue_is_by_heartbeat_when_ready_and_by_age_before);
	add(s, "early deaths are throttled, and forgotten after a long life",
	    deaths_before_readiness_are_throttled_and_a_ready_child_is_replaced_at_once);
	add(s, "a reaped child has its generation closed",
	    a_reaped_child_has_its_generation_closed);
	add(s, "a process that is no child of ours is reaped and forgotten",
	    a_process_that_is_no_child_of_ours_is_reaped_and_forgotten);
	add(s, "the watchdog kills a silent child and no other",
	    the_watchdog_kills_a_silent_child_and_no_other);
	add(s, "the watchdog kills a child that never becomes ready",
	    the_watchdog_kills_a_child_that_never_becomes_ready);
	add(s, "no child is blamed for the time that the master stood still",
	    no_child_is_blamed_for_the_time_that_the_master_stood_still);
	add(s, "the loop sleeps until the next wanted respawn",
	    the_loop_sleeps_until_the_next_wanted_respawn);
}
