/* An event loop over epoll: what is ready is gone through in the order the kernel gives it. */
#ifndef LOOP_H
#define LOOP_H

#include <sys/epoll.h>

#include "server.h"

enum { MOST_FDS = 1024, BATCH = 16 };

static struct connection *connections[MOST_FDS];

static inline struct connection *remember(struct connection *on) {
    MUST(on->fd < MOST_FDS);
    return connections[on->fd] = on;
}

static inline void watch(int epoll, int fd) {
    struct epoll_event event = {EPOLLIN, {.fd = fd}};
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
}

/* The next descriptor of the turn; at its end the loop waits for another turn. */
static inline int next_ready(int epoll) {
    static struct epoll_event ready[BATCH];
    static int count, next;
    if (next == count) {
        next = 0;
        count = epoll_wait(epoll, ready, BATCH, -1);
        MUST(count > 0);
    }
    return ready[next++].data.fd;
}

#endif
