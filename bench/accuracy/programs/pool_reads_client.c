/* The main thread accepts; one of four workers gets the connection from a queue and reads the request. */
#include "queue.h"

static void *work(void *unused) {
    for (;;) {
        struct job job = take_job();
        uint32_t request = take_request(job.on);
        if (request) {
            say_handover(request, job.by, job.left);
            run_hit(request);
            send_letter(job.on->fd, request);
        }
        hang_up(job.on);
    }
    return unused;
}

int main(void) {
    int listener = listening();
    begin_workers(4, work);
    for (;;)
        put_job(accept_told(listener), 0);
}
