// hops: spawn=1 message=2 exit=1
/* A pipe made after the fork: the child gets its writing end by SCM_RIGHTS and uses it. */
#include "letters.h"
#include "tasks.h"

enum { CARRIER = 12, ANSWER = 44 };

union rights {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
};

static struct msghdr frame_message(struct iovec *bytes, union rights *rights) {
    struct msghdr message = {.msg_iov = bytes, .msg_iovlen = 1};
    message.msg_control = rights;
    message.msg_controllen = sizeof *rights;
    return message;
}

static void pass(int socket, int fd) {
    char letter[CARRIER];
    union rights rights;
    struct iovec bytes = {letter, sizeof letter};
    struct msghdr message = frame_message(&bytes, &rights);
    fill_letter(letter, sizeof letter);
    rights.header.cmsg_level = SOL_SOCKET;
    rights.header.cmsg_type = SCM_RIGHTS;
    rights.header.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&rights.header), &fd, sizeof fd);
    MUST(sendmsg(socket, &message, 0) == CARRIER);
}

static int take_passed(int socket) {
    char letter[CARRIER];
    union rights rights;
    struct iovec bytes = {letter, sizeof letter};
    struct msghdr message = frame_message(&bytes, &rights);
    int fd;
    MUST(recvmsg(socket, &message, 0) == CARRIER);
    testify_message("unix", sender_of(letter), CARRIER);
    MUST(rights.header.cmsg_type == SCM_RIGHTS);
    memcpy(&fd, CMSG_DATA(&rights.header), sizeof fd);
    return fd;
}

int main(void) {
    int sockets[2], pipe_ends[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        send_letter(take_passed(sockets[1]), ANSWER);
        _exit(0);
    }
    MUST(pipe(pipe_ends) == 0);
    pass(sockets[0], pipe_ends[1]);
    take_letter(pipe_ends[0], "pipe", ANSWER);
    reap_well(child);
    return 0;
}
