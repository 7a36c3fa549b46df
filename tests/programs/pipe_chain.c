// hops: spawn=3 exec=3 message=2 exit=3
/* a | b | c, as a shell runs it: fork, dup2, exec; each stage knows standard input and output only. */
#include "letters.h"
#include "tasks.h"

static int play(const char *role) {
    if (role[0] == 'a') {
        send_letter(1, 24);
    } else if (role[0] == 'b') {
        take_letter(0, "pipe", 24);
        send_letter(1, 40);
    } else {
        take_letter(0, "pipe", 40);
    }
    return 0;
}

static pid_t start(char *role, int input, int output) {
    pid_t child = fork_told();
    if (child == 0) {
        char *argv[] = {(char *)"pipe_chain", role, NULL};
        MUST(dup2(input, 0) == 0 && dup2(output, 1) == 1);
        exec_self_told(argv);
    }
    return child;
}

int main(int argc, char **argv) {
    int ab[2], bc[2];
    char roles[3][2] = {"a", "b", "c"};
    if (argc > 1)
        return play(argv[1]);
    MUST(pipe2(ab, O_CLOEXEC) == 0 && pipe2(bc, O_CLOEXEC) == 0);
    pid_t a = start(roles[0], 0, ab[1]);
    pid_t b = start(roles[1], ab[0], bc[1]);
    pid_t c = start(roles[2], bc[0], 1);
    reap_well(a);
    reap_well(b);
    reap_well(c);
    return 0;
}
