/* An event loop that starts a child for each request and answers when that has ended. */
#include <sys/pidfd.h>

#include "loop.h"

static struct { struct connection *on; uint32_t request; } awaited[MOST_FDS];

static void ended(int epoll, int pidfd) {
    struct connection *on = awaited[pidfd].on;
    MUST(waitid(P_PIDFD, (id_t)pidfd, &(siginfo_t){0}, WEXITED) == 0);
    MUST(epoll_ctl(epoll, EPOLL_CTL_DEL, pidfd, NULL) == 0 && close(pidfd) == 0);
    awaited[pidfd].on = NULL;
    send_letter(on->fd, awaited[pidfd].request);
    hang_up(on);
}

static void begin(int epoll, struct connection *on) {
    uint32_t request = take_request(on);
    MUST(epoll_ctl(epoll, EPOLL_CTL_DEL, on->fd, NULL) == 0);
    if (!request) {
        hang_up(on);
        return;
    }
    int pidfd = pidfd_open(start_hit(request), 0);
    MUST(pidfd >= 0 && pidfd < MOST_FDS);
    awaited[pidfd].on = on;
    awaited[pidfd].request = request;
    watch(epoll, pidfd);
}

int main(void) {
    int listener = listening(), epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll, listener);
    for (;;) {
        int fd = next_ready(epoll);
        if (fd == listener)
            watch(epoll, remember(accept_told(listener))->fd);
        else if (awaited[fd].on)
            ended(epoll, fd);
        else
            begin(epoll, connections[fd]);
    }
}
