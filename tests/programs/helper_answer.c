// hops: spawn=3 exec=1 message=4 exit=2
/* A server that, in the middle of a request, starts a helper and waits for its answer before it replies:
 * the inner wait is part of the work and not a new one. */
#include "letters.h"
#include "tasks.h"

enum { REQUEST = 55, QUESTION = 66, ANSWER = 77, REPLY = 88 };

static int client_ends[2];

__attribute__((noinline)) static void ask_helper(void) {
    int down[2], up[2];
    char *helper[] = {(char *)"helper", (char *)"answer", NULL};
    MUST(pipe2(down, O_CLOEXEC) == 0 && pipe2(up, O_CLOEXEC) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        MUST(dup2(down[0], 0) == 0 && dup2(up[1], 1) == 1);
        exec_self_told(helper);
    }
    send_letter(down[1], QUESTION);
    take_letter(up[0], "pipe", ANSWER);
    reap_well(child);
}

static void *serve(void *unused) {
    take_letter(client_ends[1], "unix", REQUEST);
    ask_helper();
    send_letter(client_ends[1], REPLY);
    return unused;
}

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) {
        take_letter(0, "pipe", QUESTION);
        send_letter(1, ANSWER);
        return 0;
    }
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, client_ends) == 0);
    pthread_t server = thread_told(serve, NULL);
    pid_t client = fork_told();
    if (client == 0) {
        send_letter(client_ends[0], REQUEST);
        take_letter(client_ends[0], "unix", REPLY);
        _exit(0);
    }
    MUST(pthread_join(server, NULL) == 0);
    reap_well(client);
    return 0;
}
