// Runs PROGRAM... in turn, COUNT times in all, as fast as one core gives; prints how many were seen to stop.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int count = atoi(argv[1]), programs = argc - 2, failed = 0;
    long stopped[64] = {0};
    pid_t *children = calloc(count, sizeof(*children));
    for (int i = 0; i < count; i++) {
        char *path = argv[2 + i % programs];
        pid_t child = vfork();
        if (child == 0) {
            execl(path, path, (char *)NULL);
            _exit(127);
        }
        children[i] = child;
        int status;
        if (waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status))
            stopped[i % programs]++;
        else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            failed++;
        else
            children[i] = 0;
    }
    for (int i = 0; i < count; i++) {
        int status;
        while (children[i] && waitpid(children[i], &status, 0) == children[i] && !WIFEXITED(status))
            ;
    }
    for (int i = 0; i < programs; i++)
        printf("%ld ", stopped[i]);
    printf("%d\n", failed);
    return 0;
}
