/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Who woke whom: sched_waking runs in the waker's context. */
#ifndef CLEW_WAKES_BPF_H
#define CLEW_WAKES_BPF_H
#include "calls.bpf.h"

#define TASK_INTERRUPTIBLE 1 /* include/linux/sched.h, as the next ones */
#define PF_EXITING 0x00000004
#define PF_IO_WORKER 0x00000010
#define PF_USER_WORKER 0x00004000
#define PF_KTHREAD 0x00200000

/* Tasks of the kernel have no registers of a program: nothing tells what they are in. */
static __always_inline int is_of_the_kernel(struct task_struct *task)
{
	return member_of(task, flags) & (PF_KTHREAD | PF_IO_WORKER | PF_USER_WORKER);
}

/* Whether what the current task does is its own doing: a system call or its death, and no interrupt that happened to
 * arrive in it.  (A fault's error code may look like a call's number; no fault sends signals to others.) */
static __always_inline int acts_itself(u32 here, struct task_struct *task)
{
	if (is_of_the_kernel(task) || interrupted(here, task))
		return 0;
	return task->flags & PF_EXITING || (s64)bpf_task_pt_regs(task)->orig_ax >= 0;
}

static __always_inline int is_recorded(struct task_struct *task, struct call *c)
{
	return (c && c->traced ? c->traced : verdict_on(task)) == TRACED_YES;
}

/* Bytes and messages tell by themselves whom they wake; an eventfd that is watched for edges is never read. */
static __always_inline int is_told_as_message(const struct call *c)
{
	if (!c || c->live != LIVE_TOLD || (c->kind != KIND_SEND && c->kind != KIND_RECV))
		return 0;
	return c->end.channel != CHAN_EVENTFD || c->kind == KIND_RECV;
}

/* The class of the call that the task sleeps in, until another task wakes it. */
static __always_inline u32 sleeps_in(struct task_struct *woken)
{
	/* Who waits for a lock inside the kernel, or for a disk, is no concern of its waker. */
	if (!(member_of(woken, __state) & TASK_INTERRUPTIBLE) || is_of_the_kernel(woken))
		return CLASS_NONE;
	u64 nr = bpf_task_pt_regs(woken)->orig_ax;
	if (nr >= SYSCALLS || member_of(woken, thread_info.status) & TS_COMPAT)
		return CLASS_NONE;
	return settings.shapes[nr].class;
}

static __always_inline int is_wait(u32 class)
{
	return class && class != CLASS_FUTEX && class != CLASS_WAIT_CHILD && class != CLASS_CALL && class != CLASS_CLONE &&
	       class != CLASS_CRED && class != CLASS_EXEC;
}

static __noinline int tell_wake(struct task_struct *waker, struct call *c, struct task_struct *woken, struct call *w)
{
	struct pt_regs *r = bpf_task_pt_regs(waker);
	u16 nr = bpf_task_pt_regs(woken)->orig_ax;
	struct clew_event *e = new_event(KIND_WAKE, bpf_ktime_get_ns());
	if (!e)
		return 0;
	int known = w && w->live && w->nr == nr, dies = waker->flags & PF_EXITING;
	e->t0 = e->t;
	e->tid = waker->pid;
	e->pid = waker->tgid;
	e->channel = known ? w->end.channel : CHAN_NONE;
	e->nr = nr;
	e->ret = 0;
	e->sp = r->sp;
	e->chan = (u64)woken->tgid << 32 | (u32)woken->pid;
	e->peer = known ? w->end.chan : 0;
	e->flags = 0;
	e->count = dies ? NO_CALL : r->orig_ax;
	e->stack = c && c->live == LIVE_TOLD ? c->stack : settings.want_stacks ? take_stack() : 0;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	if (known)
		w->woken = 1;
	return 0;
}

/* Any wake-up out of a sleep that a signal can end, made in a task's own doing. */
static __always_inline int wake(btf_args *ctx, struct task_struct *waker, struct call *c, struct task_struct *woken)
{
	if (woken == waker || !is_wait(sleeps_in(woken)) || is_told_as_message(c) || !acts_itself(stack_of_raw(ctx), waker))
		return 0;
	struct call *w = bpf_task_storage_get(&calls, woken, NULL, 0);
	if (!is_recorded(waker, c) || !is_recorded(woken, w))
		return 0;
	return tell_wake(waker, c, woken, w);
}

/* A futex's word says whom it is about.  What an interrupt does in a call of the waker's is a timeout of the woken. */
static __always_inline int wake_futex(struct task_struct *waker, struct call *c, struct task_struct *woken)
{
	struct call *w = bpf_task_storage_get(&calls, woken, NULL, 0);
	u64 word, mm = (u64)member_of(woken, mm);
	u32 nr;
	if (w && w->traced == TRACED_NO)
		return 0;
	if (w && w->live) {
		nr = w->nr;
		word = w->end.chan;
		if (w->class != CLASS_FUTEX)
			return 0;
	} else {
		/* Asleep since before the recording: its saved registers still name the futex. */
		struct pt_regs *r = bpf_task_pt_regs(woken);
		nr = r->orig_ax;
		word = clew_futex_lists(nr) ? 0 : r->di; /* a list is in memory that is not the waker's */
		if (nr >= SYSCALLS || settings.shapes[nr].class != CLASS_FUTEX)
			return 0;
	}
	struct clew_event *e = new_event(KIND_WAKE, bpf_ktime_get_ns());
	if (!e)
		return 0;
	e->t0 = e->t;
	e->tid = waker->pid;
	e->pid = waker->tgid;
	e->channel = CHAN_FUTEX;
	e->nr = nr;
	e->ret = 0;
	e->sp = c->sp;
	e->chan = (u64)woken->tgid << 32 | (u32)woken->pid;
	e->peer = word;
	e->stack = c->stack;
	/* A futex shared between processes may lie at another address in each. */
	int same = word && (mm == c->end.peer ? word == c->end.chan : !(c->fd & CLEW_FUTEX_PRIVATE));
	e->flags = same ? FLAG_SAME_FUTEX : 0;
	e->count = c->fd;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("tp_btf/sched_waking")
int record_sched_waking(btf_args *ctx)
{
	struct task_struct *woken = ARG(struct task_struct *, 0);
	struct task_struct *waker = bpf_get_current_task_btf();
	struct call *c = bpf_task_storage_get(&calls, waker, NULL, 0);
	if (!c || !c->live || c->traced != TRACED_YES || c->class != CLASS_FUTEX)
		return wake(ctx, waker, c, woken);
	return interrupted(stack_of_raw(ctx), waker) ? 0 : wake_futex(waker, c, woken);
}

enum { TCP_ESTABLISHED = 1, TCP_FIN_WAIT1 = 4, TCP_CLOSE = 7, TCP_CLOSE_WAIT = 8, TCP_LAST_ACK = 9 };

static __always_inline int ends_stream(int old, int new)
{
	return (old == TCP_ESTABLISHED && (new == TCP_FIN_WAIT1 || new == TCP_CLOSE)) ||
	       (old == TCP_CLOSE_WAIT && (new == TCP_LAST_ACK || new == TCP_CLOSE));
}

/* inet_sock_set_state(sk, old, new): the end of a stream reaches its reader in an interrupt, so no wake-up tells who
 * made it. */
EVENT(sock, inet_sock_set_state)
int record_shut(shut_args *ctx)
{
	struct sock *sk = shut_socket(ctx);
	struct task_struct *task = bpf_get_current_task_btf();
	u64 local, remote;
	if (!ends_stream(shut_from(ctx), shut_to(ctx)) || !acts_itself(stack_of_event(ctx), task))
		return 0;
	struct call *c = call_of(task);
	if (!c || c->traced != TRACED_YES)
		return 0;
	struct clew_event *e = new_event(KIND_SHUT, bpf_ktime_get_ns());
	if (!e)
		return 0;
	inet_ends(sk, field_of(sk, __sk_common.skc_family), &local, &remote);
	struct pt_regs *r = bpf_task_pt_regs(task);
	e->t0 = e->t;
	e->tid = task->pid;
	e->pid = task->tgid;
	e->channel = CHAN_TCP;
	e->nr = task->flags & PF_EXITING ? NO_CALL : r->orig_ax;
	e->ret = 0;
	e->sp = r->sp;
	e->chan = sock_inode(sk);
	e->peer = remote;
	e->stack = settings.want_stacks ? take_stack() : 0;
	e->flags = FLAG_PEER_INET;
	e->count = 0;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}
#endif
