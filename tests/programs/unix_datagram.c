// hops: spawn=1 message=4 exit=1
/* Unix datagrams between two bound names: connected one way, by sendto the other. */
#include "letters.h"
#include "tasks.h"
#include "unix_sockets.h"

static void ask(int fd) {
    connect_to(fd, "server.sock");
    send_letter(fd, 33);
    send_letter(fd, 34);
    take_letter(fd, "unix-dgram", 65);
    take_letter(fd, "unix-dgram", 66);
    _exit(0);
}

static void answer(int fd, size_t size) {
    struct sockaddr_un client;
    socklen_t name_size = name_socket(&client, "client.sock");
    char letter[LETTER_MAX];
    fill_letter(letter, size);
    MUST(sendto(fd, letter, size, 0, (struct sockaddr *)&client, name_size) == (ssize_t)size);
}

int main(void) {
    int server = bound_socket(SOCK_DGRAM, "server.sock"), client = bound_socket(SOCK_DGRAM, "client.sock");
    pid_t child = fork_told();
    if (child == 0)
        ask(client);
    take_letter(server, "unix-dgram", 33);
    take_letter(server, "unix-dgram", 34);
    answer(server, 65);
    answer(server, 66);
    reap_well(child);
    return 0;
}
