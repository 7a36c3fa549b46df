// hops: spawn=100 message=100 exit=100
/* A hundred short lives: each says one thing and is gone, one after another. */
#include "letters.h"
#include "tasks.h"

int main(void) {
    int ends[2];
    MUST(pipe(ends) == 0);
    for (size_t i = 0; i < 100; i++) {
        pid_t child = fork_told();
        if (child == 0) {
            send_letter(ends[1], 10 + i);
            _exit(0);
        }
        take_letter(ends[0], "pipe", 10 + i);
        reap_well(child);
    }
    return 0;
}
