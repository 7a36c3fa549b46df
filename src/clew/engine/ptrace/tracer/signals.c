/* SPDX-License-Identifier: Apache-2.0 */
/* Signals: SIGNAL where a task sent one, SIGNALLED where one was delivered. */
#include "tracer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

enum { TO_THREAD = 0, TO_PROCESS = 1 };

static pid_t process_id(pid_t tid)
{
	char text[4096], *at;
	struct task *t = task_of(tid);
	if (t)
		return t->process->pid;
	if (read_proc(text, sizeof(text), "/proc/%d/status", tid) <= 0 || !(at = strstr(text, "\nTgid:")))
		return tid;
	return atoi(at + 6);
}

static pid_t pidfd_target(const struct task *t, u32 fd)
{
	char text[1024], *at;
	if (read_proc(text, sizeof(text), "/proc/%d/fdinfo/%u", t->tid, fd) <= 0 || !(at = strstr(text, "\nPid:")))
		return 0;
	return atoi(at + 5);
}

struct sent {
	pid_t pid, tid; /* pid 0: several processes */
	int sig, whom;
};

/* Inside a pid namespace: threads are called by numbers of it that we do not know, so theirs are the first one's. */
static struct sent sent_within(const struct task *t, pid_t first, pid_t second)
{
	pid_t pid = process_called(t->process, first);
	bool thread = t->call.nr == SYS_tgkill || t->call.nr == SYS_rt_tgsigqueueinfo;
	bool whole = t->call.nr == SYS_kill || t->call.nr == SYS_rt_sigqueueinfo || (thread && first == second);
	if (!pid || !whole)
		return (struct sent){.tid = t->tid}; /* nobody we know: nothing is told */
	return (struct sent){pid, pid, t->call.args[thread ? 2 : 1], thread ? TO_THREAD : TO_PROCESS};
}

static struct sent what_was_sent(const struct task *t)
{
	const struct call *c = &t->call;
	pid_t first = c->args[0], second = c->args[1];
	if (t->process->levels > 1 && first > 0 && c->nr != SYS_pidfd_send_signal)
		return sent_within(t, first, second);
	switch (c->nr) {
	case SYS_kill:
	case SYS_rt_sigqueueinfo: return (struct sent){first > 0 ? first : 0, first, c->args[1], TO_PROCESS};
	case SYS_tkill: return (struct sent){process_id(first), first, c->args[1], TO_THREAD};
	case SYS_tgkill:
	case SYS_rt_tgsigqueueinfo: return (struct sent){first, second, c->args[2], TO_THREAD};
	}
	first = pidfd_target(t, first);
	return (struct sent){first, first, c->args[1], TO_PROCESS};
}

static void tell_signal(struct clew_event *e, int sig, pid_t pid, pid_t tid, int whom)
{
	e->kind = KIND_SIGNAL;
	e->t0 = e->t;
	e->channel = CHAN_NONE;
	e->nr = sig;
	e->ret = 0;
	e->chan = (u64)pid << 32 | (u32)tid;
	e->peer = whom;
	e->flags = e->count = 0;
	tell_event(e);
}

/* A kill of several processes: who got it shows when it is delivered. */
static void remember_kill(struct task *t, const struct sent *sent)
{
	const struct call *c = &t->call;
	t->process->kill = (struct group_kill){.t = c->t0, .sp = c->sp, .stack = c->stack, .tid = t->tid, .sig = sent->sig};
}

/* Told at the moment the call began: the receiver may have had it before the call returned. */
void kill_called(struct task *t, u64 now, s64 ret)
{
	struct sent sent = what_was_sent(t);
	struct clew_event e;
	(void)now;
	if (ret || !sent.sig || sent.tid == t->tid)
		return;
	if (!sent.pid) {
		remember_kill(t, &sent);
		return;
	}
	fill_event(t, &e, KIND_SIGNAL, t->call.t0, 0);
	tell_signal(&e, sent.sig, sent.pid, sent.tid, sent.whom);
}

void child_signal(const struct task *t, u64 now)
{
	const struct process *p = t->process;
	struct task *parent = task_of(p->parent_tid);
	struct clew_event e;
	if (!parent)
		parent = task_of(p->parent_pid);
	if (!parent || parent->process->pid != p->parent_pid || parent->quiet)
		return;
	fill_event(t, &e, KIND_SIGNAL, now, 0);
	e.stack = 0;
	tell_signal(&e, SIGCHLD, p->parent_pid, parent->tid, TO_PROCESS);
}

static void tell_group_kill(const struct task *t, const siginfo_t *info)
{
	struct process *p = info->si_code == SI_USER ? process_of(info->si_pid) : NULL;
	if (!p || p->kill.sig != info->si_signo || p == t->process)
		return;
	struct clew_event e = {
		.t = p->kill.t, .tid = p->kill.tid, .pid = p->pid, .sp = p->kill.sp, .stack = p->kill.stack,
	};
	tell_signal(&e, info->si_signo, t->process->pid, t->tid, TO_PROCESS);
}

/* A tracer is shown ignored signals too; the program never sees those. */
static bool ignored(const struct task *t, int sig)
{
	char text[4096], *ign, *cgt;
	const u64 by_default = 1ull << (SIGCHLD - 1) | 1ull << (SIGCONT - 1) | 1ull << (SIGURG - 1) | 1ull << (SIGWINCH - 1);
	u64 bit = 1ull << (sig - 1);
	if (read_proc(text, sizeof(text), "/proc/%d/status", t->tid) <= 0)
		return false;
	ign = strstr(text, "\nSigIgn:");
	cgt = strstr(text, "\nSigCgt:");
	if (!ign || !cgt)
		return false;
	return strtoull(ign + 8, NULL, 16) & bit || (by_default & bit && !(strtoull(cgt + 8, NULL, 16) & bit));
}

/* SIGNALLED as of now.  A task that is not in a stop any more has no stack to be read. */
static void tell_signalled(struct task *t, int sig)
{
	struct __ptrace_syscall_info where = {0};
	u64 now = clock_ns();
	struct clew_event e = {
		.t0 = now, .t = now, .tid = t->tid, .pid = t->process->pid, .kind = KIND_SIGNALLED, .nr = sig,
	};
	if (ptrace(PTRACE_GET_SYSCALL_INFO, t->tid, (void *)sizeof(where), &where) > 0) {
		e.sp = where.stack_pointer;
		e.stack = take_stack(t, where.instruction_pointer, where.stack_pointer);
	}
	tell_event(&e);
}

void tell_killed(struct task *t)
{
	tell_signalled(t, SIGKILL);
}

void signal_delivered(struct task *t, int sig)
{
	siginfo_t info = {0};
	if (t->quiet || ignored(t, sig))
		return;
	ptrace(PTRACE_GETSIGINFO, t->tid, NULL, &info);
	tell_group_kill(t, &info);
	tell_signalled(t, sig);
}
