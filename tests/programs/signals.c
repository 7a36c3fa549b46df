// hops: spawn=2 message=1 signal=3 exit=1
/* kill to a process with a handler, kill back to one that waits for it, and a signal to one thread. */
#include "letters.h"
#include "tasks.h"

#include <signal.h>

static volatile pid_t handled_from;

static void handle(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    handled_from = info->si_pid;
}

static void testify_signal(const char *name, pid_t from) {
    struct task sender = {from, from};
    testify_hop("signal", name, sender, self(), 0);
}

static void live_as_child(int ready) {
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    sigset_t none;
    MUST(sigemptyset(&none) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
    send_letter(ready, 16);
    while (!handled_from)
        sigsuspend(&none);
    testify_signal("SIGUSR1", handled_from);
    MUST(kill(handled_from, SIGUSR2) == 0);
    _exit(0);
}

static void await(int number, const char *name) {
    sigset_t wanted;
    siginfo_t info;
    sigemptyset(&wanted);
    sigaddset(&wanted, number);
    MUST(sigwaitinfo(&wanted, &info) == number);
    testify_signal(name, info.si_pid);
}

static void *await_as_thread(void *unused) {
    await(SIGRTMIN, "SIGRTMIN");
    return unused;
}

int main(void) {
    int ready[2];
    sigset_t all;
    MUST(sigfillset(&all) == 0 && sigprocmask(SIG_SETMASK, &all, NULL) == 0 && pipe(ready) == 0);
    pid_t child = fork_told();
    if (child == 0)
        live_as_child(ready[1]);
    take_letter(ready[0], "pipe", 16);
    MUST(kill(child, SIGUSR1) == 0);
    await(SIGUSR2, "SIGUSR2");
    reap_well(child);
    pthread_t thread = thread_told(await_as_thread, NULL);
    MUST(pthread_kill(thread, SIGRTMIN) == 0 && pthread_join(thread, NULL) == 0);
    return 0;
}
