/* SPDX-License-Identifier: Apache-2.0 */
/* The beginning: a command of our own, or processes that run already. */
#include "tracer.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

static int error_pipe[2] = {-1, -1};

/* Signals as clew itself was given them, so that the command starts as from the shell. */
static void undo_signals(void)
{
	static const int changed[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGTSTP, SIGTTIN, SIGTTOU, SIGALRM, SIGIO,
				      SIGPIPE, SIGXFSZ, SIGXCPU, SIGUSR1, SIGUSR2, SIGCHLD};
	for (unsigned i = 0; i < sizeof(changed) / sizeof(*changed); i++)
		signal(changed[i], inherited_ignored & 1ull << (changed[i] - 1) ? SIG_IGN : SIG_DFL);
	sigprocmask(SIG_SETMASK, &inherited_mask, NULL);
}

/* posix_spawn(3), which started us, leaves the two signals ignored that glibc keeps to itself. */
static void undo_spawn(void)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		u64 mask;
	} by_default = {0};
	for (int sig = 32; sig < 34; sig++)
		syscall(SYS_rt_sigaction, sig, &by_default, NULL, sizeof(by_default.mask));
}

static void fail(int error)
{
	if (write(error_pipe[1], &error, sizeof(error)) < 0)
		_exit(126);
	_exit(127);
}

static void run_command(char **argv, int gate)
{
	char go;
	undo_signals();
	undo_spawn();
	if (read(gate, &go, 1) != 1)
		_exit(127);
	int error = settings->filter ? install_filter() : 0;
	if (!error)
		execvp(argv[0], argv);
	fail(error ? error : errno);
}

/* Forks the command and seizes it before it execs.  Returns its pid, or minus an errno. */
pid_t start_command(char **argv)
{
	int gate[2];
	if (pipe2(gate, O_CLOEXEC) || pipe2(error_pipe, O_CLOEXEC))
		return -errno;
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		close(gate[1]);
		run_command(argv, gate[0]);
	}
	close(gate[0]);
	close(error_pipe[1]);
	fcntl(error_pipe[0], F_SETFL, O_NONBLOCK); /* stopped before its exec, it says nothing */
	long refused = ptrace(PTRACE_SEIZE, pid, NULL, (void *)OPTIONS) ? errno : 0;
	if (!refused) {
		struct task *t = new_task(pid, pid);
		t->quiet = t->is_root = true; /* until its exec */
		t->filtered = settings->filter;
		read_birth(t);
		refused = write(gate[1], "x", 1) == 1 ? 0 : errno;
	}
	close(gate[1]);
	return refused ? -refused : pid;
}

/* The errno of the command's exec; 0 if it succeeded. */
int command_error(void)
{
	int error = 0;
	if (read(error_pipe[0], &error, sizeof(error)) != sizeof(error))
		return 0;
	return error;
}

static pid_t tracer_of(pid_t pid)
{
	char text[4096], *at;
	if (read_proc(text, sizeof(text), "/proc/%d/status", pid) <= 0 || !(at = strstr(text, "\nTracerPid:")))
		return 0;
	return atoi(at + 11);
}

/* A thread that is stopped, so that from here on each of its calls stops it. */
static int attach_thread(pid_t pid, pid_t tid)
{
	struct task *t;
	if (task_of(tid))
		return 0;
	if (ptrace(PTRACE_SEIZE, tid, NULL, (void *)OPTIONS))
		return errno;
	t = new_task(tid, pid);
	read_birth(t);
	ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
	return 0;
}

/* Every thread of `pid`, going through the list until it holds no new one. */
bool attach_process(pid_t pid)
{
	char path[32];
	int error = 0;
	u32 before;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	do {
		DIR *threads = opendir(path);
		struct dirent *entry;
		before = task_count();
		if (!threads)
			error = ESRCH;
		while (!error && threads && (entry = readdir(threads)))
			if (entry->d_name[0] != '.')
				error = attach_thread(pid, atoi(entry->d_name));
		if (threads)
			closedir(threads);
		if (error == ESRCH && task_of(pid))
			error = 0; /* a thread that ended meanwhile */
	} while (!error && task_count() > before);
	if (error)
		say(SAY_REFUSED, pid, error, tracer_of(pid), NULL);
	return !error;
}
