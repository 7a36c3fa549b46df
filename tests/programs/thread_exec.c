// hops: spawn=1 exec=1 message=1
/* A thread that is not the leader calls execve: the kernel ends the others and gives it the leader's id. */
#include "letters.h"
#include "tasks.h"

static int ends[2];

static void *become_second(void *unused) {
    char input[16], *argv[] = {(char *)"second", input, NULL};
    snprintf(input, sizeof input, "%d", ends[0]);
    send_letter(ends[1], 64);
    exec_self_told(argv);
    return unused;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        MUST(self().tid == self().pid);
        MUST(take_letter(atoi(argv[1]), "pipe", 64).tid != self().tid);
        return 0;
    }
    MUST(pipe(ends) == 0);
    pthread_join(thread_told(become_second, NULL), NULL);
    MUST(!"joined a thread that has left by exec");
    return 1;
}
