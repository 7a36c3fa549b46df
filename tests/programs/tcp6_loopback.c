// needs: ipv6
// hops: spawn=2 message=4 exit=2
/* TCP over ::1, and an IPv4 client of a server that listens on both. */
#include "ip_sockets.h"
#include "letters.h"
#include "tasks.h"

static int listen_on(struct in6_addr host, struct sockaddr_in6 *address) {
    socklen_t size = sizeof *address;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(address, 0, sizeof *address);
    address->sin6_family = AF_INET6;
    address->sin6_addr = host;
    MUST(fd >= 0 && bind(fd, (struct sockaddr *)address, size) == 0 && listen(fd, 1) == 0);
    MUST(getsockname(fd, (struct sockaddr *)address, &size) == 0);
    return fd;
}

static void ask(int fd, size_t size) {
    send_letter(fd, size);
    take_letter(fd, "tcp", size + 1);
    _exit(0);
}

static void answer(int listener, size_t size, pid_t client) {
    int fd = accept(listener, NULL, NULL);
    MUST(fd >= 0);
    take_letter(fd, "tcp", size);
    send_letter(fd, size + 1);
    reap_well(client);
}

int main(void) {
    struct sockaddr_in6 six;
    struct sockaddr_in four, own;
    int listener = listen_on(in6addr_loopback, &six);
    pid_t client = fork_told();
    if (client == 0) {
        int fd = socket(AF_INET6, SOCK_STREAM, 0);
        MUST(fd >= 0 && connect(fd, (struct sockaddr *)&six, sizeof six) == 0);
        ask(fd, 60);
    }
    answer(listener, 60, client);

    listener = listen_on(in6addr_any, &six);
    client = fork_told();
    if (client == 0) {
        int fd = loopback_socket(SOCK_STREAM, &own);
        four = own;
        four.sin_port = six.sin6_port;
        connect_ip(fd, &four);
        ask(fd, 64);
    }
    answer(listener, 64, client);
    return 0;
}
