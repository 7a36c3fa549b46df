// hops: spawn=1 exec=1 message=1 exit=1
/* fork, an exec that fails, then an exec of ourselves under another name; the new image writes home. */
#include "letters.h"
#include "tasks.h"

int main(int argc, char **argv) {
    int home[2];
    if (argc > 1) {
        MUST(strcmp(argv[0], "guest") == 0);
        send_letter(atoi(argv[1]), 48);
        return 0;
    }
    MUST(pipe(home) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        char fd[16], *guest[] = {(char *)"guest", fd, NULL};
        snprintf(fd, sizeof fd, "%d", home[1]);
        MUST(execv("/nonexistent/guest", guest) == -1 && errno == ENOENT);
        exec_self_told(guest);
    }
    take_letter(home[0], "pipe", 48);
    reap_well(child);
    return 0;
}
