// hops: spawn=1 message=2 exit=1
/* A terminal in raw mode: one letter up to the master, one down to the slave. */
#include "letters.h"
#include "tasks.h"

#include <termios.h>

static int open_slave(int master) {
    struct termios raw;
    MUST(grantpt(master) == 0 && unlockpt(master) == 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    MUST(slave >= 0 && tcgetattr(slave, &raw) == 0);
    cfmakeraw(&raw);
    MUST(tcsetattr(slave, TCSANOW, &raw) == 0);
    return slave;
}

int main(void) {
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    MUST(master >= 0);
    int slave = open_slave(master);
    pid_t child = fork_told();
    if (child == 0) {
        send_letter(slave, 26);
        take_letter(slave, "pty", 39);
        _exit(0);
    }
    take_letter(master, "pty", 26);
    send_letter(master, 39);
    reap_well(child);
    return 0;
}
