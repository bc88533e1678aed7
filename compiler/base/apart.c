#include "base/apart.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECONDS = 60 };

static void child(void (*work)(void *context, struct apart *ret), void *context, struct apart *shared, pid_t parent)
{
	struct rlimit none = {0, 0};
	sigset_t all;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	setrlimit(RLIMIT_CORE, &none);
	sigfillset(&all);
	sigprocmask(SIG_UNBLOCK, &all, NULL);
	alarm(SECONDS);
	work(context, shared);
	_exit(0);
}

int apart_run(void (*work)(void *context, struct apart *ret), void *context, uint32_t *ret_count, struct why *why)
{
	int status = 0;
	pid_t parent = getpid();
	struct apart *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return why_set(why, -errno, "no memory for a child: %s", strerror(errno));
	shared->result = -EINVAL;
	pid_t pid = fork();
	if (pid == 0)
		child(work, context, shared, parent);
	int r = pid < 0 ? -errno : 0;
	while (!r && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (r)
		why_set(why, r, "no child for the bundle: %s", strerror(-r));
	else if (WIFSIGNALED(status))
		r = why_set(why, -EINVAL, "the bundle is broken: what reads it did not survive (%s)",
			    strsignal(WTERMSIG(status)));
	else {
		r = shared->result;
		if (r)
			why_set(why, r, "%s", shared->why.text);
		else if (ret_count)
			*ret_count = shared->count;
	}
	munmap(shared, sizeof(*shared));
	return r;
}
