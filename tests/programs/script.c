// hops: spawn=1 exec=1 message=1 exit=1
/* A script whose first line names us: one exec, and the image is the interpreter's. */
#include "letters.h"
#include "tasks.h"

static void write_script(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    MUST(fd >= 0 && dprintf(fd, "#!%s interpreter\n", own_path()) > 0 && close(fd) == 0);
}

int main(int argc, char **argv) {
    int ends[2];
    if (argc > 1) {
        MUST(argc == 3 && strcmp(argv[2], "./script") == 0);
        send_letter(3, 23);
        return 0;
    }
    write_script("./script");
    MUST(pipe(ends) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        char *script[] = {(char *)"script", NULL};
        MUST(dup2(ends[1], 3) == 3);
        setenv("CLEW_EXEC_FROM", "0", 1);
        execv("./script", script);
        MUST(!"execv returned");
    }
    take_letter(ends[0], "pipe", 23);
    reap_well(child);
    return 0;
}
