/* What the servers of the accuracy bench share: a listener, letters taken in and answered, and two effects: a
 * child that is run for the request, and a letter to the store, a process of its own.
 */
#ifndef SERVER_H
#define SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "truth.h"

struct connection {
    int fd;
    uint32_t accepted_by, requests;
    uint64_t before, after;
};

static int store = -1;

static uint16_t port;

static inline int listening_untold(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(bind(listener, (void *)&at, size) == 0 && listen(listener, 256) == 0);
    MUST(getsockname(listener, (void *)&at, &size) == 0);
    signal(SIGPIPE, SIG_IGN);
    port = ntohs(at.sin_port);
    return listener;
}

/* From here on clients may come. */
static inline void tell_port(void) {
    __atomic_store_n(&truth->port, port, __ATOMIC_RELEASE);
}

static inline int listening(void) {
    int listener = listening_untold();
    tell_port();
    return listener;
}

/* Call it before `listening`: whoever connects finds it there. */
static inline void begin_store(void) {
    int way[2];
    struct letter letter;
    MUST(pipe(way) == 0);
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
        close(way[1]);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (take_letter(way[0], &letter, EFFECT))
            ;
        _exit(0);
    }
    close(way[0]);
    store = way[1];
}

static inline struct connection *accept_told(int listener) {
    struct connection *made = calloc(1, sizeof *made);
    made->accepted_by = self();
    made->before = now();
    made->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    made->after = now();
    MUST(made->fd >= 0);
    return made;
}

static inline void say_connect(struct connection *on, const struct letter *letter) {
    if (on->requests++ == 0)
        say((struct statement){CONNECT, letter->request, letter->from, on->accepted_by, letter->connected,
                               on->before, on->after, 0, 0, 0});
}

/* The number of the next request on the connection; 0 if there is none. */
static inline uint32_t take_request(struct connection *on) {
    struct letter letter;
    if (!take_letter(on->fd, &letter, 0))
        return 0;
    say_connect(on, &letter);
    return letter.request;
}

static inline void hang_up(struct connection *on) {
    close(on->fd);
    free(on);
}

static inline void tell_store(uint32_t request) {
    send_letter(store, request);
}

/* In a child that is to be replaced by it. */
static inline void become_hit(uint32_t request) {
    char number[20];
    sprintf(number, "%u", request);
    say((struct statement){EXEC, request, self(), self(), 0, 0, 0, EFFECT, 0, 0});
    execl(getenv("CLEW_HIT"), "hit", number, (char *)NULL);
    _exit(127);
}

static inline pid_t start_hit(uint32_t request) {
    uint32_t parent = self();
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0)
        become_hit(request);
    say_spawn(request, parent, (uint32_t)child);
    return child;
}

static inline void run_hit(uint32_t request) {
    MUST(waitpid(start_hit(request), NULL, 0) > 0);
}

/* All that there is to do on one connection that makes one request. */
static inline void serve_whole(struct connection *on) {
    uint32_t request = take_request(on);
    if (request) {
        run_hit(request);
        send_letter(on->fd, request);
    }
    hang_up(on);
}

#endif
