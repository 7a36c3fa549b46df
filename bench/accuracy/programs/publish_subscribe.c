/* What one client says goes to all subscribers, who have asked for it long ago, on their own connections. */
#include "loop.h"

enum { SUBSCRIBERS = 3 };

static int subscribed[SUBSCRIBERS], count;

static void subscribe(void) {
    struct sockaddr_in at = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}, ""};
    struct letter letter = {.request = UINT32_MAX};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    MUST(connect(fd, (void *)&at, sizeof at) == 0 && write(fd, &letter, sizeof letter) == sizeof letter);
    while (take_letter(fd, &letter, EFFECT))
        ;
    _exit(0);
}

/* Before the port is told, so that no client is there earlier. */
static void take_subscribers(int listener) {
    for (; count < SUBSCRIBERS; count++) {
        struct letter letter;
        int fd = accept(listener, NULL, NULL);
        MUST(fd >= 0 && read(fd, &letter, sizeof letter) == sizeof letter);
        subscribed[count] = fd;
    }
}

int main(void) {
    int listener = listening_untold(), epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < SUBSCRIBERS; i++)
        if (fork() == 0)
            subscribe();
    take_subscribers(listener);
    tell_port();
    watch(epoll, listener);
    for (;;) {
        int fd = next_ready(epoll);
        if (fd == listener) {
            watch(epoll, remember(accept_told(listener))->fd);
            continue;
        }
        uint32_t request = take_request(connections[fd]);
        for (int i = 0; request && i < SUBSCRIBERS; i++)
            send_letter(subscribed[i], request);
        if (request)
            send_letter(fd, request);
        else
            hang_up(connections[fd]);
    }
}
