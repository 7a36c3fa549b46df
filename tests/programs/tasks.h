/* Tasks that testify how they began and ended. */
#ifndef TASKS_H
#define TASKS_H

#include "testimony.h"

#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

static inline pid_t fork_told(void) {
    struct task parent = self();
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
        alarm(30);
        testify_hop("spawn", "fork", parent, self(), 0);
    }
    return child;
}

struct thread_start {
    struct task creator;
    void *(*run)(void *);
    void *given;
};

static inline void *begin_thread(void *given) {
    struct thread_start start = *(struct thread_start *)given;
    free(given);
    testify_hop("spawn", "thread", start.creator, self(), 0);
    return start.run(start.given);
}

static inline pthread_t thread_told(void *(*run)(void *), void *given) {
    struct thread_start *start = (struct thread_start *)malloc(sizeof *start);
    pthread_t thread;
    MUST(start != NULL);
    start->creator = self();
    start->run = run;
    start->given = given;
    MUST(pthread_create(&thread, NULL, begin_thread, start) == 0);
    return thread;
}

static inline void testify_exit(pid_t child) {
    struct task gone = {child, child};
    testify_hop("exit", "wait", gone, self(), 0);
}

/* Waits for the child and gives its wait status. */
static inline int reap(pid_t child) {
    int status;
    MUST(waitpid(child, &status, 0) == child);
    testify_exit(child);
    return status;
}

static inline void reap_well(pid_t child) {
    MUST(reap(child) == 0);
}

/* Executes this program's own file again; the new image testifies that it was. */
static inline void exec_self_told(char *const argv[]) {
    char caller[16];
    snprintf(caller, sizeof caller, "%d", self().tid);
    setenv("CLEW_EXEC_FROM", caller, 1);
    execv(own_path(), argv);
    MUST(!"execv returned");
}

/* True once the task sleeps.  The name in /proc's stat may hold anything: the state is after the last ')'. */
static inline int is_asleep(struct task task) {
    char path[64], stat[512], *name_end;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", task.pid, task.tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    MUST(fd >= 0);
    ssize_t size = read(fd, stat, sizeof stat - 1);
    close(fd);
    MUST(size > 0);
    stat[size] = 0;
    name_end = strrchr(stat, ')');
    MUST(name_end != NULL);
    return name_end[2] == 'S';
}

static inline void until_asleep(struct task task) {
    while (!is_asleep(task))
        sched_yield();
}

#endif
