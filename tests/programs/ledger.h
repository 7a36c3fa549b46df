/* Who wrote how much at a time to a stream, in memory that processes share: where the sizes of writes and
 * reads differ, the reader pairs them up here once both are done. */
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

/* Said by the reader: a hop for each write and read that share bytes. */
static inline void testify_ledger(const struct ledger *ledger, const char *by) {
    size_t write_left = 0, read_left = 0;
    for (int w = 0, r = 0;;) {
        if (write_left == 0 && w < ledger->writes)
            write_left = ledger->written[w++];
        if (read_left == 0 && r < ledger->reads)
            read_left = ledger->taken[r++];
        if (write_left == 0 || read_left == 0)
            break;
        size_t both = write_left < read_left ? write_left : read_left;
        testify_message(by, ledger->writer, both);
        write_left -= both;
        read_left -= both;
    }
}

#endif
