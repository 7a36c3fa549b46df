// Calls a chain of functions that keep no frame pointer, then waits in read(2): once, or in two threads.
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noipa))

static inline __attribute__((always_inline)) long take_byte(int fd)
{
	char byte = 0;
	long got = read(fd, &byte, 1); /* waits here */
	return got + byte;
}

NOINLINE long innermost(int fd)
{
	return take_byte(fd) + 1;
}

NOINLINE static long hidden(int fd, long depth)
{
	char pad[200];
	memset(pad, (int)depth, sizeof pad);
	long sum = depth > 0 ? hidden(fd, depth - 1) : innermost(fd);
	return sum + pad[depth];
}

NOINLINE long outermost(int fd)
{
	return hidden(fd, 3) + 1;
}

static void *thread_body(void *fd)
{
	return (void *)outermost((int)(long)fd);
}

int main(int argc, char **argv)
{
	pthread_t thread;
	int threaded = argc > 1 && !strcmp(argv[1], "thread");
	if (threaded && pthread_create(&thread, NULL, thread_body, (void *)0L))
		return 1;
	write(1, "r", 1);
	if (threaded)
		return pthread_join(thread, NULL);
	return outermost(0) == 0;
}
