/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* System calls by which tasks talk, wait and wake: noted at entry, reported at return. */
#ifndef CLEW_CALLS_BPF_H
#define CLEW_CALLS_BPF_H
#include "addresses.bpf.h"
#include "stack.bpf.h"
#include "pids.bpf.h"
#include "ready.bpf.h"

#define TS_COMPAT 2 /* arch/x86/include/asm/thread_info.h */
#define SIGINFO_PID 16 /* in siginfo_t of x86-64: after signo, errno, code and padding */
#define EINPROGRESS 115

/* Argument `n` of the call, from 1 on. */
static __always_inline u64 argument(const struct pt_regs *r, u32 n)
{
	switch (n) {
	case 1: return r->di;
	case 2: return r->si;
	case 3: return r->dx;
	case 4: return r->r10;
	case 5: return r->r8;
	case 6: return r->r9;
	}
	return 0;
}

static __always_inline const volatile struct clew_shape *shape_of(const struct call *c)
{
	return &settings.shapes[c->nr & (SYSCALLS - 1)];
}

static __always_inline void note_control(struct call *c, struct clew_msghdr *m)
{
	struct clew_cmsghdr first = {};
	if (m->control && m->control_len >= sizeof(first) && !bpf_probe_read_user(&first, sizeof(first), (void *)m->control) &&
	    clew_passes_files(&first))
		c->end.flags |= FLAG_FDS;
}

/* What the message header says: an address (datagrams), passed descriptors. */
__checked_once int note_msghdr(struct call *c, u64 user)
{
	struct clew_msghdr m = {};
	if (!c || bpf_probe_read_user(&m, sizeof(m), (void *)user))
		return 0;
	note_control(c, &m);
	if (clew_takes_addresses(c->end.channel))
		peer_from_address(c, m.name, m.name_len);
	return 0;
}

/* splice, tee and sendfile have two descriptors. */
__checked_once int note_both(struct call *c)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *r = bpf_task_pt_regs(task);

	if (!c)
		return 0;
	int known = endpoint_of(task, c->fd, &c->end) == END_CHANNEL;
	if (c->class == CLASS_TEE)
		c->end.flags |= FLAG_PEEK;
	return (endpoint_of(task, argument(r, shape_of(c)->into), &c->end2) == END_CHANNEL) | known ? END_CHANNEL : END_NONE;
}

/* What the other arguments of a send or receive say. */
__checked_once int note_arguments(struct call *c)
{
	struct pt_regs *r = bpf_task_pt_regs(bpf_get_current_task_btf());

	if (!c)
		return 0;
	const volatile struct clew_shape *s = shape_of(c);
	c->end.flags |= clew_message_flags(c->kind, argument(r, s->flags));
	if (c->kind == KIND_SEND && s->header)
		note_msghdr(c, argument(r, s->header));
	else if (c->kind == KIND_SEND && argument(r, s->address) && clew_takes_addresses(c->end.channel))
		peer_from_address(c, argument(r, s->address), argument(r, s->length));
	return 0;
}

static __always_inline int note_descriptors(struct task_struct *task, struct call *c)
{
	if (c->class == CLASS_PAIR || c->class == CLASS_TEE)
		return note_both(c);
	int found = endpoint_of(task, c->fd, &c->end);
	if (found == END_CHANNEL && shape_of(c)->flags)
		note_arguments(c);
	return found;
}

/* The call has no endpoint that we know; if it is told, then for who ended it. */
static __always_inline int forget_end(struct call *c)
{
	c->end.chan = c->end.peer = 0;
	c->end.channel = CHAN_NONE;
	c->end.flags = 0;
	c->stack = 0;
	return LIVE_IF_WOKEN;
}

/* One word of a list of `n`; while a task waits at several, none is the one it waits at. */
__checked_once u64 listed_word(u64 list, u32 at, u32 n)
{
	struct clew_futex_waitv w = {};
	if (!at && n > 1)
		return 0;
	bpf_probe_read_user(&w, sizeof(w), (void *)(list + at * sizeof(w)));
	return w.word;
}

/* Fills `c` for the current task's system call; gives LIVE_*.  Called at entry, or at the return of a call
 * that was entered before the recording began (its registers still hold the arguments). */
static __always_inline int note_call(struct task_struct *task, struct pt_regs *r, struct call *c, u32 nr)
{
	const volatile struct clew_shape *s = &settings.shapes[nr & (SYSCALLS - 1)];
	c->nr = nr;
	c->class = s->class;
	c->kind = s->kind;
	c->sp = r->sp;
	c->woken = 0;
	c->fd = s->fd == 1 ? r->di : argument(r, s->fd);
	if (c->kind == KIND_SEND || c->kind == KIND_RECV) {
		int found = note_descriptors(task, c);
		if (found != END_CHANNEL)
			return found == END_OTHER ? forget_end(c) : LIVE_NOT;
	} else if (c->class == CLASS_FUTEX) {
		c->end.chan = clew_futex_lists(nr) ? listed_word(r->di, 0, r->si) : r->di;
		c->end.peer = (u64)member_of(task, mm);
		c->end.channel = CHAN_FUTEX;
		c->end.flags = 0;
		c->fd = argument(r, clew_futex_operation(nr));
		c->kind = clew_futex_kind(nr, c->fd);
	} else {
		forget_end(c);
		if (c->class == CLASS_OPEN)
			return LIVE_IF_WOKEN;
	}
	c->stack = settings.want_stacks ? take_stack() : 0;
	return LIVE_TOLD;
}

EVENT(raw_syscalls, sys_enter)
int record_sys_enter(enter_args *ctx)
{
	u64 nr = entered_call(ctx);

	if (nr >= SYSCALLS)
		return 0;
	if (!settings.shapes[nr].class)
		return 0;
	struct task_struct *task = bpf_get_current_task_btf();
	/* A 32-bit program's numbers mean other calls. */
	if (task->thread_info.status & TS_COMPAT)
		return 0;
	struct call *c = call_of(task);
	if (!c) {
		count_lost(KIND_NONE);
		return 0;
	}
	if (c->traced != TRACED_YES)
		return 0;
	c->t0 = bpf_ktime_get_ns();
	c->switches = member_of(task, nvcsw);
	c->live = note_call(task, entered_regs(ctx), c, nr);
	return 0;
}

/* Bytes of the messages that sendmmsg or recvmmsg moved. */
__checked_once u32 sum_messages(u64 user, u32 messages)
{
	struct clew_mmsghdr *m = (void *)user;
	u32 bytes = 0;
	for (u32 i = 0; i < CLEW_MESSAGES; i++) {
		u32 len = 0;
		if (i >= messages)
			break;
		bpf_probe_read_user(&len, sizeof(len), &m[i].len);
		bytes += len;
	}
	return bytes;
}

static __always_inline void tell_call(struct task_struct *task, struct call *c, u32 kind, u64 now, s64 ret, u16 count)
{
	struct clew_event *e = new_event(kind, now);
	if (!e)
		return;
	e->t0 = c->t0;
	e->tid = task->pid;
	e->pid = task->tgid;
	e->channel = c->end.channel;
	e->nr = c->nr;
	e->ret = ret;
	e->sp = c->sp;
	e->chan = c->end.chan;
	e->peer = c->end.peer;
	e->stack = c->stack;
	/* Where the entry was not seen, nothing says whether the task slept since. */
	e->flags = c->end.flags | (c->t0 && c->switches != (u32)member_of(task, nvcsw) ? FLAG_BLOCKED : 0);
	e->count = count;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

/* Puts into the call what a descriptor stands for now: at the return of a connect, or of an accept, which made it. */
__checked_once int endpoint_now(struct call *c, u32 fd)
{
	return c && endpoint_of(bpf_get_current_task_btf(), fd, &c->end) == END_CHANNEL;
}

/* splice, tee and sendfile take from one descriptor and put into another: two records. */
static __always_inline void tell_both(struct task_struct *task, struct call *c, u64 now, s64 ret)
{
	if (c->end.channel)
		tell_call(task, c, KIND_RECV, now, ret, c->fd);
	if (c->end2.channel) {
		c->end = c->end2;
		tell_call(task, c, KIND_SEND, now, ret, c->fd);
	}
}

static __noinline int tell_creds(struct task_struct *task, struct call *c, u64 now)
{
	struct clew_life l = {};
	const struct cred *cred = member_of(task, cred);
	l.t = now;
	l.kind = KIND_CREDS_NOW;
	l.tid = task->pid;
	l.pid = task->tgid;
	l.start = task->start_boottime;
	l.uid = member_of(cred, euid.val);
	l.gid = member_of(cred, egid.val);
	l.stack = c->stack;
	l.code = c->nr;
	if (bpf_ringbuf_output(&lifecycle, &l, sizeof(l), 0))
		count_lost(KIND_CREDS_NOW);
	return 0;
}

/* A call that is worth a word only because another task's doing ended it, or because it began before we did. */
static __always_inline void tell_woken(struct task_struct *task, struct call *c, u64 now, s64 ret)
{
	if (!c->woken && c->t0)
		return;
	c->stack = settings.want_stacks ? take_stack() : 0;
	tell_call(task, c, KIND_WAIT, now, ret, 0);
}

static __always_inline void tell_return(struct task_struct *task, struct pt_regs *r, struct call *c, s64 ret)
{
	u64 now = c->t = bpf_ktime_get_ns();
	u16 count = c->fd;

	if (c->class == CLASS_CALL)
		return;
	if (c->live == LIVE_IF_WOKEN) {
		tell_woken(task, c, now, ret);
		return;
	}
	if (c->class == CLASS_PAIR || c->class == CLASS_TEE) {
		tell_both(task, c, now, ret);
		return;
	}
	const volatile struct clew_shape *s = shape_of(c);
	if (c->class == CLASS_MESSAGES && ret > 0) {
		count = ret;
		ret = sum_messages(argument(r, s->header), ret);
	} else if (c->kind == KIND_RECV && s->header && ret >= 0) {
		note_msghdr(c, argument(r, s->header));
	} else if (c->kind == KIND_RECV && argument(r, s->address) && ret >= 0 && c->end.channel == CHAN_UDP) {
		peer_from_address(c, argument(r, s->address), 28);
	}
	if (c->nr == CLEW_NR_WAITID && c->class == CLASS_WAIT_CHILD && ret == 0) {
		u32 child = 0;
		bpf_probe_read_user(&child, sizeof(child), (void *)r->dx + SIGINFO_PID);
		ret = child;
	}
	if (c->class == CLASS_WAIT_CHILD || c->class == CLASS_CLONE)
		ret = machine_pid(task, ret);
	if (c->nr == CLEW_NR_FUTEX_WAITV && ret >= 0)
		c->end.chan = listed_word(r->di, ret, ret + 1); /* the one that was woken */
	if (c->class == CLASS_CRED && ret == 0)
		tell_creds(task, c, now);
	u32 kind = c->kind;
	if (kind == KIND_WAIT && c->class != CLASS_ACCEPT)
		count = ret > 0 ? tell_ready(c, ret) : 0;
	if (kind == KIND_ARM) {
		if (ret)
			return;
		ret = note_armed(c);
		count = c->class == CLASS_EPOLL_CTL ? r->si : 0;
	}
	if (c->class == CLASS_CONNECT && !endpoint_now(c, count))
		return;
	if (c->class == CLASS_ACCEPT && ret >= 0 && endpoint_now(c, ret))
		kind = KIND_ACCEPT;
	tell_call(task, c, kind, now, ret, count);
}

/* First sight of this task: it was in this call before the recording began. */
static __noinline int tell_late(struct task_struct *task, struct pt_regs *regs, u32 nr, s64 ret)
{
	u32 class = nr < SYSCALLS ? settings.shapes[nr].class : CLASS_NONE;
	if (class == CLASS_CLONE || class == CLASS_EXEC || task->thread_info.status & TS_COMPAT)
		return 0;
	struct call *c = call_of(task);
	if (c && c->traced == TRACED_YES && (c->live = note_call(task, regs, c, nr))) {
		c->t0 = 0;
		tell_return(task, regs, c, ret);
		c->live = LIVE_NOT;
	}
	return 0;
}

EVENT(raw_syscalls, sys_exit)
int record_sys_exit(return_args *ctx)
{
	struct pt_regs *regs = returned_regs(ctx);
	u64 nr = regs->orig_ax;

	if (nr >= SYSCALLS || !settings.shapes[nr].class)
		return 0;
	struct task_struct *task = bpf_get_current_task_btf();
	struct call *c = bpf_task_storage_get(&calls, task, NULL, 0);
	if (!c || c->traced == TRACED_UNKNOWN)
		return tell_late(task, regs, nr, returned_value(ctx));
	if (!c->live)
		return 0; /* seen entering, and not ours to tell */
	/* After a successful exec the entry belongs to the image that is gone; EXECED tells of it. */
	if (c->class != CLASS_EXEC || returned_value(ctx) < 0)
		tell_return(task, regs, c, returned_value(ctx));
	c->live = LIVE_NOT;
	return 0;
}

/* Run once, at the end: the waits that have not returned.  They show which places a task waits at again. */
SEC("iter/task")
int record_waiting(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	if (!task)
		return 0;
	struct call *c = bpf_task_storage_get(&calls, task, NULL, 0);
	if (!c || !c->live || c->traced != TRACED_YES)
		return 0;
	u32 kind = c->live == LIVE_IF_WOKEN ? KIND_WAIT : c->kind;
	if (kind != KIND_RECV && kind != KIND_WAIT && kind != KIND_FUTEX_WAIT && kind != KIND_WAIT_CHILD)
		return 0;
	c->end.flags |= FLAG_PENDING;
	tell_call(task, c, kind, bpf_ktime_get_ns(), -EINPROGRESS, kind == KIND_WAIT ? 0 : c->fd);
	return 0;
}

#endif
