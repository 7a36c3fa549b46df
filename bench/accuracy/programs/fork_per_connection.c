/* A forked child for each connection, which reads the request itself. */
#include "server.h"

int main(void) {
    int listener = listening();
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        struct connection *on = accept_told(listener);
        uint32_t parent = self();
        pid_t child = fork();
        MUST(child >= 0);
        if (child == 0) {
            signal(SIGCHLD, SIG_DFL);
            uint32_t request = take_request(on);
            say_spawn(request, parent, self());
            run_hit(request);
            send_letter(on->fd, request);
            _exit(0);
        }
        hang_up(on);
    }
}
