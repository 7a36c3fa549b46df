// hops: spawn=1 message=2 exit=1
/* A file sent to a socket by sendfile, and the answer. */
#include "letters.h"
#include "tasks.h"

#include <sys/sendfile.h>

enum { SIZE = 999 };

int main(void) {
    int sockets[2], file = open("page", O_RDWR | O_CREAT | O_TRUNC, 0600);
    off_t start = 0;
    MUST(file >= 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    send_letter(file, SIZE);
    pid_t child = fork_told();
    if (child == 0) {
        take_letter(sockets[1], "unix", SIZE);
        send_letter(sockets[1], 21);
        _exit(0);
    }
    MUST(sendfile(sockets[0], file, &start, SIZE) == SIZE);
    take_letter(sockets[0], "unix", 21);
    reap_well(child);
    return 0;
}
