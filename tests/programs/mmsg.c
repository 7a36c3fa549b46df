// hops: spawn=1 message=5 exit=1
/* Several datagrams a call.  Two calls that have several in common are one hop; one sendmmsg that two receives
 * take, and two sends that one recvmmsg takes, are two hops each. */
#include "letters.h"
#include "tasks.h"

enum { MOST = 3 };

struct batch {
    char letters[MOST][64];
    struct iovec bytes[MOST];
    struct mmsghdr messages[MOST];
};

static struct mmsghdr *lay_out(struct batch *batch) {
    memset(batch, 0, sizeof *batch);
    for (size_t i = 0; i < MOST; i++) {
        batch->bytes[i].iov_base = batch->letters[i];
        batch->bytes[i].iov_len = sizeof batch->letters[i];
        batch->messages[i].msg_hdr.msg_iov = &batch->bytes[i];
        batch->messages[i].msg_hdr.msg_iovlen = 1;
    }
    return batch->messages;
}

/* Sends letters of 16, 32, 48 bytes by one call. */
static void send_many(int fd, unsigned count) {
    struct batch batch;
    struct mmsghdr *messages = lay_out(&batch);
    for (size_t i = 0; i < count; i++) {
        batch.bytes[i].iov_len = 16 * (i + 1);
        fill_letter(batch.letters[i], batch.bytes[i].iov_len);
    }
    MUST(sendmmsg(fd, messages, count, 0) == (int)count);
}

int main(void) {
    int ends[2];
    struct batch batch;
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        send_many(ends[1], 3);
        send_many(ends[1], 2);
        send_letter(ends[1], 55);
        send_letter(ends[1], 59);
        _exit(0);
    }
    reap_well(child);
    struct task from = {child, child};
    struct mmsghdr *messages = lay_out(&batch);
    MUST(recvmmsg(ends[0], messages, 3, 0, NULL) == 3);
    MUST(messages[0].msg_len == 16 && messages[1].msg_len == 32 && messages[2].msg_len == 48);
    testify_message("unix-dgram", from, 16 + 32 + 48);

    take_letter(ends[0], "unix-dgram", 16);
    take_letter(ends[0], "unix-dgram", 32);

    messages = lay_out(&batch);
    MUST(recvmmsg(ends[0], messages, 2, 0, NULL) == 2);
    for (size_t i = 0; i < 2; i++)
        testify_message("unix-dgram", sender_of(batch.letters[i]), messages[i].msg_len);
    return 0;
}
