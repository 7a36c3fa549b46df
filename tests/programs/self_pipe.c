// hops: spawn=1 message=1 exit=1
/* A task that writes to itself, as event loops do: that is no hop.  The pipe's last bytes go to a child. */
#include "letters.h"
#include "tasks.h"

int main(void) {
    int ends[2];
    char letter[LETTER_MAX];
    MUST(pipe(ends) == 0);
    for (size_t size = 8; size < 12; size++) {
        send_letter(ends[1], size);
        MUST(read(ends[0], letter, sizeof letter) == (ssize_t)size && sender_of(letter).tid == self().tid);
    }
    pid_t child = fork_told();
    if (child == 0) {
        take_letter(ends[0], "pipe", 12);
        _exit(0);
    }
    send_letter(ends[1], 12);
    reap_well(child);
    return 0;
}
