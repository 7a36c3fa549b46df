/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Jobs put into a queue in memory and taken out of it, by the functions that the user named (--queue). */
#ifndef CLEW_QUEUE_BPF_H
#define CLEW_QUEUE_BPF_H
#include "calls.bpf.h"

/* A probe's cookie: which argument is the job (from 1 on), and whether the function takes it out. */
enum { JOB_ARGUMENT = 0xff, JOB_TAKEN = 0x100 };

/* The registers that a uprobe is given.  Where they lie is fixed (arch/x86/include/uapi/asm/ptrace.h), and must be: a context
 * may be read at constant offsets only, which those of CO-RE are not to the verifier. */
struct probed_regs {
	u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

/* As the System V ABI passes integers and pointers on x86-64. */
static __always_inline u64 argument_of(const volatile struct probed_regs *regs, u64 number)
{
	u64 first = regs->di, second = regs->si, third = regs->dx, fourth = regs->cx, fifth = regs->r8, sixth = regs->r9;

	return number == 1 ? first : number == 2 ? second : number == 3 ? third
	     : number == 4 ? fourth : number == 5 ? fifth : sixth;
}

/* No stack goes with it: what takes one works in memory of this processor, and a uprobe may be preempted. */
static __always_inline int tell_job(const volatile struct probed_regs *regs, u64 job, u64 cookie)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct call *c = call_of(task);
	u32 kind = cookie & JOB_TAKEN ? KIND_RECV : KIND_SEND;
	if (!c) {
		count_lost(kind);
		return 0;
	}
	if (c->traced != TRACED_YES || !job)
		return 0;
	struct clew_event *e = new_event(kind, bpf_ktime_get_ns());
	if (!e)
		return 0;
	e->t0 = e->t;
	e->tid = task->pid;
	e->pid = task->tgid;
	e->channel = CHAN_QUEUE;
	e->nr = 0;
	e->ret = 0;
	e->sp = regs->sp;
	e->chan = e->peer = job;
	e->stack = 0;
	e->flags = 0;
	e->count = 0;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("uprobe")
int queue_entry(struct probed_regs *regs)
{
	u64 cookie = bpf_get_attach_cookie(regs);
	return tell_job(regs, argument_of(regs, cookie & JOB_ARGUMENT), cookie);
}

SEC("uretprobe")
int queue_return(struct probed_regs *regs)
{
	return tell_job(regs, regs->ax, bpf_get_attach_cookie(regs));
}
#endif
