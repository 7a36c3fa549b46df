/* SPDX-License-Identifier: Apache-2.0 */
/* The heir: a process that does nothing until the tracer is killed, and then takes its place.
 *
 * A call that our filter wants reported fails once there is no tracer (seccomp(2)), so there must be no moment
 * without one.  The heir is the tracer's own tracer: even one killed by SIGKILL stops once more (PTRACE_EVENT_EXIT,
 * ptrace(2)) while its tracees are still its own.  In that time each of their threads is given a SIGSTOP, which
 * it obeys before it runs another instruction; only then may the tracer die, and the heir seizes them. */
#include "tracer.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STOPPED = 4096, ROUNDS = 1000, ROUND_US = 1000 };

/* Processes in a group stop, which the tracer knows and nobody else can see: theirs must last.  Shared by both. */
static pid_t *stopped;

void heir_note_stop(pid_t pid, bool stops)
{
	pid_t *at = stopped ? &stopped[pid & (STOPPED - 1)] : NULL;
	if (at && (stops || *at == pid))
		*at = stops ? pid : 0;
}

static bool was_stopped(pid_t pid)
{
	return stopped && stopped[pid & (STOPPED - 1)] == pid;
}

/* --- the tracees of another process --------------------------------------------------------------- */

typedef void visitor(pid_t pid, pid_t tid, const char *status);

static u64 field(const char *status, const char *name, int base)
{
	char *at = strstr(status, name);
	return at ? strtoull(at + strlen(name), NULL, base) : 0;
}

static void each_entry(const char *folder, void (*visit)(pid_t id, pid_t with), pid_t with)
{
	DIR *all = opendir(folder);
	struct dirent *entry;
	while (all && (entry = readdir(all)))
		if (atoi(entry->d_name) > 0)
			visit(atoi(entry->d_name), with);
	if (all)
		closedir(all);
}

static pid_t tracer;
static visitor *visit_tracee;

static void look_at_thread(pid_t tid, pid_t pid)
{
	char status[4096];
	if (read_proc(status, sizeof(status), "/proc/%d/task/%d/status", pid, tid) > 0 &&
	    field(status, "\nTracerPid:", 10) == (u64)tracer)
		visit_tracee(pid, tid, status);
}

/* A thread inherits its process's tracer, so the first one tells of all. */
static void look_at_process(pid_t pid, pid_t unused)
{
	char text[4096];
	(void)unused;
	if (read_proc(text, sizeof(text), "/proc/%d/status", pid) <= 0 ||
	    field(text, "\nTracerPid:", 10) != (u64)tracer)
		return;
	snprintf(text, sizeof(text), "/proc/%d/task", pid);
	each_entry(text, look_at_thread, pid);
}

static void each_tracee(visitor *visit)
{
	visit_tracee = visit;
	each_entry("/proc", look_at_process, 0);
}

/* --- taking over ---------------------------------------------------------------------------------- */

static u32 loose;

/* A thread with a SIGSTOP pending runs no instruction of its own any more, and starts no other thread: fork fails,
 * to be tried again, while a signal is pending (copy_process in kernel/fork.c). */
static void freeze(pid_t pid, pid_t tid, const char *status)
{
	char *state = strstr(status, "\nState:");
	if (field(status, "\nSigPnd:", 16) & 1ull << (SIGSTOP - 1) || (state && strchr("ZX", state[8])))
		return;
	if (!syscall(SYS_tgkill, pid, tid, SIGSTOP))
		loose++; /* it may have had it at once: seen in the next round */
}

static void freeze_all(void)
{
	for (int round = 0; round < ROUNDS; round++) {
		loose = 0;
		each_tracee(freeze);
		if (!loose)
			return;
		usleep(ROUND_US);
	}
}

/* A process that was attached to has no filter, and needs no tracer. */
static void inherit(pid_t pid, pid_t tid, const char *status)
{
	new_task(tid, pid)->filtered = field(status, "\nSeccomp:", 10) == 2 /* SECCOMP_MODE_FILTER */;
}

static void seize(struct task *t, void *unused)
{
	(void)unused;
	if (!t->filtered || ptrace(PTRACE_SEIZE, t->tid, NULL, (void *)OPTIONS))
		t->quiet = true; /* no need, gone, or not ours to trace */
}

static void let_run(struct task *t, void *unused)
{
	pid_t pid = t->process->pid;
	(void)unused;
	if (!was_stopped(pid) && !t->process->maps_known)
		kill(pid, SIGCONT);
	t->process->maps_known = true; /* once a process is enough */
	if (t->quiet)
		free_task(t);
}

static void take_over(void)
{
	/* Under Yama's level 1 one traces one's descendants, and orphans are nobody's. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	freeze_all();
	each_tracee(inherit);
	ptrace(PTRACE_CONT, tracer, NULL, NULL);
	while (waitpid(tracer, NULL, __WALL) < 0 && errno == EINTR)
		;
	prctl(PR_SET_NAME, "clew-tracer");
	recording = false;
	each_task(seize, NULL);
	each_task(let_run, NULL);
	keep();
}

/* --- until then ----------------------------------------------------------------------------------- */

/* Signals go on to the tracer, but for the one that would stop it, and with it the whole program. */
static void answer(int status)
{
	int sig = WSTOPSIG(status);
	bool signalled = !(status >> 16) && sig != SIGSTOP;
	ptrace(PTRACE_CONT, tracer, NULL, (void *)(long)(signalled ? sig : 0));
}

static void watch(void)
{
	int status;
	for (;;) {
		pid_t pid = waitpid(-1, &status, __WALL);
		if (pid < 0 && errno != EINTR)
			return;
		if (pid != tracer)
			continue; /* an orphan that came to us */
		if (!WIFSTOPPED(status))
			return;
		if (status >> 16 == PTRACE_EVENT_EXIT) {
			unsigned long code = 0;
			ptrace(PTRACE_GETEVENTMSG, tracer, NULL, &code);
			if (code) {
				take_over();
				return;
			}
		}
		answer(status);
	}
}

/* Whether orphans must be ours for us to trace them one day: Yama's level 1, without root. */
static bool adopts_orphans(void)
{
	char level[8];
	return geteuid() && read_proc(level, sizeof(level), "/proc/sys/kernel/yama/ptrace_scope") > 0 && level[0] == '1';
}

/* Returns in the tracer; the caller's process becomes its heir. */
void leave_heir(int rings)
{
	void *shared = mmap(NULL, STOPPED * sizeof(pid_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	stopped = shared == MAP_FAILED ? NULL : shared;
	tracer = fork();
	if (tracer <= 0)
		return; /* without an heir, if there is no room for one */
	prctl(PR_SET_NAME, "clew-heir");
	if (adopts_orphans())
		prctl(PR_SET_CHILD_SUBREAPER, 1);
	set_signals();
	stop_timer();
	close(control);
	close(rings);
	keep_no_files(-1);
	setpgid(0, 0);
	if (!ptrace(PTRACE_SEIZE, tracer, NULL, (void *)PTRACE_O_TRACEEXIT))
		watch();
	_exit(0);
}
