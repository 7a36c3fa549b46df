/* Two workers that are hardly ever idle: most jobs are taken without anybody having been woken for them.  The main thread
 * reads the requests and gives the answers, when a worker says by an eventfd that there are some.
 */
#include <sys/eventfd.h>

#include "loop.h"
#include "queue.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct job done[JOBS];
static unsigned done_count;
static int there_are_some;

static void *work(void *unused) {
    for (;;) {
        struct job job = take_job();
        say_handover(job.request, job.by, job.left);
        tell_store(job.request);
        MUST(pthread_mutex_lock(&lock) == 0);
        done[done_count] = job;
        done[done_count].by = self();
        done[done_count++].left = now();
        MUST(pthread_mutex_unlock(&lock) == 0);
        MUST(eventfd_write(there_are_some, 1) == 0);
    }
    return unused;
}

static void answer(void) {
    eventfd_t ignored;
    MUST(eventfd_read(there_are_some, &ignored) == 0 && pthread_mutex_lock(&lock) == 0);
    while (done_count) {
        struct job job = done[--done_count];
        say_handover(job.request, job.by, job.left);
        send_letter(job.on->fd, job.request);
    }
    MUST(pthread_mutex_unlock(&lock) == 0);
}

int main(void) {
    begin_store();
    there_are_some = eventfd(0, EFD_CLOEXEC);
    int listener = listening(), epoll = epoll_create1(EPOLL_CLOEXEC);
    begin_workers(2, work);
    watch(epoll, listener);
    watch(epoll, there_are_some);
    for (;;) {
        int fd = next_ready(epoll);
        uint32_t request;
        if (fd == listener)
            watch(epoll, remember(accept_told(listener))->fd);
        else if (fd == there_are_some)
            answer();
        else if ((request = take_request(connections[fd])))
            put_job(connections[fd], request);
        else
            hang_up(connections[fd]);
    }
}
