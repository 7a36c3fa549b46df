/* Who wrote how much at a time to a stream, in memory that processes share: where the sizes of writes and
 * reads differ, the reader says here what it was once both are done. */
#ifndef LEDGER_H
#define LEDGER_H

#include "testimony.h"

#include <sys/mman.h>

enum { LEDGER_MAX = 4096 };

struct ledger {
    struct task writer;
    int writes, reads;
    size_t written[LEDGER_MAX], taken[LEDGER_MAX];
};

static inline struct ledger *new_ledger(void) {
    void *shared = mmap(NULL, sizeof(struct ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(shared != MAP_FAILED);
    return (struct ledger *)shared;
}

static inline void note_write(struct ledger *ledger, ssize_t size) {
    MUST(size > 0 && ledger->writes < LEDGER_MAX);
    ledger->writer = self();
    ledger->written[ledger->writes++] = (size_t)size;
}

static inline void note_read(struct ledger *ledger, ssize_t size) {
    MUST(size > 0 && ledger->reads < LEDGER_MAX);
    ledger->taken[ledger->reads++] = (size_t)size;
}

/* Said by the one reader, which has read everything: a hop for each write, in however many reads it came. */
static inline void testify_ledger(const struct ledger *ledger, const char *by) {
    size_t unread = 0;
    for (int r = 0; r < ledger->reads; r++)
        unread += ledger->taken[r];
    for (int w = 0; w < ledger->writes; w++) {
        MUST(ledger->written[w] <= unread);
        unread -= ledger->written[w];
        testify_message(by, ledger->writer, ledger->written[w]);
    }
    MUST(unread == 0);
}

#endif
