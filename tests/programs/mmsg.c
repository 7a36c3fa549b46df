// hops: spawn=1 message=3 exit=1
/* Three datagrams by one sendmmsg, taken by one recvmmsg: each is a message of its own. */
#include "letters.h"
#include "tasks.h"

enum { COUNT = 3 };

struct batch {
    char letters[COUNT][64];
    struct iovec bytes[COUNT];
    struct mmsghdr messages[COUNT];
};

static void lay_out(struct batch *batch) {
    memset(batch, 0, sizeof *batch);
    for (size_t i = 0; i < COUNT; i++) {
        batch->bytes[i].iov_base = batch->letters[i];
        batch->bytes[i].iov_len = sizeof batch->letters[i];
        batch->messages[i].msg_hdr.msg_iov = &batch->bytes[i];
        batch->messages[i].msg_hdr.msg_iovlen = 1;
    }
}

int main(void) {
    int ends[2];
    struct batch batch;
    lay_out(&batch);
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        for (size_t i = 0; i < COUNT; i++) {
            batch.bytes[i].iov_len = 16 * (i + 1);
            fill_letter(batch.letters[i], batch.bytes[i].iov_len);
        }
        MUST(sendmmsg(ends[1], batch.messages, COUNT, 0) == COUNT);
        _exit(0);
    }
    reap_well(child);
    MUST(recvmmsg(ends[0], batch.messages, COUNT, 0, NULL) == COUNT);
    for (size_t i = 0; i < COUNT; i++)
        testify_message("unix-dgram", sender_of(batch.letters[i]), batch.messages[i].msg_len);
    return 0;
}
