// hops: spawn=1 message=2 exit=1
/* A datagram longer than the receiver's buffer: the rest of it is lost, the next one is whole. */
#include "letters.h"
#include "tasks.h"

int main(void) {
    int ends[2];
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        send_letter(ends[1], 120);
        send_letter(ends[1], 60);
        _exit(0);
    }
    take_letter(ends[0], "unix-dgram", 45);
    take_letter(ends[0], "unix-dgram", 60);
    reap_well(child);
    return 0;
}
