/* An epoll loop that asks an upstream, a second process, over one of three kept connections for each request, and
 * acts on what it answers.  Requests wait in memory for a connection that is free.
 */
#include "loop.h"

enum { UPSTREAMS = 3, WAITING = 1024 };

static struct { struct connection *on; uint32_t request; } waiting[WAITING], asked[UPSTREAMS];
static unsigned first, last;
static int upstreams[UPSTREAMS][2];

static void be_upstream(void) {
    struct letter letter;
    int epoll = epoll_create1(0);
    for (int i = 0; i < UPSTREAMS; i++)
        watch(epoll, upstreams[i][1]);
    for (;;) {
        int fd = next_ready(epoll);
        if (!take_letter(fd, &letter, 0))
            _exit(0);
        tell_store(letter.request);
        send_letter(fd, letter.request);
    }
}

static void ask_upstream(void) {
    for (int i = 0; i < UPSTREAMS && first != last; i++) {
        if (asked[i].on)
            continue;
        asked[i] = waiting[first++ % WAITING];
        send_letter(upstreams[i][0], asked[i].request);
    }
}

static void act_on(int i) {
    struct letter letter;
    struct connection *on = asked[i].on;
    MUST(take_letter(upstreams[i][0], &letter, 0) && letter.request == asked[i].request);
    asked[i].on = NULL;
    run_hit(letter.request);
    send_letter(on->fd, letter.request);
    hang_up(on);
    ask_upstream();
}

static void take_from(struct connection *on, int epoll) {
    uint32_t request = take_request(on);
    MUST(epoll_ctl(epoll, EPOLL_CTL_DEL, on->fd, NULL) == 0);
    if (!request) {
        hang_up(on);
        return;
    }
    waiting[last % WAITING].on = on;
    waiting[last++ % WAITING].request = request;
    ask_upstream();
}

static int upstream_of(int fd) {
    int i = 0;
    while (i < UPSTREAMS && upstreams[i][0] != fd)
        i++;
    return i;
}

int main(void) {
    for (int i = 0; i < UPSTREAMS; i++)
        MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, upstreams[i]) == 0);
    begin_store();
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        be_upstream();
    }
    int listener = listening(), epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll, listener);
    for (int i = 0; i < UPSTREAMS; i++)
        watch(epoll, upstreams[i][0]);
    for (;;) {
        int fd = next_ready(epoll), i = upstream_of(fd);
        if (fd == listener)
            watch(epoll, remember(accept_told(listener))->fd);
        else if (i < UPSTREAMS)
            act_on(i);
        else
            take_from(connections[fd], epoll);
    }
}
