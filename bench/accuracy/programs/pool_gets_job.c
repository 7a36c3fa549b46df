/* The main thread reads the requests; one of many workers, of whom most sleep, gets each from a queue. */
#include "queue.h"

static void *work(void *unused) {
    for (;;) {
        struct job job = take_job();
        say_handover(job.request, job.by, job.left);
        run_hit(job.request);
        send_letter(job.on->fd, job.request);
        hang_up(job.on);
    }
    return unused;
}

int main(void) {
    int listener = listening();
    begin_workers(96, work);
    for (;;) {
        struct connection *on = accept_told(listener);
        uint32_t request = take_request(on);
        if (request)
            put_job(on, request);
        else
            hang_up(on);
    }
}
