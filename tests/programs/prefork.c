// hops: spawn=5 message=6 exit=5
/* Two server processes that accept from one listening socket, three clients at once: who serves whom is for
 * the kernel to decide and for the receivers to testify. */
#include "letters.h"
#include "tasks.h"
#include "unix_sockets.h"

enum { SERVERS = 2, CLIENTS = 3, REQUEST = 100, REPLY = 200 };

static void serve(int listener) {
    for (int client; (client = accept(listener, NULL, NULL)) >= 0; close(client)) {
        char letter[LETTER_MAX];
        ssize_t size = recv(client, letter, sizeof letter, 0);
        MUST(size >= REQUEST && size < REQUEST + CLIENTS);
        testify_message("unix", sender_of(letter), (size_t)size);
        send_letter(client, (size_t)size - REQUEST + REPLY);
    }
    _exit(0); /* the parent has shut the listener down */
}

static void ask(size_t client) {
    int server = connected_socket(SOCK_STREAM, "prefork.sock");
    send_letter(server, REQUEST + client);
    take_letter(server, "unix", REPLY + client);
    _exit(0);
}

int main(void) {
    int listener = listening_socket(SOCK_STREAM, "prefork.sock");
    pid_t servers[SERVERS], clients[CLIENTS];
    for (int i = 0; i < SERVERS; i++)
        if ((servers[i] = fork_told()) == 0)
            serve(listener);
    for (size_t i = 0; i < CLIENTS; i++)
        if ((clients[i] = fork_told()) == 0)
            ask(i);
    for (int i = 0; i < CLIENTS; i++)
        reap_well(clients[i]);
    MUST(shutdown(listener, SHUT_RDWR) == 0);
    for (int i = 0; i < SERVERS; i++)
        reap_well(servers[i]);
    return 0;
}
