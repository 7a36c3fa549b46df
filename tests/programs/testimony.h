/* What a program of this folder says it did, for tests to compare with what clew saw.
 *
 * A testimony is lines of tab-separated fields, appended to the file that CLEW_TESTIMONY names (standard
 * error without it).  It is a regular file, which clew does not record, so testifying changes no flow.
 *
 *   hop KIND BY FROM_PID FROM_TID TO_PID TO_TID BYTES EXE   one edge between two tasks (EXE: exec only, else -)
 *   handover FROM_PID FROM_TID TO_PID TO_TID                work passed in memory: no system call shows it
 *   frames PID TID FUNCTION...                              innermost first, when PID TID sent its last message
 *   name PID TID COMM / argv PID ARG...                     what the task is called from here on
 *   creds PID TID UID GID CAPEFF                            what it may do from here on
 *
 * One hop is one sending call seen by one receiving call: two reads of one write are two hops, one read of
 * two writes too.  BYTES is what those two calls have in common (0 where nothing is carried).
 */
#ifndef TESTIMONY_H
#define TESTIMONY_H

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* Kept across exec, so that a program may testify after it has lost the right to open the file. */
enum { TESTIMONY_FD = 500, TESTIMONY_LINE = 4096 };

struct task {
    pid_t pid, tid;
};

#define MUST(did) \
    do { \
        if (!(did)) \
            give_up(#did, __FILE__, __LINE__); \
    } while (0)

static inline void give_up(const char *did, const char *file, int line) {
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, did, strerror(errno));
    _exit(1);
}

static inline struct task self(void) {
    struct task me = {getpid(), (pid_t)syscall(SYS_gettid)};
    return me;
}

/* Appends one field, with the bytes that would break a line or a terminal as \xNN. */
static inline void add_field(char *line, const char *bytes) {
    size_t end = strlen(line);
    line[end++] = '\t';
    for (; *bytes && end < TESTIMONY_LINE - 8; bytes++) {
        unsigned char c = (unsigned char)*bytes;
        if (isgraph(c) && c < 128 && c != '\\')
            line[end++] = (char)c;
        else
            end += (size_t)sprintf(line + end, "\\x%02x", c);
    }
    line[end] = 0;
}

static inline void add_task(char *line, struct task task) {
    sprintf(line + strlen(line), "\t%d\t%d", task.pid, task.tid);
}

/* One write() a line: appends of several tasks never mix. */
static inline void testify(char *line) {
    size_t size = strlen(line);
    line[size++] = '\n';
    MUST(write(TESTIMONY_FD, line, size) == (ssize_t)size);
}

static inline void testify_edge(const char *kind, const char *by, struct task from, struct task to, size_t bytes,
                                const char *exe) {
    char line[TESTIMONY_LINE];
    snprintf(line, sizeof line, "hop\t%s\t%s", kind, by);
    add_task(line, from);
    add_task(line, to);
    sprintf(line + strlen(line), "\t%zu", bytes);
    add_field(line, exe);
    testify(line);
}

static inline void testify_hop(const char *kind, const char *by, struct task from, struct task to, size_t bytes) {
    testify_edge(kind, by, from, to, bytes, "-");
}

static inline void testify_message(const char *by, struct task from, size_t bytes) {
    testify_hop("message", by, from, self(), bytes);
}

static inline void testify_handover(struct task from) {
    char line[TESTIMONY_LINE] = "handover";
    add_task(line, from);
    add_task(line, self());
    testify(line);
}

/* The NULL-terminated functions, innermost first. */
static inline void testify_frames(struct task task, const char *const functions[]) {
    char line[TESTIMONY_LINE] = "frames";
    add_task(line, task);
    for (; *functions; functions++)
        add_field(line, *functions);
    testify(line);
}

static inline const char *own_path(void) {
    static char path[1024];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
    MUST(size > 0);
    return path;
}

/* CLEW_EXEC_FROM, set by whoever executed this image: the thread that called execve, 0 for the one we are. */
static inline void testify_own_exec(void) {
    const char *caller = getenv("CLEW_EXEC_FROM");
    if (!caller)
        return;
    struct task to = self(), from = to;
    if (atoi(caller))
        from.tid = atoi(caller);
    unsetenv("CLEW_EXEC_FROM");
    testify_edge("exec", "exec", from, to, 0, own_path());
}

__attribute__((constructor)) static void begin_testimony(void) {
    const char *path = getenv("CLEW_TESTIMONY");
    struct stat known;
    alarm(30); /* nothing here takes a second: a program that hangs must not outlive its test */
    if (fstat(TESTIMONY_FD, &known) != 0) {
        int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : 2;
        MUST(fd >= 0 && dup2(fd, TESTIMONY_FD) == TESTIMONY_FD);
        if (fd != 2)
            close(fd);
    }
    testify_own_exec();
}

#endif
