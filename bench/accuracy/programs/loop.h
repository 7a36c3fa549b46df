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

static struct epoll_event ready[BATCH];
static int ready_count, next_of_ready;

/* The next descriptor of the turn; at its end the loop waits for another turn. */
static inline int next_ready(int epoll) {
    if (next_of_ready == ready_count) {
        next_of_ready = 0;
        ready_count = epoll_wait(epoll, ready, BATCH, -1);
        MUST(ready_count > 0);
    }
    return ready[next_of_ready++].data.fd;
}

static inline int turn_is_over(void) {
    return next_of_ready == ready_count;
}

#endif
