/* What the checks hold: does what its first argument names, and exits with 5. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void on_usr1(int number)
{
	(void)number;
}

__attribute__((noipa)) int work(int n)
{
	__asm__ volatile("nop");
	return n + 1; /* AT: the line that an at rule names */
}

__attribute__((noipa)) void fall(int *at)
{
	*at = 1;
}

int main(int argc, char **argv)
{
	const char *act = argc > 1 ? argv[1] : "";
	char byte;
	if (!strcmp(act, "work"))
		work(argc);
	if (!strcmp(act, "fork")) {
		pid_t child = fork();
		if (!child)
			_exit(0);
		waitpid(child, NULL, 0);
	}
	if (!strcmp(act, "usr1")) {
		signal(SIGUSR1, on_usr1);
		raise(SIGUSR1);
	}
	if (!strcmp(act, "fall"))
		fall((int *)8);
	if (!strcmp(act, "unlink"))
		unlink("/clew-test-no-such-file");
	if (!strcmp(act, "read"))
		return read(0, &byte, 1) == 1 ? 5 : 6;
	return 5;
}
