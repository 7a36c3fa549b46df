/* Messages that carry who sent them, so that the receiver can testify to both ends. */
#ifndef LETTERS_H
#define LETTERS_H

#include "testimony.h"

#include <sys/socket.h>

enum { LETTER_MAX = 4096 };

/* Any bytes from sizeof(struct task) on are a letter: the sender first, then filling. */
static inline void fill_letter(void *letter, size_t size) {
    struct task me = self();
    MUST(size >= sizeof me);
    memset(letter, 'x', size);
    memcpy(letter, &me, sizeof me);
}

static inline struct task sender_of(const void *letter) {
    struct task from;
    memcpy(&from, letter, sizeof from);
    return from;
}

static inline void send_letter(int fd, size_t size) {
    char letter[LETTER_MAX];
    fill_letter(letter, size);
    MUST(write(fd, letter, size) == (ssize_t)size);
}

/* Takes one letter of exactly that size by one read, testifies it, and says who sent it. */
static inline struct task take_letter(int fd, const char *by, size_t size) {
    char letter[LETTER_MAX];
    MUST(read(fd, letter, size) == (ssize_t)size);
    testify_message(by, sender_of(letter), size);
    return sender_of(letter);
}

#endif
