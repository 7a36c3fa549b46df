// hops: spawn=2 message=3 exit=1
/* A double fork: the middle process is gone before the orphan is told to speak. */
#include "letters.h"
#include "tasks.h"

enum { BORN = 16, GO = 24, DONE = 32 };

static void live_as_orphan(int from_root, int to_root) {
    send_letter(to_root, BORN);
    take_letter(from_root, "pipe", GO);
    send_letter(to_root, DONE);
    _exit(0);
}

int main(void) {
    int down[2], up[2];
    char end;
    MUST(pipe(down) == 0 && pipe(up) == 0);
    pid_t middle = fork_told();
    if (middle == 0) {
        MUST(setsid() > 0);
        close(down[1]);
        if (fork_told() == 0)
            live_as_orphan(down[0], up[1]);
        _exit(0);
    }
    close(up[1]);
    reap_well(middle);
    struct task orphan = take_letter(up[0], "pipe", BORN);
    MUST(orphan.pid != middle);
    send_letter(down[1], GO);
    MUST(take_letter(up[0], "pipe", DONE).pid == orphan.pid);
    MUST(read(up[0], &end, 1) == 0); /* its end is closed by its exit: nothing of us is left running */
    return 0;
}
