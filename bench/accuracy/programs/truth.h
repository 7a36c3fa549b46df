/* What the programs of the accuracy bench say they did, and for which request.
 *
 * They say it by writing to a file that all of them have mapped, without a system call: clew does not see it.
 * Every message is a letter that carries the number of its request, so whoever takes it in knows what it works
 * for.  Times are CLOCK_MONOTONIC's, as the recording's: a call is known by its task and when it was made.
 */
#ifndef TRUTH_H
#define TRUTH_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MUST(did) \
    do { \
        if (!(did)) \
            give_up(#did, __FILE__, __LINE__); \
    } while (0)

enum statement_kind { CLIENT = 1, CONNECT, MESSAGE, SPAWN, EXEC, HANDOVER };
enum { EFFECT = 1 }; /* flags: the request was made for this */

/* bench/accuracy/truth.py reads it. */
struct statement {
    uint32_t kind, request, from, to;
    uint64_t left;          /* just before the call of `from` that made it was entered */
    uint64_t before, after; /* around the call of `to` that took it in; CLIENT: from when to when */
    uint32_t flags, unused;
    uint64_t unused_too;
};

struct truth {
    uint64_t count, port, unused[6];
    struct statement said[];
};

enum { MOST = 200000 };

struct letter {
    uint32_t request, from;
    uint64_t left;
    uint64_t connected; /* when the client connected */
    char body[40];
};

static struct truth *truth;

static inline void give_up(const char *did, const char *file, int line) {
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, did, strerror(errno));
    _exit(1);
}

static inline uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static inline uint32_t self(void) {
    return (uint32_t)syscall(SYS_gettid);
}

static inline void say(struct statement statement) {
    uint64_t slot = __atomic_fetch_add(&truth->count, 1, __ATOMIC_RELAXED);
    MUST(slot < MOST);
    truth->said[slot] = statement;
}

static inline void say_message(const struct letter *letter, uint64_t before, uint32_t flags) {
    say((struct statement){MESSAGE, letter->request, letter->from, self(), letter->left, before, now(), flags, 0, 0});
}

/* Work for a request passed in memory: `left` and `before` are when it was put there and taken. */
static inline void say_handover(uint32_t request, uint32_t from, uint64_t left) {
    if (from != self())
        say((struct statement){HANDOVER, request, from, self(), left, now(), now(), 0, 0, 0});
}

static inline void say_spawn(uint32_t request, uint32_t from, uint32_t to) {
    say((struct statement){SPAWN, request, from, to, 0, 0, 0, 0, 0, 0});
}

static inline void send_letter_flags(int fd, uint32_t request, uint64_t connected) {
    struct letter letter = {request, self(), now(), connected, "for you"};
    MUST(write(fd, &letter, sizeof letter) == sizeof letter);
}

static inline void send_letter(int fd, uint32_t request) {
    send_letter_flags(fd, request, 0);
}

/* 0 at the end of the stream. */
static inline int take_letter(int fd, struct letter *letter, uint32_t flags) {
    size_t have = 0;
    while (have < sizeof *letter) {
        uint64_t before = now();
        ssize_t got = read(fd, (char *)letter + have, sizeof *letter - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return 0;
        have += (size_t)got;
        if (have == sizeof *letter)
            say_message(letter, before, flags | (letter->body[0] == '!' ? EFFECT : 0));
    }
    return 1;
}

__attribute__((constructor)) static void open_truth(void) {
    const char *path = getenv("CLEW_TRUTH");
    int fd = open(path ? path : "", O_RDWR | O_CLOEXEC);
    MUST(fd >= 0);
    truth = mmap(NULL, sizeof *truth + MOST * sizeof truth->said[0], PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    MUST(truth != MAP_FAILED);
    close(fd);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

#endif
