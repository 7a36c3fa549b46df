// hops: spawn=2 message>=3 exit=2
/* Messages bigger than the pipe: one write that blocks until many reads have emptied it, then a writer that
 * does not block and is given back part of what it asked for, again and again. */
#include "ledger.h"
#include "tasks.h"

#include <poll.h>

enum { SIZE = 300000, CHUNK = 50000 };

static char bytes[SIZE];

static void write_at_once(int fd, struct ledger *ledger) {
    ssize_t size = write(fd, bytes, SIZE);
    MUST(size == SIZE);
    note_write(ledger, size);
}

static void write_by_parts(int fd, struct ledger *ledger) {
    MUST(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    for (size_t sent = 0; sent < SIZE;) {
        struct pollfd room = {.fd = fd, .events = POLLOUT};
        MUST(poll(&room, 1, -1) == 1);
        ssize_t size = write(fd, bytes, SIZE - sent);
        note_write(ledger, size);
        sent += (size_t)size;
    }
    MUST(ledger->writes > 1);
}

static void take_all(int fd, struct ledger *ledger) {
    for (size_t got = 0; got < SIZE;) {
        ssize_t size = read(fd, bytes, CHUNK);
        note_read(ledger, size);
        got += (size_t)size;
    }
}

static void pour(void (*write_all)(int, struct ledger *)) {
    int ends[2];
    struct ledger *ledger = new_ledger();
    MUST(pipe(ends) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        write_all(ends[1], ledger);
        _exit(0);
    }
    take_all(ends[0], ledger);
    reap_well(child);
    testify_ledger(ledger, "pipe");
}

int main(void) {
    pour(write_at_once);
    pour(write_by_parts);
    return 0;
}
