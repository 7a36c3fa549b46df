// hops: spawn=1 message=5 exit=1
/* UDP: three datagrams on a connected socket, answered by sendto on one that is not. */
#include "ip_sockets.h"
#include "letters.h"
#include "tasks.h"

static void ask(int fd, const struct sockaddr_in *server) {
    connect_ip(fd, server);
    for (size_t i = 0; i < 3; i++)
        send_letter(fd, 30 + i);
    take_letter(fd, "udp", 50);
    take_letter(fd, "udp", 51);
    _exit(0);
}

static struct sockaddr_in take_from(int fd, size_t size) {
    char letter[LETTER_MAX];
    struct sockaddr_in peer;
    socklen_t peer_size = sizeof peer;
    MUST(recvfrom(fd, letter, sizeof letter, 0, (struct sockaddr *)&peer, &peer_size) == (ssize_t)size);
    testify_message("udp", sender_of(letter), size);
    return peer;
}

int main(void) {
    struct sockaddr_in server_address, client_address, peer;
    int server = loopback_socket(SOCK_DGRAM, &server_address);
    int client = loopback_socket(SOCK_DGRAM, &client_address);
    pid_t child = fork_told();
    if (child == 0)
        ask(client, &server_address);
    for (size_t i = 0; i < 3; i++)
        peer = take_from(server, 30 + i);
    for (size_t size = 50; size < 52; size++) {
        char letter[64];
        fill_letter(letter, size);
        MUST(sendto(server, letter, size, 0, (struct sockaddr *)&peer, sizeof peer) == (ssize_t)size);
    }
    reap_well(child);
    return 0;
}
