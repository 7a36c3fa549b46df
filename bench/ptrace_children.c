/* Starts N children, one after the other, that exec and end at once.  Prints the nanoseconds per child: by the
 * clock, and of its own CPU time. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv)
{
	long children = argc > 1 ? atol(argv[1]) : 100;
	double wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);

	for (long i = 0; i < children; i++) {
		int status;
		pid_t child = fork();
		if (!child) {
			execl("/bin/true", "true", (char *)NULL);
			_exit(1);
		}
		if (child < 0 || waitpid(child, &status, 0) != child || status)
			return 1;
	}
	cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	wall = now(CLOCK_MONOTONIC) - wall;
	printf("%.1f %.1f\n", wall / children, cpu / children);
	return 0;
}
