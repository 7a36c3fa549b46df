/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* How the kernel's events reach a program, and what comes with them.
 *
 * A raw tracepoint hands over the kernel's own arguments.  Since Linux 7.0 it can be preempted amid a program (the kernel
 * guards it by SRCU then: struct tp_transition_snapshot has srcu_gp, kernel/tracepoint.c).  The task that runs next on
 * that processor finds the program busy and is passed over (__bpf_trace_run(), kernel/trace/bpf_trace.c), and what the
 * programs keep for each processor is overwritten.  bpf_preempt_disable() would not do: its end is where the processor
 * changes hands, and the program is still busy.  As a perf event the same tracepoint runs with preemption off
 * (include/trace/perf.h), and hands over copies of some fields: so it is in the objects called …_perf.
 *
 * One thing passes such a program over all the same: a task that is preempted amid a map operation of bpf(2), its own or
 * another tool's (bpf_disable_instrumentation(), include/linux/bpf.h).  The kernel counts it, and so do we.
 *
 * Tracepoints that are hit with interrupts off (sched_waking, signals) are raw in all objects. */
#ifndef CLEW_EVENTS_BPF_H
#define CLEW_EVENTS_BPF_H
#include "kernel.bpf.h"

/* The argument that BPF_PROG unpacks: tp_btf programs get their arguments as an array of u64. */
typedef u64 btf_args;
#define ARG(type, n) ((type)(ctx[n]))

/* A pointer as a number.  The verifier does not let one be called that, but what a probe read finds, in our own stack too,
 * is one. */
static __always_inline u64 number_of(const volatile void *pointer)
{
	u64 number = 0;
	bpf_probe_read_kernel(&number, sizeof(number), &pointer);
	return number;
}

#ifdef CLEW_PERF
#define EVENT(group, name) SEC("tp/" #group "/" #name)

struct trace_event_raw_sys_enter { long id; } __core;
struct trace_event_raw_sys_exit { long ret; } __core;
struct trace_event_raw_sched_process_fork { s32 child_pid; } __core;
struct trace_event_raw_sched_process_exec { u32 __data_loc_filename; s32 old_pid; } __core;
struct trace_event_raw_task_rename { s32 pid; char newcomm[16]; } __core;
struct trace_event_raw_inet_sock_set_state { const void *skaddr; int oldstate, newstate; } __core;
/* No typedefs: libbpf looks for the type that was named (CO-RE). */
#define enter_args struct trace_event_raw_sys_enter
#define return_args struct trace_event_raw_sys_exit
#define fork_args struct trace_event_raw_sched_process_fork
#define exec_args struct trace_event_raw_sched_process_exec
#define rename_args struct trace_event_raw_task_rename
#define shut_args struct trace_event_raw_inet_sock_set_state

/* Linux 6.2. */
extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;
extern void bpf_task_release(struct task_struct *task) __ksym;

#define entered_call(ctx) ((u64)(ctx)->id)
#define entered_regs(ctx) bpf_task_pt_regs(bpf_get_current_task_btf())
#define returned_value(ctx) ((s64)(ctx)->ret)
#define returned_regs(ctx) bpf_task_pt_regs(bpf_get_current_task_btf())
#define forked_task(ctx) bpf_task_from_pid((ctx)->child_pid)
#define renamed_task(ctx) bpf_task_from_pid((ctx)->pid)
#define renamed_to(ctx) ((const char *)&(ctx)->newcomm)
#define drop_task(task) bpf_task_release(task)
#define exec_name_at(ctx) (number_of(ctx) + ((ctx)->__data_loc_filename & 0xffff))
#define exec_old_tid(ctx) ((u32)(ctx)->old_pid)
#define shut_socket(ctx) ((struct sock *)(ctx)->skaddr)
#define shut_from(ctx) ((ctx)->oldstate)
#define shut_to(ctx) ((ctx)->newstate)
#else
#define EVENT(group, name) SEC("tp_btf/" #name)

typedef btf_args enter_args, return_args, fork_args, exec_args, rename_args, shut_args;

#define entered_call(ctx) ARG(u64, 1)
#define entered_regs(ctx) ARG(struct pt_regs *, 0)
#define returned_value(ctx) ARG(s64, 1)
#define returned_regs(ctx) ARG(struct pt_regs *, 0)
#define forked_task(ctx) ARG(struct task_struct *, 1)
#define renamed_task(ctx) ARG(struct task_struct *, 0)
#define renamed_to(ctx) ARG(const char *, 1)
#define drop_task(task) ((void)0)
#define exec_name_at(ctx) number_of(member_of(ARG(struct linux_binprm *, 2), filename))
#define exec_old_tid(ctx) ARG(u32, 1)
#define shut_socket(ctx) ARG(struct sock *, 0)
#define shut_from(ctx) ARG(int, 1)
#define shut_to(ctx) ARG(int, 2)
#endif

/* Where on its stack the processor was when it met a raw tracepoint: the arguments lie there. */
static __always_inline u32 stack_of_raw(btf_args *ctx)
{
	u32 here;
	/* A 32-bit copy of a pointer is a plain number to the verifier. */
	asm volatile("r1 = %1; w1 = w1; %0 = r1" : "=r"(here) : "r"(ctx) : "r1");
	return here;
}

/* The same of any event. */
static __always_inline u32 stack_of_event(void *ctx)
{
#ifdef CLEW_PERF
	/* The arguments lie in a buffer; they begin with where the registers do (perf_fetch_caller_regs()). */
	struct pt_regs *regs = NULL;
	u64 sp = 0;
	bpf_probe_read_kernel(&regs, sizeof(regs), ctx);
	read_field(sp, regs, sp);
	return sp;
#else
	return stack_of_raw(ctx);
#endif
}

/* Whether an interrupt, hard or soft, runs on top of the current task, which is inside the kernel.  Interrupts that
 * arrive there run on a stack of their own (arch/x86/include/asm/irq_stack.h), and so does what they make.  The
 * preemption counter would say the same, but without CONFIG_KALLSYMS_ALL a program may not name it. */
static __always_inline int interrupted(u32 here, struct task_struct *task)
{
	u32 low = (u64)member_of(task, stack), high = (u64)bpf_task_pt_regs(task);
	return here - low >= high - low;
}
#endif
