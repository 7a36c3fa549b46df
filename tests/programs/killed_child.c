// hops: spawn=1 message=1 signal=1 exit=1
/* A child killed while it waits: it can testify to nothing after, so its parent does. */
#include "letters.h"
#include "tasks.h"

#include <signal.h>

int main(void) {
    int ready[2], never[2];
    char byte;
    MUST(pipe(ready) == 0 && pipe(never) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        send_letter(ready[1], 19);
        MUST(read(never[0], &byte, 1) == 1);
        _exit(1);
    }
    take_letter(ready[0], "pipe", 19);
    MUST(kill(child, SIGKILL) == 0);
    int status = reap(child);
    MUST(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    struct task killed = {child, child};
    testify_hop("signal", "SIGKILL", self(), killed, 0);
    return 0;
}
