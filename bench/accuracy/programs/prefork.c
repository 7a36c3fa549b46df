/* Processes that accept in turn. */
#include "server.h"

enum { PROCESSES = 4 };

int main(void) {
    int listener = listening();
    for (int i = 1; i < PROCESSES && fork() > 0; i++)
        ;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
        serve_whole(accept_told(listener));
}
