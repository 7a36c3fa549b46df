// hops: spawn=5 message=2 wake=1 exit=1
/* A server with a pool: the main thread reads the request, queues it under a lock and wakes one of the
 * workers by a condition variable; that worker replies to the client. */
#include "letters.h"
#include "tasks.h"
#include "unix_sockets.h"

enum { WORKERS = 4, REQUEST = 56, REPLY = 72 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queued = PTHREAD_COND_INITIALIZER;
static struct task pool[WORKERS];
static int idle, job = -1;
static struct task queued_by;

static void *work(void *unused) {
    (void)unused;
    MUST(pthread_mutex_lock(&lock) == 0);
    pool[idle++] = self();
    while (job < 0)
        MUST(pthread_cond_wait(&queued, &lock) == 0);
    int client = job;
    struct task waker = queued_by;
    job = -1;
    MUST(pthread_mutex_unlock(&lock) == 0);
    testify_hop("wake", "futex", waker, self(), 0);
    send_letter(client, REPLY);
    return NULL;
}

static void until_pool_sleeps(void) {
    for (int ready = 0; ready < WORKERS; sched_yield()) {
        MUST(pthread_mutex_lock(&lock) == 0);
        ready = idle;
        MUST(pthread_mutex_unlock(&lock) == 0);
    }
    for (int i = 0; i < WORKERS; i++)
        until_asleep(pool[i]);
}

static void ask(const char *name) {
    int server = connected_socket(SOCK_STREAM, name);
    send_letter(server, REQUEST);
    take_letter(server, "unix", REPLY);
    _exit(0);
}

int main(void) {
    int listener = listening_socket(SOCK_STREAM, "pool.sock");
    for (int i = 0; i < WORKERS; i++)
        MUST(pthread_detach(thread_told(work, NULL)) == 0);
    until_pool_sleeps();
    pid_t client = fork_told();
    if (client == 0)
        ask("pool.sock");
    int connection = accept(listener, NULL, NULL);
    MUST(connection >= 0);
    take_letter(connection, "unix", REQUEST);
    MUST(pthread_mutex_lock(&lock) == 0);
    job = connection;
    queued_by = self();
    MUST(pthread_cond_signal(&queued) == 0);
    MUST(pthread_mutex_unlock(&lock) == 0);
    reap_well(client);
    return 0;
}
