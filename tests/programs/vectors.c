// hops: spawn=1 message=2 exit=1
/* Several buffers a call: writev against readv on a pipe, sendmsg against recvmsg on a socket. */
#include "letters.h"
#include "tasks.h"

#include <sys/uio.h>

enum { DOWN = 90, UP = 130 };

static void cut(struct iovec *parts, int count, char *bytes, size_t size) {
    for (int i = 0; i < count; i++) {
        parts[i].iov_base = bytes + size / (size_t)count * (size_t)i;
        parts[i].iov_len = size / (size_t)count;
    }
    parts[count - 1].iov_len += size % (size_t)count;
}

int main(void) {
    int ends[2], sockets[2];
    char bytes[UP];
    struct iovec parts[3];
    struct msghdr message = {.msg_iov = parts};
    MUST(pipe(ends) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        cut(parts, 2, bytes, DOWN);
        MUST(readv(ends[0], parts, 2) == DOWN);
        testify_message("pipe", sender_of(bytes), DOWN);
        fill_letter(bytes, UP);
        cut(parts, 3, bytes, UP);
        message.msg_iovlen = 3;
        MUST(sendmsg(sockets[1], &message, 0) == UP);
        _exit(0);
    }
    fill_letter(bytes, DOWN);
    cut(parts, 3, bytes, DOWN);
    MUST(writev(ends[1], parts, 3) == DOWN);
    cut(parts, 2, bytes, UP);
    message.msg_iovlen = 2;
    MUST(recvmsg(sockets[0], &message, 0) == UP);
    testify_message("unix", sender_of(bytes), UP);
    reap_well(child);
    return 0;
}
