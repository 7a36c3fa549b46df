/* flood CALLS_PER_SECOND SECONDS WORKERS: workers that write to and read from their own pipes, together so many
 * times a second, and exactly CALLS_PER_SECOND * SECONDS times in all.  One that is late hurries after.
 * Prints the seconds it took and the CPU seconds. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TICK_NS 1000000

static void work(long calls, long per_tick)
{
	struct timespec next;
	int ends[2];
	char byte = 'x';

	if (pipe(ends))
		_exit(1);
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (long done = 0; done < calls;) {
		for (long i = 0; i < per_tick && done < calls; i += 2, done += 2)
			if (write(ends[1], &byte, 1) != 1 || read(ends[0], &byte, 1) != 1)
				_exit(1);
		next.tv_nsec += TICK_NS;
		if (next.tv_nsec >= 1000000000) {
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	long rate = atol(argv[1]), seconds = atol(argv[2]), workers = atol(argv[3]);
	struct timespec a, b;
	struct rusage used;
	int status, failed = 0;

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (long i = 0; i < workers; i++)
		if (fork() == 0)
			work(rate * seconds / workers, rate / workers / 1000);
	while (wait(&status) > 0)
		failed |= status;
	clock_gettime(CLOCK_MONOTONIC, &b);
	getrusage(RUSAGE_CHILDREN, &used);
	printf("%.3f %.3f\n", (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9,
	       used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
	return failed != 0;
}
