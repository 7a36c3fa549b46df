// hops: spawn=3 message=9 exit=3
/* An event loop with three clients ready in one epoll_wait: each has connected and sent its request before
 * it says so over a pipe, and the server waits for all three to have said so. */
#include "letters.h"
#include "tasks.h"
#include "unix_sockets.h"

#include <sys/epoll.h>

enum { CLIENTS = 3, READY = 8 };

static void ask(size_t client, int ready) {
    int server = connected_socket(SOCK_STREAM, "epoll.sock");
    send_letter(server, 100 + client);
    send_letter(ready, READY);
    take_letter(server, "unix", 200 + client);
    _exit(0);
}

static void watch_client(int epoll, int connection) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = connection};
    MUST(connection >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, connection, &event) == 0);
}

static void answer(int connection) {
    char letter[LETTER_MAX];
    ssize_t size = recv(connection, letter, sizeof letter, 0);
    MUST(size >= 100 && size < 100 + CLIENTS);
    testify_message("unix", sender_of(letter), (size_t)size);
    send_letter(connection, (size_t)size + 100);
}

int main(void) {
    int listener = listening_socket(SOCK_STREAM, "epoll.sock"), epoll = epoll_create1(0), ready[2];
    struct epoll_event events[CLIENTS];
    pid_t clients[CLIENTS];
    MUST(pipe(ready) == 0);
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i] = fork_told();
        if (clients[i] == 0)
            ask(i, ready[1]);
    }
    for (int i = 0; i < CLIENTS; i++)
        take_letter(ready[0], "pipe", READY);
    for (int i = 0; i < CLIENTS; i++)
        watch_client(epoll, accept(listener, NULL, NULL));
    MUST(epoll_wait(epoll, events, CLIENTS, -1) == CLIENTS);
    for (int i = 0; i < CLIENTS; i++)
        answer(events[i].data.fd);
    for (int i = 0; i < CLIENTS; i++)
        reap_well(clients[i]);
    return 0;
}
