// hops: spawn=2 message=4 exit=2
/* Reads whose sizes are not those of the writes, and looks (MSG_PEEK) that take nothing.  Each sender is
 * gone before the first read, so that all its bytes are there. */
#include "ledger.h"
#include "letters.h"
#include "tasks.h"

static pid_t write_fifty_twice(int fd, struct ledger *ledger) {
    pid_t child = fork_told();
    if (child == 0) {
        char bytes[50] = {0};
        note_write(ledger, write(fd, bytes, sizeof bytes));
        note_write(ledger, write(fd, bytes, sizeof bytes));
        _exit(0);
    }
    return child;
}

static void take(int fd, size_t size, struct ledger *ledger) {
    char bytes[100];
    ssize_t taken = read(fd, bytes, size);
    MUST(taken == (ssize_t)size);
    note_read(ledger, taken);
}

static void look(int fd, size_t size) {
    char bytes[100];
    MUST(recv(fd, bytes, size, MSG_PEEK) == (ssize_t)size);
}

int main(void) {
    int ends[2], sockets[2];
    struct ledger *by_pipe = new_ledger(), *by_socket = new_ledger();
    MUST(pipe(ends) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);

    reap_well(write_fifty_twice(ends[1], by_pipe));
    take(ends[0], 75, by_pipe);
    take(ends[0], 25, by_pipe);
    testify_ledger(by_pipe, "pipe"); /* the second in two reads */

    reap_well(write_fifty_twice(sockets[1], by_socket));
    look(sockets[0], 50);
    look(sockets[0], 10);
    take(sockets[0], 50, by_socket);
    look(sockets[0], 50);
    take(sockets[0], 50, by_socket);
    testify_ledger(by_socket, "unix");
    return 0;
}
