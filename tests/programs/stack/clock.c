// Reads the clock without end, most of the time inside the vDSO.
#include <time.h>
#include <unistd.h>

__attribute__((noinline, noipa)) void ask_the_time(void)
{
	struct timespec now;
	for (;;)
		clock_gettime(CLOCK_MONOTONIC, &now);
}

int main(void)
{
	write(1, "r", 1);
	ask_the_time();
}
