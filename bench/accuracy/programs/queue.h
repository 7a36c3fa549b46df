/* A queue of jobs under a mutex and a condition variable: how nearly every pool of threads gets its work. */
#ifndef QUEUE_H
#define QUEUE_H

#include <pthread.h>

#include "server.h"

struct job {
    struct connection *on;
    uint32_t request, by;
    uint64_t left;
};

enum { JOBS = 1024 };

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t there;
    struct job *jobs[JOBS];
    unsigned put, taken;
};

static struct queue queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .there = PTHREAD_COND_INITIALIZER};

/* These two have names of their own, for --queue. */
__attribute__((noinline, noclone)) void push(struct job *job) {
    MUST(pthread_mutex_lock(&queue.lock) == 0);
    MUST(queue.put - queue.taken < JOBS);
    queue.jobs[queue.put++ % JOBS] = job;
    MUST(pthread_cond_signal(&queue.there) == 0);
    MUST(pthread_mutex_unlock(&queue.lock) == 0);
}

__attribute__((noinline, noclone)) struct job *pop(void) {
    MUST(pthread_mutex_lock(&queue.lock) == 0);
    while (queue.put == queue.taken)
        MUST(pthread_cond_wait(&queue.there, &queue.lock) == 0);
    struct job *job = queue.jobs[queue.taken++ % JOBS];
    MUST(pthread_mutex_unlock(&queue.lock) == 0);
    return job;
}

static inline void put_job(struct connection *on, uint32_t request) {
    struct job *job = malloc(sizeof *job);
    *job = (struct job){on, request, self(), now()};
    push(job);
}

/* Where a job was, another will soon be. */
static inline struct job take_job(void) {
    struct job *job = pop(), taken = *job;
    free(job);
    return taken;
}

static inline void begin_workers(int count, void *(*work)(void *)) {
    pthread_t thread;
    for (int i = 0; i < count; i++)
        MUST(pthread_create(&thread, NULL, work, NULL) == 0 && pthread_detach(thread) == 0);
}

#endif
