/* A coroutine for each connection, with a stack of its own (ucontext): it asks an upstream and is switched away from
 * until the answer is there.
 */
#include <ucontext.h>

#include "loop.h"

enum { STACK = 64 * 1024, CHANNELS = 256 };

struct coroutine {
    ucontext_t at;
    struct connection *on;
    int done;
    char stack[STACK];
};

static ucontext_t loop;
static struct coroutine *current, *waiting_on[MOST_FDS];
static int free_channels[CHANNELS], free_count, epoll;

static void until_ready(int fd) {
    waiting_on[fd] = current;
    MUST(swapcontext(&current->at, &loop) == 0);
    waiting_on[fd] = NULL;
}

static void serve(void) {
    struct connection *on = current->on;
    struct letter letter;
    uint32_t request = take_request(on);
    MUST(epoll_ctl(epoll, EPOLL_CTL_DEL, on->fd, NULL) == 0);
    if (request) {
        MUST(free_count > 0);
        int channel = free_channels[--free_count];
        send_letter(channel, request);
        until_ready(channel);
        MUST(take_letter(channel, &letter, 0) && letter.request == request);
        free_channels[free_count++] = channel;
        tell_store(request);
        send_letter(on->fd, request);
    }
    hang_up(on);
    current->done = 1;
}

static void go_on(struct coroutine *with) {
    current = with;
    MUST(swapcontext(&loop, &with->at) == 0);
    if (with->done)
        free(with);
}

static void begin(struct connection *on) {
    struct coroutine *made = calloc(1, sizeof *made);
    MUST(made && getcontext(&made->at) == 0);
    made->on = on;
    made->at.uc_stack.ss_sp = made->stack;
    made->at.uc_stack.ss_size = STACK;
    made->at.uc_link = &loop;
    makecontext(&made->at, serve, 0);
    go_on(made);
}

static void be_upstream(int ends[][2]) {
    struct letter letter;
    int waits = epoll_create1(0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 0; i < CHANNELS; i++)
        watch(waits, ends[i][1]);
    for (;;) {
        int fd = next_ready(waits);
        if (!take_letter(fd, &letter, 0))
            _exit(0);
        send_letter(fd, letter.request);
    }
}

int main(void) {
    static int ends[CHANNELS][2];
    begin_store();
    for (int i = 0; i < CHANNELS; i++)
        MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends[i]) == 0);
    if (fork() == 0)
        be_upstream(ends);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < CHANNELS; i++) {
        close(ends[i][1]);
        watch(epoll, free_channels[free_count++] = ends[i][0]);
    }
    int listener = listening();
    watch(epoll, listener);
    for (;;) {
        int fd = next_ready(epoll);
        if (fd == listener)
            watch(epoll, remember(accept_told(listener))->fd);
        else if (waiting_on[fd])
            go_on(waiting_on[fd]);
        else
            begin(connections[fd]);
    }
}
