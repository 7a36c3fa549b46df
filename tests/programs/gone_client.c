// hops: spawn=2 message=2 exit=2
/* Clients that have connected, sent and died before the server accepts: when they sent, the server's end of
 * the connection was no descriptor of anyone. */
#include "ip_sockets.h"
#include "letters.h"
#include "tasks.h"
#include "unix_sockets.h"

static void take_from_the_dead(int listener, const char *by, size_t size) {
    int client = accept(listener, NULL, NULL);
    MUST(client >= 0);
    take_letter(client, by, size);
}

int main(void) {
    struct sockaddr_in address, own;
    int by_name = listening_socket(SOCK_STREAM, "gone.sock");
    int by_port = loopback_socket(SOCK_STREAM, &address);
    MUST(listen(by_port, 1) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        send_letter(connected_socket(SOCK_STREAM, "gone.sock"), 47);
        _exit(0);
    }
    reap_well(child);
    take_from_the_dead(by_name, "unix", 47);
    child = fork_told();
    if (child == 0) {
        int server = loopback_socket(SOCK_STREAM, &own);
        connect_ip(server, &address);
        send_letter(server, 49);
        _exit(0);
    }
    reap_well(child);
    take_from_the_dead(by_port, "tcp", 49);
    return 0;
}
