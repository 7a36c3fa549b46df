/* One process, one request after the other. */
#include "server.h"

int main(void) {
    int listener = listening();
    for (;;)
        serve_whole(accept_told(listener));
}
