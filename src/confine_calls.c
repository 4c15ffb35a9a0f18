/* The system calls that a child may make (seccomp, by libseccomp). Two lists: those that it, libc,
 * libcurl, OpenSSL, libevent and LMDB use; and those that only an intruder would. */
#include <errno.h>
#include <seccomp.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

#include "confine.h"

#define CALL(name) SCMP_SYS(name)

static const int allowed[] = {
    /* bytes */
    CALL(read), CALL(write), CALL(readv), CALL(writev), CALL(pread64), CALL(pwrite64), CALL(preadv),
    CALL(pwritev), CALL(preadv2), CALL(pwritev2), CALL(sendfile), CALL(splice), CALL(tee),
    CALL(copy_file_range), CALL(lseek), CALL(close), CALL(close_range), CALL(dup), CALL(dup2),
    CALL(dup3), CALL(fcntl), CALL(ioctl), CALL(fsync), CALL(fdatasync), CALL(sync_file_range), CALL(syncfs),
    CALL(ftruncate), CALL(truncate), CALL(fallocate), CALL(fadvise64), CALL(readahead), CALL(flock),
    /* files */
    CALL(open), CALL(openat), CALL(openat2), CALL(creat), CALL(stat), CALL(fstat), CALL(lstat),
    CALL(newfstatat), CALL(statx), CALL(statfs), CALL(fstatfs), CALL(access), CALL(faccessat),
    CALL(faccessat2), CALL(getdents), CALL(getdents64), CALL(rename), CALL(renameat),
    CALL(renameat2), CALL(unlink), CALL(unlinkat), CALL(mkdir), CALL(mkdirat), CALL(rmdir),
    CALL(link), CALL(linkat), CALL(readlink), CALL(readlinkat), CALL(chmod), CALL(fchmod),
    CALL(fchmodat), CALL(utimensat), CALL(umask), CALL(getcwd), CALL(chdir), CALL(fchdir),
    CALL(memfd_create),
    /* memory */
    CALL(mmap), CALL(munmap), CALL(mremap), CALL(mprotect), CALL(madvise), CALL(brk), CALL(msync),
    CALL(mincore), CALL(mlock), CALL(mlock2), CALL(munlock), CALL(membarrier),
    /* sockets; socket itself by family */
    CALL(socketpair), CALL(bind), CALL(connect), CALL(listen), CALL(accept), CALL(accept4),
    CALL(getsockname), CALL(getpeername), CALL(setsockopt), CALL(getsockopt), CALL(sendto),
    CALL(recvfrom), CALL(sendmsg), CALL(recvmsg), CALL(sendmmsg), CALL(recvmmsg), CALL(shutdown),
    /* waiting */
    CALL(epoll_create), CALL(epoll_create1), CALL(epoll_ctl), CALL(epoll_wait), CALL(epoll_pwait),
    CALL(epoll_pwait2), CALL(poll), CALL(ppoll), CALL(select), CALL(pselect6), CALL(eventfd),
    CALL(eventfd2), CALL(signalfd), CALL(signalfd4), CALL(timerfd_create), CALL(timerfd_settime),
    CALL(timerfd_gettime), CALL(pipe), CALL(pipe2), CALL(futex), CALL(nanosleep),
    CALL(clock_nanosleep), CALL(pause), CALL(restart_syscall),
    /* this process, its threads (clone by its flags) and the prober of an index */
    CALL(getpid), CALL(getppid), CALL(gettid), CALL(getuid), CALL(geteuid), CALL(getgid),
    CALL(getegid), CALL(getgroups), CALL(getresuid), CALL(getresgid), CALL(getpgid), CALL(getpgrp),
    CALL(getsid), CALL(getrlimit), CALL(prlimit64), CALL(setrlimit), CALL(getrusage), CALL(times),
    CALL(sysinfo), CALL(uname), CALL(sched_yield), CALL(sched_getaffinity),
    CALL(sched_getparam), CALL(sched_getscheduler), CALL(sched_get_priority_max),
    CALL(sched_get_priority_min), CALL(set_tid_address), CALL(set_robust_list),
    CALL(get_robust_list), CALL(rseq), CALL(arch_prctl), CALL(prctl), CALL(fork), CALL(vfork),
    CALL(wait4), CALL(waitid), CALL(exit), CALL(exit_group), CALL(kill), CALL(tgkill), CALL(tkill),
    CALL(rt_sigaction), CALL(rt_sigprocmask), CALL(rt_sigreturn), CALL(rt_sigpending),
    CALL(rt_sigsuspend), CALL(rt_sigtimedwait), CALL(rt_sigqueueinfo), CALL(sigaltstack),
    CALL(getrandom), CALL(clock_gettime), CALL(clock_getres), CALL(gettimeofday), CALL(time),
    CALL(getitimer), CALL(setitimer), CALL(alarm), CALL(getcpu), CALL(getpriority),
    CALL(setpriority), CALL(ioprio_get), CALL(ioprio_set), CALL(capget), CALL(seccomp),
};

static const int deadly[] = {
    CALL(execve), CALL(execveat), CALL(ptrace), CALL(process_vm_readv), CALL(process_vm_writev),
    CALL(mount), CALL(umount2), CALL(pivot_root), CALL(chroot), CALL(unshare), CALL(setns),
    CALL(init_module), CALL(finit_module), CALL(delete_module), CALL(kexec_load), CALL(bpf),
    CALL(perf_event_open), CALL(userfaultfd), CALL(keyctl), CALL(add_key), CALL(request_key),
    CALL(setuid), CALL(setgid), CALL(setreuid), CALL(setregid), CALL(setresuid), CALL(setresgid),
    CALL(setgroups), CALL(capset), CALL(reboot), CALL(settimeofday), CALL(clock_settime),
    CALL(swapon), CALL(acct), CALL(personality), CALL(mknod), CALL(mknodat),
};

static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK /* the resolver's */};

enum {
	NEW_NAMESPACES = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
	    CLONE_NEWPID | CLONE_NEWNET,
};

/* 0, or a negative errno, as all of libseccomp. A call that this architecture does not have is no
 * error. */
static int
add_all(scmp_filter_ctx ctx, uint32_t action, const int *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int rc = seccomp_rule_add(ctx, action, calls[i], 0);

		if (rc != 0 && rc != -EDOM && rc != -EFAULT)
			return rc;
	}
	return 0;
}

/* clone3 stays unknown, so that libc falls back on clone: its flags are in memory, where no filter can
 * look. */
static int
add_with_arguments(scmp_filter_ctx ctx)
{
	int rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
	    SCMP_A0(SCMP_CMP_MASKED_EQ, NEW_NAMESPACES, 0));

	for (size_t i = 0; rc == 0 && i < sizeof(families) / sizeof(*families); i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
		    SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i], 0));
	return rc;
}

bool
confine_calls(const char **why)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int rc = ctx != NULL ? 0 : -ENOMEM;

	*why = NULL;
	if (rc == 0)
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree, not a list */
	if (rc == 0)
		rc = add_all(ctx, SCMP_ACT_ALLOW, allowed, sizeof(allowed) / sizeof(*allowed));
	if (rc == 0)
		rc = add_all(ctx, SCMP_ACT_KILL_PROCESS, deadly, sizeof(deadly) / sizeof(*deadly));
	if (rc == 0)
		rc = add_with_arguments(ctx);
	if (rc == 0)
		rc = seccomp_load(ctx);
	if (ctx != NULL)
		seccomp_release(ctx);
	if (rc != 0 && rc != -EINVAL) /* EINVAL: a kernel without filters */
		*why = strerror(-rc);
	return rc == 0;
}
