// build: -O2 -fomit-frame-pointer
// variants: stripped
// hops: spawn=1 message=1 exit=1
/* A message sent under twelve static functions without frame pointers: only .eh_frame can unwind it, and
 * without .symtab (the stripped copy) nothing names them. */
#include "letters.h"
#include "tasks.h"

#define STEP(n, next) \
    __attribute__((noipa)) static int step_##n(int fd) { \
        volatile char frame[n * 24]; \
        frame[n] = (char)n; \
        return step_##next(fd) + frame[n]; \
    }

__attribute__((noipa)) static int step_12(int fd) {
    char letter[48];
    fill_letter(letter, sizeof letter);
    MUST(write(fd, letter, sizeof letter) == sizeof letter);
    return 12;
}

STEP(11, 12)
STEP(10, 11)
STEP(9, 10)
STEP(8, 9)
STEP(7, 8)
STEP(6, 7)
STEP(5, 6)
STEP(4, 5)
STEP(3, 4)
STEP(2, 3)
STEP(1, 2)

static const char *const chain[] = {"step_12", "step_11", "step_10", "step_9", "step_8", "step_7", "step_6",
                                    "step_5",  "step_4",  "step_3",  "step_2", "step_1", "main",   NULL};

int main(void) {
    int ends[2];
    MUST(pipe(ends) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        take_letter(ends[0], "pipe", 48);
        _exit(0);
    }
    MUST(step_1(ends[1]) == 78);
    testify_frames(self(), chain);
    reap_well(child);
    return 0;
}
