/* Waits for somebody in the way the first argument names, for ever.  Prints, on one line, the process that waits and
 * the one (":" and the thread, where it matters) that could end it; then "ready" when the wait is about to begin. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <poll.h>
#include <unistd.h>

static char block[1 << 16];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void told(pid_t waiter, pid_t ender)
{
	printf("%d %d\n", waiter, ender);
	fflush(stdout);
}

static void for_ever(void)
{
	for (;;)
		pause();
}

/* A child that holds what it inherited and does nothing. */
static pid_t idle_child(void)
{
	pid_t child = fork();
	if (!child)
		for_ever();
	return child;
}

static void fill(int fd)
{
	while (write(fd, block, sizeof(block)) > 0)
		;
}

static void pipe_data(void)
{
	int p[2];
	if (pipe(p))
		exit(1);
	pid_t child = idle_child();
	close(p[1]);
	told(getpid(), child);
	exit(read(p[0], block, 1) < 0);
}

static void pipe_room(void)
{
	int p[2];
	if (pipe(p))
		exit(1);
	pid_t child = idle_child();
	close(p[0]);
	told(getpid(), child);
	fill(p[1]);
}

static void unix_answer(void)
{
	int s[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, s))
		exit(1);
	pid_t child = fork();
	if (!child) {
		close(s[0]);
		for_ever();
	}
	close(s[1]);
	told(getpid(), child);
	exit(recv(s[0], block, 1, 0) < 0);
}

static void unix_accept(void)
{
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "clew-test-waits-%d", getpid());
	if (bind(l, (void *)&a, sizeof(a)) || listen(l, 5) || connect(c, (void *)&a, sizeof(a)))
		exit(1);
	pid_t child = fork();
	if (!child) {
		close(c);
		for_ever();
	}
	close(l);
	told(getpid(), child);
	exit(read(c, block, 1) < 0);
}

static void eventfd_count(void)
{
	uint64_t n;
	int fd = eventfd(0, 0);
	pid_t child = idle_child();
	told(getpid(), child);
	exit(read(fd, &n, sizeof(n)) < 0);
}

static void polled(void)
{
	int p[2], e = epoll_create1(0);
	struct epoll_event event = {.events = EPOLLIN};
	if (pipe(p))
		exit(1);
	pid_t child = idle_child();
	close(p[1]);
	epoll_ctl(e, EPOLL_CTL_ADD, p[0], &event);
	told(getpid(), child);
	exit(epoll_wait(e, &event, 1, -1) < 0);
}

static void waited_child(void)
{
	pid_t child = idle_child();
	told(getpid(), child);
	exit(waitpid(child, NULL, 0) < 0);
}

static void vforked(void)
{
	int p[2];
	char c;
	if (pipe(p))
		exit(1);
	told(getpid(), -1);
	if (!vfork())
		_exit(read(p[0], &c, 1) < 0);
}

static void *hold_lock(void *ready)
{
	pthread_mutex_lock(&lock);
	told(getpid(), syscall(SYS_gettid));
	pthread_barrier_wait(ready);
	for_ever();
	return NULL;
}

static void mutex(void)
{
	pthread_barrier_t ready;
	pthread_t thread;
	pthread_barrier_init(&ready, NULL, 2);
	pthread_create(&thread, NULL, hold_lock, &ready);
	pthread_barrier_wait(&ready);
	pthread_mutex_lock(&lock);
}

static void *live(void *unused)
{
	(void)unused;
	told(getpid(), syscall(SYS_gettid));
	for_ever();
	return NULL;
}

static void join(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, live, NULL);
	pthread_join(thread, NULL);
}

static int file_of(const char *name)
{
	return open(name, O_RDWR | O_CREAT, 0600);
}

static void locked_file(void)
{
	int p[2];
	char c;
	if (pipe(p))
		exit(1);
	pid_t child = fork();
	if (!child) {
		flock(file_of("lock"), LOCK_EX);
		if (write(p[1], "x", 1) != 1)
			exit(1);
		for_ever();
	}
	if (read(p[0], &c, 1) != 1)
		exit(1);
	told(getpid(), child);
	flock(file_of("lock"), LOCK_EX);
}

static void record_lock(void)
{
	int p[2];
	char c;
	struct flock whole = {.l_type = F_WRLCK};
	if (pipe(p))
		exit(1);
	pid_t child = fork();
	if (!child) {
		fcntl(file_of("lock"), F_SETLKW, &whole);
		if (write(p[1], "x", 1) != 1)
			exit(1);
		for_ever();
	}
	if (read(p[0], &c, 1) != 1)
		exit(1);
	told(getpid(), child);
	fcntl(file_of("lock"), F_SETLKW, &whole);
}

static void stopped(void)
{
	pid_t child = fork();
	if (!child) {
		raise(SIGSTOP);
		for_ever();
	}
	told(child, 0);
	for_ever();
}

/* --- circles ------------------------------------------------------------------------------------ */

/* Both pipes full, each waits for the other to read. */
static void full_pipes(void)
{
	int there[2], back[2];
	if (pipe(there) || pipe(back))
		exit(1);
	pid_t child = fork();
	close(there[child ? 0 : 1]);
	close(back[child ? 1 : 0]);
	if (child)
		told(getpid(), child);
	fill(child ? there[1] : back[1]);
}

/* Each has one file's lock and waits for the other's. */
static void two_locks(void)
{
	int a[2], b[2];
	char c;
	if (pipe(a) || pipe(b))
		exit(1);
	pid_t child = fork();
	flock(file_of(child ? "one" : "two"), LOCK_EX);
	if (write(child ? a[1] : b[1], "x", 1) != 1 || read(child ? b[0] : a[0], &c, 1) != 1)
		exit(1);
	if (child)
		told(getpid(), child);
	flock(file_of(child ? "two" : "one"), LOCK_EX);
}

/* The client owns a mutex in shared memory and waits for an answer of the server, which waits for the mutex. */
static void lock_and_socket(void)
{
	int s[2];
	pthread_mutexattr_t attributes;
	pthread_mutex_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(shared, &attributes);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, s))
		exit(1);
	pthread_mutex_lock(shared);
	pid_t child = fork();
	close(s[child ? 1 : 0]);
	if (!child) {
		pthread_mutex_lock(shared);
		exit(1);
	}
	told(getpid(), child);
	exit(recv(s[0], block, 1, 0) < 0);
}

static const struct {
	const char *name;
	void (*wait)(void);
} ways[] = {
	{"pipe-data", pipe_data}, {"pipe-room", pipe_room}, {"unix-answer", unix_answer}, {"unix-accept", unix_accept},
	{"eventfd", eventfd_count}, {"epoll", polled}, {"child", waited_child}, {"vfork", vforked}, {"mutex", mutex},
	{"join", join}, {"flock", locked_file}, {"fcntl", record_lock}, {"stopped", stopped},
	{"full-pipes", full_pipes}, {"two-locks", two_locks}, {"lock-and-socket", lock_and_socket},
};

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	alarm(60); /* whatever happens to the test */
	for (size_t i = 0; argc > 1 && i < sizeof(ways) / sizeof(ways[0]); i++)
		if (!strcmp(argv[1], ways[i].name))
			ways[i].wait();
	return 2;
}
