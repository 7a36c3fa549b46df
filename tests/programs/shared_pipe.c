// hops: spawn=3 message=3 exit=3
/* What three processes wrote, taken by one read: many in, and each of them is a cause. */
#include "letters.h"
#include "tasks.h"

int main(void) {
    static const size_t sizes[] = {17, 27, 37};
    int ends[2];
    char letters[17 + 27 + 37], *next = letters;
    MUST(pipe(ends) == 0);
    for (int i = 0; i < 3; i++) {
        pid_t child = fork_told();
        if (child == 0) {
            send_letter(ends[1], sizes[i]);
            _exit(0);
        }
        reap_well(child);
    }
    MUST(read(ends[0], letters, sizeof letters) == sizeof letters);
    for (int i = 0; i < 3; next += sizes[i++])
        testify_message("pipe", sender_of(next), sizes[i]);
    return 0;
}
