// hops: spawn=1 wake=2 exit=1
/* A futex in memory that two processes share: each posts only when the other is asleep on it. */
#include "tasks.h"

#include <semaphore.h>
#include <sys/mman.h>

struct turn {
    sem_t semaphore;
    struct task poster;
};

static void post(struct turn *turn, struct task sleeper) {
    until_asleep(sleeper);
    turn->poster = self();
    MUST(sem_post(&turn->semaphore) == 0);
}

static void await(struct turn *turn) {
    MUST(sem_wait(&turn->semaphore) == 0);
    testify_hop("wake", "futex", turn->poster, self(), 0);
}

int main(void) {
    struct turn *turns = (struct turn *)mmap(NULL, 2 * sizeof *turns, PROT_READ | PROT_WRITE,
                                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct task parent = self();
    MUST(turns != MAP_FAILED);
    MUST(sem_init(&turns[0].semaphore, 1, 0) == 0 && sem_init(&turns[1].semaphore, 1, 0) == 0);
    pid_t child = fork_told();
    if (child == 0) {
        await(&turns[0]);
        post(&turns[1], parent);
        _exit(0);
    }
    struct task born = {child, child};
    post(&turns[0], born);
    await(&turns[1]);
    reap_well(child);
    return 0;
}
