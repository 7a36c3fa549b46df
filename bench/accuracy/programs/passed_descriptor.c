/* The front accepts and passes each connection, unread, to one of three processes (SCM_RIGHTS), which reads it. */
#include "server.h"

enum { PROCESSES = 3 };

struct passed {
    struct connection on;
    uint32_t by;
    uint64_t left;
};

union rights {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
};

static void pass(int to, struct connection *on) {
    struct passed passed = {*on, self(), now()};
    struct iovec part = {&passed, sizeof passed};
    union rights rights = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights};
    memcpy(CMSG_DATA(&rights.header), &on->fd, sizeof on->fd);
    MUST(sendmsg(to, &message, 0) == sizeof passed);
    hang_up(on);
}

static void serve(int from) {
    for (;;) {
        struct passed passed;
        struct iovec part = {&passed, sizeof passed};
        union rights rights;
        struct msghdr message = {
            .msg_iov = &part, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights};
        uint64_t before = now();
        if (recvmsg(from, &message, MSG_CMSG_CLOEXEC) != sizeof passed)
            _exit(0);
        uint64_t after = now();
        memcpy(&passed.on.fd, CMSG_DATA(&rights.header), sizeof passed.on.fd);
        uint32_t request = take_request(&passed.on);
        say((struct statement){MESSAGE, request, passed.by, self(), passed.left, before, after, 0, 0, 0});
        tell_store(request);
        send_letter(passed.on.fd, request);
        close(passed.on.fd);
    }
}

int main(void) {
    int ways[PROCESSES][2];
    begin_store();
    for (int i = 0; i < PROCESSES; i++) {
        MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ways[i]) == 0);
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            serve(ways[i][1]);
        }
    }
    int listener = listening();
    for (unsigned next = 0;; next++)
        pass(ways[next % PROCESSES][0], accept_told(listener));
}
