/* SPDX-License-Identifier: Apache-2.0 */
/* clew-tracer SETTINGS RINGS CONTROL [COMMAND...]: descriptors of the settings, the rings, and the socket to clew.
 *
 * A process of its own, so that nothing that happens to clew happens to the traced program: it is in a process group
 * of its own, holds no file of the user's, and when clew is gone goes on for as long as somebody needs it. */
#include "tracer.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

enum { PATIENCE = 100, TRY_AGAIN_US = 10000 };

const struct settings *settings;
int control = -1;
u64 inherited_ignored;
sigset_t inherited_mask;

void say(enum message kind, s64 a, s64 b, s64 c, const char *text)
{
	struct {
		s64 kind, values[3];
		char text[4096];
	} m = {kind, {a, b, c}, ""};
	size_t len = text ? strnlen(text, sizeof(m.text)) : 0;
	if (len)
		memcpy(m.text, text, len);
	len += offsetof(__typeof__(m), text);
	/* A note may be lost to a clew that does not listen, an end should not be. */
	bool patient = kind == SAY_ENDED || kind == SAY_FAILED || kind == SAY_REFUSED;
	for (int tries = patient ? PATIENCE : 1; tries; tries--) {
		if (send(control, &m, len, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 || errno != EAGAIN)
			return;
		if (tries > 1)
			usleep(TRY_AGAIN_US);
	}
}

volatile sig_atomic_t rang;

static void ring(int sig)
{
	(void)sig;
	rang = 1;
}

/* What a terminal or a user sends to stop clew must not stop us.  SIGIO (clew wrote, or is gone) and a slow timer
 * interrupt waitpid. */
void set_signals(void)
{
	static const int ignored[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGTSTP, SIGTTIN, SIGTTOU, SIGPIPE,
				      SIGXFSZ, SIGXCPU, SIGUSR1, SIGUSR2, SIGCHLD};
	struct sigaction wake = {.sa_handler = ring}, quiet = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP}, old;
	sigset_t none;
	struct itimerval tick = {{0, 100000}, {0, 100000}};
	for (unsigned i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
		if (!sigaction(ignored[i], NULL, &old)) {
			if (old.sa_handler == SIG_IGN)
				inherited_ignored |= 1ull << (ignored[i] - 1);
			signal(ignored[i], SIG_IGN);
		}
	/* Ignored, it would take the wait statuses away; delivered, it would stop us for our heir at each of them. */
	sigaction(SIGCHLD, &quiet, NULL);
	sigemptyset(&none);
	sigaddset(&none, SIGCHLD);
	sigprocmask(SIG_SETMASK, &none, &inherited_mask);
	sigaction(SIGIO, &wake, NULL);
	sigaction(SIGALRM, &wake, NULL);
	setitimer(ITIMER_REAL, &tick, NULL);
}

void stop_timer(void)
{
	struct itimerval never = {0};
	setitimer(ITIMER_REAL, &never, NULL);
}

static void watch_control(void)
{
	fcntl(control, F_SETOWN, getpid());
	fcntl(control, F_SETFL, fcntl(control, F_GETFL) | O_ASYNC);
}

void keep_no_files(int rings)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; fd < 3 && null >= 0; fd++)
		dup2(null, fd);
	/* Those clew was given by its caller are the command's now. */
	for (int fd = 3; fd < 1024; fd++)
		if (fd != control && fd != rings && !(fcntl(fd, F_GETFD) & FD_CLOEXEC))
			close(fd);
	struct rlimit files;
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (chdir("/"))
		return; /* a folder that cannot be unmounted, no more */
}

static bool read_settings(int fd)
{
	struct stat st;
	if (fstat(fd, &st) || st.st_size < (off_t)sizeof(struct settings))
		return false;
	void *at = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (at == MAP_FAILED)
		return false;
	settings = at;
	return settings->version == SETTINGS_VERSION;
}

static bool attach_all(void)
{
	for (u32 i = 0; i < settings->pids; i++)
		if (!attach_process(settings->lists[i]))
			return false;
	return true;
}

static void count_filtered(struct task *t, void *count)
{
	if (t->filtered && !t->exiting && t->tid == t->process->pid)
		++*(s64 *)count;
}

static s64 survivors(void)
{
	s64 count = 0;
	each_task(count_filtered, &count);
	return count;
}

static int run(char **command, int rings)
{
	pid_t pid = 0;
	if (*command) {
		pid = start_command(command);
		if (pid < 0) {
			say(SAY_REFUSED, 0, -pid, 0, NULL);
			return 1;
		}
	}
	keep_no_files(rings);
	/* A session, not only a group: the command's group would hang on us, and if we were killed while anybody in it
	 * is stopped, all of it would get SIGHUP (kill_orphaned_pgrp in kernel/exit.c). */
	setsid();
	if (!attach_all())
		return 1;
	say(SAY_STARTED, pid, getpid(), 0, NULL);
	int status = trace(pid);
	int error = pid ? command_error() : 0;
	s64 left = survivors();
	if (error)
		say(SAY_FAILED, error, 0, 0, NULL);
	else
		say(SAY_ENDED, status, left, 0, NULL);
	rings_close();
	close(control);
	if (left)
		keep();
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 125;
	int rings = atoi(argv[2]);
	control = atoi(argv[3]);
	fcntl(control, F_SETFD, FD_CLOEXEC);
	fcntl(rings, F_SETFD, FD_CLOEXEC);
	if (!read_settings(atoi(argv[1])))
		return 125;
	close(atoi(argv[1]));
	/* Nobody waits for us: clew is not told of a child it does not know, whenever we end. */
	if (fork())
		_exit(0);
	if (settings->filter && argc > 4)
		leave_heir(rings);
	prctl(PR_SET_NAME, "clew-tracer");
	set_signals();
	watch_control();
	files_start();
	if (!rings_open(rings)) {
		say(SAY_REFUSED, 0, errno, 0, NULL);
		return 1;
	}
	return run(argv + 4, rings);
}
