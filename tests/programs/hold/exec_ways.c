// Runs PROGRAM in the way that argv[1] names, and exits with its status.
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void *execute(void *argv)
{
	execve(((char **)argv)[0], argv, environ);
	return NULL;
}

static void replace(const char *way, char **argv)
{
	pthread_t one;
	int file = open(argv[0], O_PATH | O_CLOEXEC);

	if (!strcmp(way, "execveat"))
		execveat(AT_FDCWD, argv[0], argv, environ, 0);
	if (!strcmp(way, "execveat-empty"))
		execveat(file, "", argv, environ, AT_EMPTY_PATH);
	if (!strcmp(way, "fexecve"))
		fexecve(file, argv, environ);
	if (!strcmp(way, "thread") && !pthread_create(&one, NULL, execute, argv))
		pthread_join(one, NULL);
	execve(argv[0], argv, environ);
	_exit(127);
}

int main(int argc, char **argv)
{
	const char *way = argv[1];
	pid_t child;
	int status;

	if (argc < 3)
		return 2;
	if (!strcmp(way, "posix_spawn")) {
		if (posix_spawn(&child, argv[2], NULL, NULL, argv + 2, environ))
			return 127;
	} else if (!strcmp(way, "vfork")) {
		child = vfork();
		if (!child) {
			execve(argv[2], argv + 2, environ);
			_exit(127);
		}
	} else if (!strcmp(way, "daemon")) {
		// Forked twice, in a session of its own; it comes back to us and not to init, for its status.
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		if (!fork()) {
			setsid();
			if (!fork())
				replace(way, argv + 2);
			_exit(0);
		}
		wait(&status);
	} else if (!fork()) {
		replace(way, argv + 2);
	}
	wait(&status);
	return WEXITSTATUS(status);
}
