/* clients IN_FLIGHT REQUESTS EACH AHEAD: so many requests, each client making EACH of them on one connection, with
 * AHEAD of these sent before their answers are there.  Whenever a client ends, the next begins.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "truth.h"

enum { MOST_AHEAD = 64 };

static void ask(uint32_t first, uint32_t each, uint32_t ahead) {
    struct sockaddr_in at = {AF_INET, htons((uint16_t)truth->port), {htonl(INADDR_LOOPBACK)}, ""};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    uint64_t began[MOST_AHEAD], connected = now();
    struct letter answer;
    MUST(connect(fd, (void *)&at, sizeof at) == 0);
    for (uint32_t asked = 0, taken = 0; taken < each; taken++) {
        for (; asked < each && asked < taken + ahead; asked++) {
            began[asked % MOST_AHEAD] = asked ? now() : connected;
            send_letter_flags(fd, first + asked, connected);
            say((struct statement){CLIENT, first + asked, self(), 0, 0, began[asked % MOST_AHEAD], now(), 0, 0, 0});
        }
        MUST(take_letter(fd, &answer, 0) && answer.request == first + taken);
    }
    close(fd);
    _exit(0);
}

int main(int argc, char **argv) {
    MUST(argc == 5);
    uint32_t in_flight = (uint32_t)atoi(argv[1]), requests = (uint32_t)atoi(argv[2]);
    uint32_t each = (uint32_t)atoi(argv[3]), ahead = (uint32_t)atoi(argv[4]);
    uint32_t running = 0;
    for (uint32_t next = 1; next <= requests || running;) {
        if (next <= requests && running < in_flight) {
            pid_t child = fork();
            MUST(child >= 0);
            if (child == 0)
                ask(next, each, ahead);
            next += each;
            running++;
            continue;
        }
        int status;
        MUST(wait(&status) > 0 && status == 0);
        running--;
    }
    return 0;
}
