// hops: spawn=3 message=3 exit=3
/* One descriptor number after another names three pipes in turn: a channel is the kernel's object, never a
 * number. */
#include "letters.h"
#include "tasks.h"

static void exchange(size_t size) {
    int ends[2];
    static int first[2];
    MUST(pipe(ends) == 0);
    if (first[1] == 0)
        memcpy(first, ends, sizeof first);
    MUST(memcmp(first, ends, sizeof first) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        take_letter(ends[0], "pipe", size);
        _exit(0);
    }
    send_letter(ends[1], size);
    close(ends[0]);
    close(ends[1]);
    reap_well(child);
}

int main(void) {
    exchange(81);
    exchange(82);
    exchange(83);
    return 0;
}
