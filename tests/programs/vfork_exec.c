// hops: spawn=1 exec=1 message=1 exit=1
/* vfork: the parent is not scheduled until its child has a memory of its own. */
#include "letters.h"
#include "tasks.h"

int main(int argc, char **argv) {
    int home[2];
    char fd[16], *guest[] = {(char *)"guest", fd, NULL};
    if (argc > 1) {
        send_letter(atoi(argv[1]), 32);
        return 0;
    }
    MUST(pipe(home) == 0);
    snprintf(fd, sizeof fd, "%d", home[1]);
    setenv("CLEW_EXEC_FROM", "0", 1);
    const char *path = own_path();
    pid_t child = vfork();
    if (child == 0) {
        execv(path, guest);
        _exit(1);
    }
    struct task born = {child, child};
    MUST(child > 0);
    testify_hop("spawn", "vfork", self(), born, 0);
    take_letter(home[0], "pipe", 32);
    reap_well(child);
    return 0;
}
