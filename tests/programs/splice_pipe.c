// hops: spawn=2 message=2 exit=2
/* Bytes that pass through a task without being read by it: source -> pipe -> splice -> pipe -> sink. */
#include "letters.h"
#include "tasks.h"

enum { SIZE = 77 };

int main(void) {
    int in[2], out[2];
    char bytes[SIZE];
    struct task middle = self();
    MUST(pipe(in) == 0 && pipe(out) == 0);
    pid_t source = fork_told();
    if (source == 0) {
        send_letter(in[1], SIZE);
        _exit(0);
    }
    pid_t sink = fork_told();
    if (sink == 0) {
        MUST(read(out[0], bytes, SIZE) == SIZE && sender_of(bytes).pid == source);
        testify_message("pipe", middle, SIZE);
        _exit(0);
    }
    MUST(splice(in[0], NULL, out[1], NULL, SIZE, 0) == SIZE);
    struct task sent_by = {source, source};
    testify_message("pipe", sent_by, SIZE);
    reap_well(source);
    reap_well(sink);
    return 0;
}
