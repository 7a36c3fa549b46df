// hops: spawn=1 message=6 exit=1
/* Three rounds between parent and child over one socket pair, each letter of its own size. */
#include "letters.h"
#include "tasks.h"

enum { ROUNDS = 3 };

int main(void) {
    int ends[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    pid_t child = fork_told();
    for (size_t round = 0; round < ROUNDS; round++) {
        size_t ping = 16 + 16 * round, pong = 24 + 16 * round;
        if (child != 0) {
            send_letter(ends[0], ping);
            take_letter(ends[0], "unix", pong);
        } else {
            take_letter(ends[1], "unix", ping);
            send_letter(ends[1], pong);
        }
    }
    if (child == 0)
        _exit(0);
    reap_well(child);
    return 0;
}
