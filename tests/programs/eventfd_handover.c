// hops: spawn=1 message=4
/* Two threads take turns by two eventfds; the 64-bit value tells who added it. */
#include "tasks.h"

#include <stdint.h>
#include <sys/eventfd.h>

enum { ROUNDS = 2 };

static int to_worker, to_main;

static void add(int fd) {
    struct task me = self();
    uint64_t value = (uint64_t)me.pid << 32 | (uint32_t)me.tid;
    MUST(write(fd, &value, sizeof value) == sizeof value);
}

static void take(int fd) {
    uint64_t value;
    MUST(read(fd, &value, sizeof value) == sizeof value);
    struct task from = {(pid_t)(value >> 32), (pid_t)(value & 0xffffffff)};
    testify_message("eventfd", from, sizeof value);
}

static void *work(void *unused) {
    for (int round = 0; round < ROUNDS; round++) {
        take(to_worker);
        add(to_main);
    }
    return unused;
}

int main(void) {
    to_worker = eventfd(0, EFD_CLOEXEC);
    to_main = eventfd(0, EFD_CLOEXEC);
    MUST(to_worker >= 0 && to_main >= 0);
    pthread_t worker = thread_told(work, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        add(to_worker);
        take(to_main);
    }
    MUST(pthread_join(worker, NULL) == 0);
    return 0;
}
