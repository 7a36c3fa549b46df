/* A thread for each connection, by which several requests come before the first is answered; as many as are there are
 * read at once, worked on and answered one after the other.
 */
#include "server.h"

enum { AT_ONCE = 8 };

static void *serve(void *given) {
    struct connection *on = given;
    struct letter letters[AT_ONCE];
    for (;;) {
        uint64_t before = now();
        ssize_t got = read(on->fd, letters, sizeof letters);
        if (got <= 0)
            break;
        MUST(got % (ssize_t)sizeof letters[0] == 0);
        size_t count = (size_t)got / sizeof letters[0];
        for (size_t i = 0; i < count; i++) {
            say_message(&letters[i], before, 0);
            say_connect(on, &letters[i]);
        }
        for (size_t i = 0; i < count; i++) {
            tell_store(letters[i].request);
            send_letter(on->fd, letters[i].request);
        }
    }
    hang_up(on);
    return NULL;
}

int main(void) {
    begin_store();
    int listener = listening();
    for (;;) {
        pthread_t thread;
        MUST(pthread_create(&thread, NULL, serve, accept_told(listener)) == 0 && pthread_detach(thread) == 0);
    }
}
