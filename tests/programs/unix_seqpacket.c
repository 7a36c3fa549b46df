// hops: spawn=1 message=4 exit=1
/* A seqpacket server: boundaries kept, in order, on a connection. */
#include "letters.h"
#include "tasks.h"
#include "unix_sockets.h"

int main(void) {
    int listener = listening_socket(SOCK_SEQPACKET, "packets.sock");
    pid_t child = fork_told();
    if (child == 0) {
        int server = connected_socket(SOCK_SEQPACKET, "packets.sock");
        send_letter(server, 70);
        send_letter(server, 71);
        take_letter(server, "unix-seqpacket", 90);
        take_letter(server, "unix-seqpacket", 91);
        _exit(0);
    }
    int client = accept(listener, NULL, NULL);
    MUST(client >= 0);
    take_letter(client, "unix-seqpacket", 70);
    send_letter(client, 90);
    take_letter(client, "unix-seqpacket", 71);
    send_letter(client, 91);
    reap_well(child);
    return 0;
}
