/* One system call in a hundred is IPC (its own pipe), the others look at files: what a recorder that stops only
 * what it wants costs a program that mostly does something else.  Prints the nanoseconds per system call: by the
 * clock, and of its own CPU time. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static int look_at_files(void)
{
	struct stat st;
	for (int i = 0; i < 33; i++) {
		int fd = open("/etc/passwd", O_RDONLY);
		if (fd < 0 || fstat(fd, &st) || close(fd))
			return -1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? atol(argv[1]) : 1000;
	int ends[2];
	char byte = 'x';

	if (pipe(ends))
		return 1;
	double wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
	for (long i = 0; i < rounds; i++)
		if (write(ends[1], &byte, 1) != 1 || look_at_files() || read(ends[0], &byte, 1) != 1 || look_at_files())
			return 1;
	cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	wall = now(CLOCK_MONOTONIC) - wall;
	printf("%.1f %.1f\n", wall / (200.0 * rounds), cpu / (200.0 * rounds));
	return 0;
}
