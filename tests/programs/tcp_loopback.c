// hops: spawn=1 message=3 exit=1
/* TCP: two requests taken by one receive, then one reply. */
#include "ip_sockets.h"
#include "letters.h"
#include "tasks.h"

enum { FIRST = 40, SECOND = 60, REPLY = 88 };

static void ask(const struct sockaddr_in *server) {
    struct sockaddr_in own;
    char reply[REPLY];
    int fd = loopback_socket(SOCK_STREAM, &own);
    connect_ip(fd, server);
    send_letter(fd, FIRST);
    send_letter(fd, SECOND);
    MUST(recv(fd, reply, REPLY, MSG_WAITALL) == REPLY);
    testify_message("tcp", sender_of(reply), REPLY);
    _exit(0);
}

int main(void) {
    struct sockaddr_in address;
    char requests[FIRST + SECOND];
    int listener = loopback_socket(SOCK_STREAM, &address);
    MUST(listen(listener, 1) == 0);
    pid_t client = fork_told();
    if (client == 0)
        ask(&address);
    int fd = accept(listener, NULL, NULL);
    MUST(fd >= 0 && recv(fd, requests, sizeof requests, MSG_WAITALL) == sizeof requests);
    testify_message("tcp", sender_of(requests), FIRST);
    testify_message("tcp", sender_of(requests + FIRST), SECOND);
    send_letter(fd, REPLY);
    reap_well(client);
    return 0;
}
