// hops: spawn=1 exec=1 message=2 exit=1
/* posix_spawn with file actions: the child's ends are its standard input and output. */
#include "letters.h"
#include "tasks.h"

#include <spawn.h>

int main(int argc, char **argv) {
    int down[2], up[2];
    pid_t child;
    posix_spawn_file_actions_t ends;
    char *guest[] = {(char *)"guest", (char *)"echo", NULL};
    if (argc > 1) {
        take_letter(0, "pipe", 20);
        send_letter(1, 28);
        return argv[2] != NULL;
    }
    MUST(pipe2(down, O_CLOEXEC) == 0 && pipe2(up, O_CLOEXEC) == 0);
    MUST(posix_spawn_file_actions_init(&ends) == 0);
    MUST(posix_spawn_file_actions_adddup2(&ends, down[0], 0) == 0);
    MUST(posix_spawn_file_actions_adddup2(&ends, up[1], 1) == 0);
    setenv("CLEW_EXEC_FROM", "0", 1);
    MUST(posix_spawn(&child, own_path(), &ends, NULL, guest, environ) == 0);
    struct task born = {child, child};
    testify_hop("spawn", "posix_spawn", self(), born, 0);
    send_letter(down[1], 20);
    take_letter(up[0], "pipe", 28);
    reap_well(child);
    return 0;
}
