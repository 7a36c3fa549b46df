/* Sockets on 127.0.0.1 with a port of the kernel's choice. */
#ifndef IP_SOCKETS_H
#define IP_SOCKETS_H

#include "testimony.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* Gives the socket and sets *address to where it is bound. */
static inline int loopback_socket(int type, struct sockaddr_in *address) {
    socklen_t size = sizeof *address;
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    memset(address, 0, sizeof *address);
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    MUST(fd >= 0 && bind(fd, (struct sockaddr *)address, size) == 0);
    MUST(getsockname(fd, (struct sockaddr *)address, &size) == 0);
    return fd;
}

static inline void connect_ip(int fd, const struct sockaddr_in *address) {
    MUST(connect(fd, (const struct sockaddr *)address, sizeof *address) == 0);
}

#endif
