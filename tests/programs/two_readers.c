// hops: spawn=2 message=2 exit=2
/* One write that two processes share out between them: whoever reads first takes the first half. */
#include "letters.h"
#include "tasks.h"

enum { HALF = 30 };

int main(void) {
    int ends[2];
    char both[2 * HALF];
    pid_t readers[2];
    MUST(pipe(ends) == 0);
    for (int i = 0; i < 2; i++) {
        readers[i] = fork_told();
        if (readers[i] == 0) {
            take_letter(ends[0], "pipe", HALF);
            _exit(0);
        }
    }
    fill_letter(both, HALF);
    fill_letter(both + HALF, HALF);
    MUST(write(ends[1], both, sizeof both) == sizeof both);
    reap_well(readers[0]);
    reap_well(readers[1]);
    return 0;
}
