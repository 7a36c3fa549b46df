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
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 1000, ROUND_US = 1000 };

/* --- the tracees of another process --------------------------------------------------------------- */

typedef void visitor(pid_t pid, pid_t tid, const char *status);

static u64 field(const char *status, const char *name, int base)
{
	const char *at = strstr(status, name);
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
static bool first_round;

static bool in_state(const char *status, const char *states)
{
	const char *state = strstr(status, "\nState:");
	return state && strchr(states, state[8]);
}

static bool stop_pending(const char *status, const char *whose)
{
	return field(status, whose, 16) & 1ull << (SIGSTOP - 1);
}

/* A process that was attached to has no filter, and needs no tracer. */
static struct task *inherit(pid_t pid, pid_t tid, const char *status)
{
	struct task *t = new_task(tid, pid);
	t->filtered = field(status, "\nSeccomp:", 10) == 2 /* SECCOMP_MODE_FILTER */;
	return t;
}

/* A SIGSTOP that the thread has taken and its tracer has not looked at: exit_code, the 52nd field of stat(5). */
static bool stop_taken(pid_t pid, pid_t tid)
{
	return stat_field(pid, tid, 52) == SIGSTOP;
}

/* A thread with a SIGSTOP pending runs no instruction of its own any more, and starts no other thread: fork fails,
 * to be tried again, while a signal is pending (copy_process in kernel/fork.c).  One SIGSTOP of ours and no more:
 * where it is afterwards tells who stopped the process.  What is there in the first round is somebody else's. */
static void freeze(pid_t pid, pid_t tid, const char *status)
{
	struct task *t = task_of(tid);
	if (in_state(status, "ZX"))
		return;
	if (!t)
		t = inherit(pid, tid, status);
	bool settled = stop_pending(status, "\nSigPnd:") || stop_taken(pid, tid);
	t->process->to_be_stopped |= stop_pending(status, "\nShdPnd:") || (settled && first_round);
	loose += !settled;
	if (!settled && (first_round || !in_state(status, "R") /* about to take it */))
		syscall(SYS_tgkill, pid, tid, SIGSTOP);
}

static void freeze_all(void)
{
	for (int round = 0; round < ROUNDS; round++) {
		loose = 0;
		first_round = round == 0;
		each_tracee(freeze);
		if (!loose)
			return;
		usleep(ROUND_US);
	}
}

static void seize(struct task *t, void *unused)
{
	(void)unused;
	if (!t->filtered || ptrace(PTRACE_SEIZE, t->tid, NULL, (void *)OPTIONS))
		t->quiet = true; /* no need, gone, or not ours to trace */
}

/* The threads of a process that was stopped before stop again without taking our SIGSTOP (a group stop comes before
 * any signal: get_signal in kernel/signal.c).  Otherwise it was ours that stopped it, and one of them took it. */
static u32 kept, taken;

static void count_stop(pid_t tid, pid_t pid)
{
	char status[4096];
	do {
		if (read_proc(status, sizeof(status), "/proc/%d/task/%d/status", pid, tid) <= 0)
			return;
	} while (in_state(status, "R") && !usleep(ROUND_US) && loose++ < ROUNDS);
	if (in_state(status, "Tt"))
		*(stop_pending(status, "\nSigPnd:") ? &kept : &taken) += 1;
}

static bool was_stopped(pid_t pid)
{
	char path[32];
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	loose = kept = taken = 0;
	each_entry(path, count_stop, pid);
	return kept && !taken;
}

static void let_run(struct task *t, void *unused)
{
	struct process *p = t->process;
	(void)unused;
	if (!p->let_go && !p->to_be_stopped && !was_stopped(p->pid))
		kill(p->pid, SIGCONT);
	p->let_go = true; /* once a process is enough */
	if (t->quiet)
		free_task(t);
}

static void take_over(void)
{
	/* Under Yama's level 1 one traces one's descendants, and orphans are nobody's. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	freeze_all();
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
	setsid();
	if (!ptrace(PTRACE_SEIZE, tracer, NULL, (void *)PTRACE_O_TRACEEXIT))
		watch();
	_exit(0);
}
