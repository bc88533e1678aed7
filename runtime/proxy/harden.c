#define _GNU_SOURCE 1
#include "proxy/harden.h"

#include "proxy/control.h"

#include <errno.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int capabilities_check(struct why *why)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};
	if (syscall(SYS_capget, &header, data))
		return why_set(why, -errno, "capget: %m");
	if (data[0].effective || data[1].effective || data[0].permitted || data[1].permitted)
		return why_set(why, -EPERM, "started with capabilities: it must have none");
	return 0;
}

int harden_process(bool is_root_ok, struct why *why)
{
	struct rlimit none = {0};
	if (!is_root_ok && (!getuid() || !geteuid()))
		return why_set(
			why, -EPERM,
			"started as root: what faces the wire must own nothing of the node; give it a user of its "
			"own");
	int r = is_root_ok ? 0 : capabilities_check(why);
	if (r)
		return r;
	/* Keys must not reach a disk, nor another process of the same user. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) ||
	    setrlimit(RLIMIT_CORE, &none))
		return why_set(why, -errno, "cannot give up privileges: %m");
	if (close_range(PROXY_FD_BROKER + 1, ~0U, 0))
		return why_set(why, -errno, "close_range: %m");
	return 0;
}

/* What honest code of this process never calls: it has been taken over. */
static const int forbidden[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(fork),
	SCMP_SYS(vfork),
	SCMP_SYS(clone),
	SCMP_SYS(clone3),
	SCMP_SYS(ptrace),
	SCMP_SYS(bpf),
	SCMP_SYS(socket),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(setns),
	SCMP_SYS(unshare),
	SCMP_SYS(mount),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(pidfd_getfd),
};
static const int allowed[] = {
	/* connections */
	SCMP_SYS(accept4),
	SCMP_SYS(bind),
	SCMP_SYS(connect),
	SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(sendmsg),
	SCMP_SYS(shutdown),
	SCMP_SYS(close),
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(pread64),
	/* waiting */
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(time),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigprocmask),
	/* memory, randomness, locks of OpenSSL */
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(getrandom),
	SCMP_SYS(futex),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	/* the end */
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(tgkill),
	SCMP_SYS(rt_sigaction),
};

/* Code must not be made: memory is mapped, and its protection changed, without PROT_EXEC only. */
static int memory_allow(scmp_filter_ctx filter)
{
	int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	return r ? r
		 : seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				    SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

static int rules_add(scmp_filter_ctx filter)
{
	int r = memory_allow(filter);
	for (size_t i = 0; !r && i < sizeof(allowed) / sizeof(*allowed); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	for (size_t i = 0; !r && i < sizeof(forbidden) / sizeof(*forbidden); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, forbidden[i], 0);
	return r;
}

/* The rest fails with EPERM and is logged by the kernel: a library that looks for a file (a locale, a time zone, the
 * number of processors) must not cost a node all its connections. */
int harden_seccomp(struct why *why)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!filter)
		return why_set(why, -ENOMEM, "seccomp: out of memory");
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
	int r = rules_add(filter);
	if (!r)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r ? why_set(why, r, "seccomp: %s", strerror(-r)) : 0;
}
