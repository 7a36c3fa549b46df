// hops: spawn=1 signal=1 exit=1
/* A signal that is read from a signalfd: sent before or after the read begins, it is the same edge. */
#include "tasks.h"

#include <signal.h>
#include <sys/signalfd.h>

int main(void) {
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR1);
    MUST(sigprocmask(SIG_BLOCK, &wanted, NULL) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        struct signalfd_siginfo info;
        int fd = signalfd(-1, &wanted, SFD_CLOEXEC);
        MUST(fd >= 0 && read(fd, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR1);
        struct task sender = {(pid_t)info.ssi_pid, (pid_t)info.ssi_pid};
        testify_hop("signal", "SIGUSR1", sender, self(), 0);
        _exit(0);
    }
    MUST(kill(child, SIGUSR1) == 0);
    reap_well(child);
    return 0;
}
