/* Unix sockets bound to a name: a path, or an abstract name if it begins with '@'. */
#ifndef UNIX_SOCKETS_H
#define UNIX_SOCKETS_H

#include "testimony.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static inline socklen_t name_socket(struct sockaddr_un *address, const char *name) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    MUST(strlen(name) < sizeof address->sun_path);
    strcpy(address->sun_path, name);
    if (name[0] == '@')
        address->sun_path[0] = 0;
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
}

static inline int bound_socket(int type, const char *name) {
    struct sockaddr_un address;
    socklen_t size = name_socket(&address, name);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    MUST(fd >= 0);
    if (name[0] != '@')
        unlink(name);
    MUST(bind(fd, (struct sockaddr *)&address, size) == 0);
    return fd;
}

static inline int listening_socket(int type, const char *name) {
    int fd = bound_socket(type, name);
    MUST(listen(fd, 16) == 0);
    return fd;
}

static inline void connect_to(int fd, const char *name) {
    struct sockaddr_un address;
    socklen_t size = name_socket(&address, name);
    MUST(connect(fd, (struct sockaddr *)&address, size) == 0);
}

static inline int connected_socket(int type, const char *name) {
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    MUST(fd >= 0);
    connect_to(fd, name);
    return fd;
}

#endif
