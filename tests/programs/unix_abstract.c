// hops: spawn=1 message=2 exit=1
/* A stream server in the abstract namespace: no file has its name. */
#include "letters.h"
#include "tasks.h"
#include "unix_sockets.h"

int main(void) {
    char name[64];
    snprintf(name, sizeof name, "@clew-program-%d", getpid());
    int listener = listening_socket(SOCK_STREAM, name);
    pid_t child = fork_told();
    if (child == 0) {
        int server = connected_socket(SOCK_STREAM, name);
        send_letter(server, 57);
        take_letter(server, "unix", 75);
        _exit(0);
    }
    int client = accept(listener, NULL, NULL);
    MUST(client >= 0);
    take_letter(client, "unix", 57);
    send_letter(client, 75);
    reap_well(child);
    return 0;
}
