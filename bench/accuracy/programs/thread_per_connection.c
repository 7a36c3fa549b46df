/* A thread for each connection, which reads the request itself and runs a child for it. */
#include "server.h"

struct begun {
    struct connection *on;
    uint32_t by;
    uint64_t left;
};

static void *serve(void *given) {
    struct begun *begun = given;
    uint32_t request = take_request(begun->on);
    if (request) {
        say_spawn(request, begun->by, self());
        run_hit(request);
        send_letter(begun->on->fd, request);
    }
    hang_up(begun->on);
    free(begun);
    return NULL;
}

int main(void) {
    int listener = listening();
    for (;;) {
        struct begun *begun = calloc(1, sizeof *begun);
        pthread_t thread;
        *begun = (struct begun){accept_told(listener), self(), now()};
        MUST(pthread_create(&thread, NULL, serve, begun) == 0 && pthread_detach(thread) == 0);
    }
}
