// hops: spawn=1 message=2 exit=1
/* Two named pipes, one each way; both processes open them by name. */
#include "letters.h"
#include "tasks.h"

static int opened(const char *name, int how) {
    int fd = open(name, how | O_CLOEXEC);
    MUST(fd >= 0);
    return fd;
}

int main(void) {
    unlink("down.fifo");
    unlink("up.fifo");
    MUST(mkfifo("down.fifo", 0600) == 0 && mkfifo("up.fifo", 0600) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        take_letter(opened("down.fifo", O_RDONLY), "fifo", 36);
        send_letter(opened("up.fifo", O_WRONLY), 52);
        _exit(0);
    }
    send_letter(opened("down.fifo", O_WRONLY), 36);
    take_letter(opened("up.fifo", O_RDONLY), "fifo", 52);
    reap_well(child);
    return 0;
}
