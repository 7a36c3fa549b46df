// hops: spawn=2 message=6 wake=1 exit=1
/* A worker that takes its next jobs without ever sleeping: the first wakes it, the others only lie in the
 * queue when it looks there.  No system call shows those hand-overs. */
#include "letters.h"
#include "tasks.h"

enum { JOBS = 3 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queued = PTHREAD_COND_INITIALIZER;
static struct task worker, queued_by;
static int answer_fd, waiting, done, count, looked;

static int take_job(int first) {
    MUST(pthread_mutex_lock(&lock) == 0);
    waiting = first;
    while (first && count == done)
        MUST(pthread_cond_wait(&queued, &lock) == 0);
    int job = count > done ? done++ : -1;
    MUST(pthread_mutex_unlock(&lock) == 0);
    return job;
}

static void *work(void *unused) {
    worker = self();
    int job = take_job(1);
    testify_hop("wake", "futex", queued_by, self(), 0);
    while (job + 1 < JOBS) {
        send_letter(answer_fd, 40 + (size_t)job);
        __atomic_store_n(&looked, job + 1, __ATOMIC_RELEASE);
        while ((job = take_job(0)) < 0)
            sched_yield();
        testify_handover(queued_by);
    }
    send_letter(answer_fd, 40 + (size_t)job);
    return unused;
}

static void put_job(void) {
    MUST(pthread_mutex_lock(&lock) == 0);
    queued_by = self();
    count++;
    MUST(pthread_cond_signal(&queued) == 0);
    MUST(pthread_mutex_unlock(&lock) == 0);
}

static void ask(int requests, int answers) {
    for (size_t i = 0; i < JOBS; i++) {
        send_letter(requests, 20 + i);
        take_letter(answers, "pipe", 40 + i);
    }
    _exit(0);
}

int main(void) {
    int requests[2], answers[2];
    MUST(pipe(requests) == 0 && pipe(answers) == 0);
    answer_fd = answers[1];
    pid_t client = fork_told();
    if (client == 0)
        ask(requests[1], answers[0]);
    pthread_t thread = thread_told(work, NULL);
    for (int idle = 0; !idle; sched_yield()) {
        MUST(pthread_mutex_lock(&lock) == 0);
        idle = waiting;
        MUST(pthread_mutex_unlock(&lock) == 0);
    }
    until_asleep(worker);
    for (int i = 0; i < JOBS; i++) {
        take_letter(requests[0], "pipe", 20 + (size_t)i);
        while (i && __atomic_load_n(&looked, __ATOMIC_ACQUIRE) < i)
            sched_yield();
        put_job();
    }
    MUST(pthread_join(thread, NULL) == 0);
    reap_well(client);
    return 0;
}
