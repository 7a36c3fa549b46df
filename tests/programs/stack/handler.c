// Waits in read(2) inside a signal handler: the stack goes through the kernel's signal frame.
#include <signal.h>
#include <unistd.h>

__attribute__((noinline, noipa)) void in_handler(int fd)
{
	char byte;
	while (read(fd, &byte, 1) > 0)
		;
}

static volatile int handled;

static void on_signal(int number)
{
	in_handler(number - number);
	handled = 1;
}

__attribute__((noinline, noipa)) void interrupted_work(void)
{
	write(1, "r", 1);
	for (;;)
		raise(SIGUSR1);
}

int main(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigaction(SIGUSR1, &action, 0);
	interrupted_work();
}
