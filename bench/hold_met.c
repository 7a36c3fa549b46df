/* Calls a function N times in each of T threads: hold_met N T WHICH.  Prints nanoseconds a call and thread. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
/* The first instruction decides how a tracer gets past its breakpoint. */
__attribute__((naked, noinline)) void met_worked_out(void) { __asm__("push %rbp\n pop %rbp\n ret"); }
__attribute__((naked, noinline)) void met_run_elsewhere(void) { __asm__("xor %eax,%eax\n ret"); }
static void (*met)(void);
static long count;
static void *calls(void *unused)
{
	for (long i = 0; i < count; i++)
		met();
	return unused;
}
int main(int argc, char **argv)
{
	pthread_t threads[64];
	struct timespec from, to;
	if (argc < 4)
		return 2;
	count = atol(argv[1]);
	int n = atoi(argv[2]);
	met = argv[3][0] == 'w' ? met_worked_out : met_run_elsewhere;
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (int i = 0; i < n; i++)
		pthread_create(threads + i, NULL, calls, NULL);
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%.0f\n", ((to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec)) / count);
}
