// hops: spawn=4 exit=4
/* Four ways to learn that a child is gone, and with which status. */
#include "tasks.h"

#include <sys/resource.h>

static pid_t child_that_exits(int status) {
    pid_t child = fork_told();
    if (child == 0)
        _exit(status);
    return child;
}

int main(void) {
    int status;
    siginfo_t info;
    struct rusage usage;

    MUST(WEXITSTATUS(reap(child_that_exits(7))) == 7);

    pid_t child = child_that_exits(8);
    MUST(wait4(child, &status, 0, &usage) == child && WEXITSTATUS(status) == 8);
    testify_exit(child);

    child = child_that_exits(9);
    MUST(waitid(P_ALL, 0, &info, WEXITED) == 0 && info.si_pid == child && info.si_status == 9);
    testify_exit(child);

    child = child_that_exits(10);
    int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    MUST(pidfd >= 0 && waitid((idtype_t)3 /* P_PIDFD */, (id_t)pidfd, &info, WEXITED) == 0);
    MUST(info.si_pid == child && info.si_status == 10);
    testify_exit(child);
    return 0;
}
