// A thread that is not the first one replaces the whole program by argv[1], which then waits in its main.
#include <pthread.h>
#include <unistd.h>

static void *replace(void *path)
{
	execl(path, path, "main", (char *)0);
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	return pthread_create(&thread, 0, replace, argv[argc - 1]) || pthread_join(thread, 0);
}
