/* SPDX-License-Identifier: Apache-2.0 */
/* The loop: next event, dispatch.  See ptrace(2) for what each stop means. */
#include "tracer.h"
#include <linux/audit.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 256, SWEEP_EVERY = 64 };
enum { SYSCALL_STOP = SIGTRAP | 0x80 };
#define EARLY_PATIENCE_NS (200 * 1000 * 1000ull)

bool recording = true;
static pid_t root;
static int root_status = -1;
static bool root_execed;

u64 clock_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* Lets a stopped task run: up to the return of its call if that is wanted, else to the next stop of any kind.
 * PTRACE_CONT also takes back what a child inherited of its parent's PTRACE_SYSCALL. */
void resume(struct task *t, int sig)
{
	bool to_return = t->call.live || !t->filtered;
	if (!recording && !t->filtered)
		ptrace(PTRACE_DETACH, t->tid, NULL, (void *)(long)sig);
	else
		ptrace(to_return ? PTRACE_SYSCALL : PTRACE_CONT, t->tid, NULL, (void *)(long)sig);
}

/* --- birth ---------------------------------------------------------------------------------------- */

/* The parent has told of `child`, which may be stopped already.  Its facts are told first. */
bool adopt(struct task *child, struct task *parent)
{
	child->filtered = parent->filtered;
	child->quiet = parent->quiet;
	if (child->process != parent->process) {
		child->process->parent_pid = parent->process->pid;
		child->process->parent_tid = parent->tid;
		child->process->stack_top = parent->process->stack_top;
		child->process->exe_ino = parent->process->exe_ino;
	}
	memcpy(child->comm, parent->comm, COMM);
	if (recording && !child->quiet) {
		read_birth(child);
		life_forked(child, parent);
	}
	return child->early;
}

static pid_t number_in(const char *text, const char *key)
{
	const char *at = strstr(text, key);
	pid_t found = 0;
	if (at)
		for (at += strlen(key); *at == ' ' || *at == '\t' || (*at >= '0' && *at <= '9'); at++)
			if (*at >= '0')
				found = found * 10 + (*at - '0');
	return found;
}

static pid_t process_id_of(pid_t tid)
{
	char text[4096];
	pid_t pid = 0;
	if (read_proc(text, sizeof(text), "/proc/%d/status", tid) > 0)
		pid = number_in(text, "\nTgid:");
	return pid ? pid : tid;
}

/* A task we never heard of stopped: a new one, before its parent told.  It waits for that. */
static struct task *early_child(pid_t tid)
{
	struct task *t = new_task(tid, process_id_of(tid));
	t->early = t->filtered = true;
	return t;
}

/* The parent died before it could tell. */
static void adopt_orphan(struct task *t, void *now)
{
	char text[4096];
	struct task *parent = NULL;
	if (!t->early || *(u64 *)now - t->born < EARLY_PATIENCE_NS)
		return;
	if (read_proc(text, sizeof(text), "/proc/%d/status", t->tid) > 0)
		parent = task_of(t->process->pid != t->tid ? t->process->pid : number_in(text, "\nPPid:"));
	if (parent && parent != t)
		adopt(t, parent);
	else
		t->filtered = settings->filter;
	t->early = false;
	resume(t, 0);
}

/* Killed before their parents told of them: their whole life is told then. */
enum { EARLY_ENDS = 64 };
static struct {
	pid_t tid;
	int status;
	u64 at; /* its number may be another's soon: only what is told at once is about it */
} early_ends[EARLY_ENDS];
static u32 early_end_count;

static void remember_early_end(pid_t tid, int status)
{
	u32 at = early_end_count++ % EARLY_ENDS;
	early_ends[at].tid = tid;
	early_ends[at].status = status;
	early_ends[at].at = clock_ns();
}

static bool had_ended_early(struct task *child)
{
	for (u32 i = 0; i < EARLY_ENDS; i++)
		if (early_ends[i].tid == child->tid) {
			early_ends[i].tid = 0;
			if (clock_ns() - early_ends[i].at > EARLY_PATIENCE_NS)
				return false;
			life_exited(child, early_ends[i].status);
			free_task(child);
			return true;
		}
	return false;
}

static void on_born(struct task *parent)
{
	unsigned long tid = 0;
	if (!ptrace(PTRACE_GETEVENTMSG, parent->tid, NULL, &tid) && tid) {
		struct task *child = task_of(tid);
		if (!child)
			child = new_task(tid, process_id_of(tid));
		bool waits = adopt(child, parent);
		child->early = false;
		if (!had_ended_early(child) && waits)
			resume(child, 0);
	}
	resume(parent, 0);
}

/* --- exec ----------------------------------------------------------------------------------------- */

struct exec {
	struct process *process;
	struct task *survivor;
};

/* An exec ends every other thread of the process without a word to us about the first one. */
static void end_sibling(struct task *t, void *with)
{
	struct exec *exec = with;
	if (t->process != exec->process || t == exec->survivor)
		return;
	if (t->tid == t->process->pid) {
		life_exited(t, SIGKILL);
		free_task(t);
	}
}

static struct task *after_exec(struct task *leader, pid_t former)
{
	struct task *caller = task_of(former);
	if (!caller || caller == leader)
		return leader;
	pid_t pid = leader->tid;
	struct exec exec = {leader->process, caller};
	caller->is_root = leader->is_root; /* the command goes on in the caller: its status is the command's */
	end_sibling(leader, &exec);
	rename_task(caller, pid);
	return caller;
}

static void on_exec(struct task *t)
{
	unsigned long former = t->tid;
	ptrace(PTRACE_GETEVENTMSG, t->tid, NULL, &former);
	t = after_exec(t, former);
	struct process *p = t->process;
	p->maps_known = false;
	p->mapping = 0;
	t->mapping = false;
	p->exe_ino = p->stack_top = t->fs_base = 0;
	bool begins = t->is_root && !root_execed;
	if (begins) {
		root_execed = true;
		t->quiet = false;
	}
	if (recording && !t->is_root && excluded(t))
		t->quiet = true;
	if (recording && !t->quiet)
		life_execed(t, former, begins);
	free(t->exec_path);
	t->exec_path = NULL;
	t->call.live = false;
	resume(t, 0);
}

/* --- system calls --------------------------------------------------------------------------------- */

static void on_entry(struct task *t, const struct __ptrace_syscall_info *i)
{
	struct entry in = {.nr = i->entry.nr, .ip = i->instruction_pointer, .sp = i->stack_pointer};
	memcpy(in.args, (const void *)i->entry.args, sizeof(in.args));
	call_entered(t, &in);
	resume(t, 0);
}

static void on_call(struct task *t)
{
	struct __ptrace_syscall_info i = {0};
	if (!recording || ptrace(PTRACE_GET_SYSCALL_INFO, t->tid, (void *)sizeof(i), &i) < 0) {
		t->call.live = false;
		resume(t, 0);
		return;
	}
	if (t->mapping) {
		t->mapping = false;
		t->process->mapping -= t->process->mapping > 0;
	}
	switch (i.op) {
	case PTRACE_SYSCALL_INFO_ENTRY:
	case PTRACE_SYSCALL_INFO_SECCOMP:
		if (i.arch == AUDIT_ARCH_X86_64) {
			on_entry(t, &i);
			return;
		}
		break;
	case PTRACE_SYSCALL_INFO_EXIT: call_returned(t, i.exit.rval); break;
	}
	resume(t, 0);
}

/* --- stops ---------------------------------------------------------------------------------------- */

/* A task that is killed between the work of a call and its return does not stop at the return any more; what it did
 * is done.  A call that did not come so far has an error there: the entry's ENOSYS, or that it was interrupted. */
static void call_cut_short(struct task *t)
{
	errno = 0;
	long ret = ptrace(PTRACE_PEEKUSER, t->tid, (void *)offsetof(struct user, regs.rax), NULL);
	if (!errno && ret >= 0)
		call_returned(t, ret);
}

static void on_exit_stop(struct task *t)
{
	unsigned long status = 0;
	if (recording)
		call_cut_short(t);
	ptrace(PTRACE_GETEVENTMSG, t->tid, NULL, &status);
	life_exited(t, status);
	ptrace(PTRACE_CONT, t->tid, NULL, NULL);
}

/* A stop of the whole process goes on until SIGCONT; PTRACE_LISTEN leaves it so. */
static void on_event_stop(struct task *t, int sig)
{
	bool stops = sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
	if (stops)
		ptrace(recording || t->filtered ? PTRACE_LISTEN : PTRACE_DETACH, t->tid, NULL, NULL);
	else
		resume(t, 0);
}

static void on_signal(struct task *t, int sig)
{
	if (recording)
		signal_delivered(t, sig);
	resume(t, sig);
}

static void on_stop(struct task *t, int status)
{
	int sig = WSTOPSIG(status), event = status >> 16;
	if (t->early)
		return; /* its first stop: its parent tells first */
	if (sig == SYSCALL_STOP) {
		on_call(t);
		return;
	}
	switch (event) {
	case 0: on_signal(t, sig); return;
	case PTRACE_EVENT_SECCOMP: on_call(t); return;
	case PTRACE_EVENT_FORK:
	case PTRACE_EVENT_VFORK:
	case PTRACE_EVENT_CLONE: on_born(t); return;
	case PTRACE_EVENT_EXEC: on_exec(t); return;
	case PTRACE_EVENT_EXIT: on_exit_stop(t); return;
	case PTRACE_EVENT_STOP: on_event_stop(t, sig); return;
	}
	resume(t, 0);
}

static void on_gone(struct task *t, int status)
{
	if (t->early)
		remember_early_end(t->tid, status);
	life_exited(t, status);
	if (t->is_root)
		root_status = status;
	free_task(t);
}

static void dispatch(pid_t tid, int status)
{
	struct task *t = task_of(tid);
	if (WIFSTOPPED(status))
		on_stop(t ? t : early_child(tid), status);
	else if (t)
		on_gone(t, status);
	else
		remember_early_end(tid, status);
}

/* --- the loop ------------------------------------------------------------------------------------- */

/* True if clew asks us to stop, or is gone. */
static bool told_to_stop(void)
{
	char word;
	ssize_t n = recv(control, &word, 1, MSG_DONTWAIT);
	return n >= 0 || (errno != EAGAIN && errno != EINTR);
}

/* Takes all there is before acting on any: waitpid looks at tasks in the order they were made, and the first ones
 * could keep the last ones waiting for ever. */
static void sweep(void)
{
	struct {
		pid_t tid;
		int status;
	} found[BATCH];
	int n = 0;
	while (n < BATCH && (found[n].tid = waitpid(-1, &found[n].status, __WALL | WNOHANG)) > 0)
		n++;
	for (int i = 0; i < n; i++)
		dispatch(found[i].tid, found[i].status);
}

/* Runs until the command ends, nobody is left, or clew wants no more (keep: until nobody is left).  Returns the
 * command's wait status, -1 without one. */
static void loop(bool until_told)
{
	int status;
	for (u32 turn = 1;; turn++) {
		pid_t tid = waitpid(-1, &status, __WALL);
		if (tid > 0)
			dispatch(tid, status);
		else if (errno != EINTR)
			return;
		if (until_told && root_status != -1)
			return;
		if (tid < 0 || rang) {
			rang = 0;
			u64 now = clock_ns();
			each_task(adopt_orphan, &now);
			if (until_told && told_to_stop())
				return;
		}
		if (turn % SWEEP_EVERY == 0)
			sweep();
	}
}

int trace(pid_t command)
{
	root = command;
	loop(true);
	each_task(call_pending, NULL);
	recording = false;
	return root_status;
}

/* Those with the filter would find their calls failing with ENOSYS without a tracer (seccomp(2)): we let them run
 * for as long as they live.  The others are let go at their next stop. */
void keep(void)
{
	struct itimerval slow = {{1, 0}, {1, 0}};
	setitimer(ITIMER_REAL, &slow, NULL);
	loop(false);
}
