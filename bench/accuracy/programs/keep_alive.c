/* An event loop over connections that are kept for many requests; each leads to a letter to the store. */
#include "loop.h"

int main(void) {
    begin_store();
    int listener = listening(), epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll, listener);
    for (;;) {
        int fd = next_ready(epoll);
        if (fd == listener) {
            watch(epoll, remember(accept_told(listener))->fd);
            continue;
        }
        uint32_t request = take_request(connections[fd]);
        if (request) {
            tell_store(request);
            send_letter(fd, request);
        } else {
            hang_up(connections[fd]);
        }
    }
}
