/* An event loop that reads all that is there, and only then acts and answers. */
#include "loop.h"

static struct { struct connection *on; uint32_t request; } batch[BATCH];
static int size;

static void take(struct connection *on) {
    uint32_t request = take_request(on);
    if (!request) {
        hang_up(on);
        return;
    }
    batch[size].on = on;
    batch[size++].request = request;
}

static void act(void) {
    for (int i = 0; i < size; i++)
        tell_store(batch[i].request);
    for (int i = 0; i < size; i++)
        send_letter(batch[i].on->fd, batch[i].request);
    size = 0;
}

int main(void) {
    begin_store();
    int listener = listening(), epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll, listener);
    for (;;) {
        int fd = next_ready(epoll);
        if (fd == listener)
            watch(epoll, remember(accept_told(listener))->fd);
        else
            take(connections[fd]);
        if (turn_is_over())
            act();
    }
}
