/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* How a task waits for its tracer: by work of its own, which it does before it takes any signal (get_signal(),
 * kernel/signal.c) and before it runs another user instruction.  It lets others run meanwhile, and waits no longer
 * than WAIT_NS.
 *
 * An object for each way the kernel has to take the work: libbpf refuses one that declares a function in another way than
 * the kernel's BTF does, called or not.
 */
#ifndef CLEW_HOLD_WAIT_BPF_H
#define CLEW_HOLD_WAIT_BPF_H
#include "hold_take.bpf.h"

/* Linux 5.17 (commit e6f2dd0f8067), 5.18 (376040e47334). */
struct bpf_map {
	u32 id;
} __core;
static long (*const bpf_loop)(u32 most, void *step, void *context, u64 flags) = (void *)181;
static long (*const bpf_copy_from_user_task)(void *dst, u32 size, const void *src, struct task_struct *task,
					     u64 flags) = (void *)191;
/* Has the task call `work` before it takes its next signal. */
typedef int hold_work_function(struct bpf_map *map, void *key, void *value);
static __always_inline int hold_give_work(struct task_struct *task, struct bpf_task_work *work, hold_work_function *call);

#define WAIT_NS 200000000
#define WAIT_STEPS (1 << 22)
#define SIGNAL_GROUP_EXIT 4
#define JOBCTL_TRAP_STOP (1 << 19)

static __noinline u32 hold_is_ending(struct task_struct___hold *task)
{
	struct signal_struct___hold *signal = NULL;
	u32 flags = 0;

	read_field(signal, task, signal);
	read_field(flags, signal, flags);
	return flags & SIGNAL_GROUP_EXIT;
}

struct hold_wait {
	struct task_struct___hold *task;
	u64 until;
	u64 stack;
};

/* To read its own stack by the long way lets others run in between (cond_resched() in __get_user_pages(), mm/gup.c). */
static long hold_wait_step(u64 step, struct hold_wait *wait)
{
	struct task_struct___hold *task = wait->task;
	u64 jobctl = 0, word;

	read_field(jobctl, task, jobctl);
	if ((jobctl & JOBCTL_TRAP_STOP) || hold_is_ending(task) || !hold_settings_now() ||
	    bpf_ktime_get_ns() > wait->until)
		return 1;
	bpf_copy_from_user_task(&word, sizeof(word), (void *)wait->stack, bpf_get_current_task_btf(), 0);
	return 0;
}

/* Returns whether the tracer came. */
static __noinline int hold_wait_for_tracer(struct task_struct *task)
{
	struct hold_wait wait = {.task = (void *)task, .until = bpf_ktime_get_ns() + WAIT_NS};

	wait.stack = bpf_task_pt_regs(task)->sp & ~7ull;
	bpf_loop(WAIT_STEPS, hold_wait_step, &wait, 0);
	return hold_is_traced(task);
}

static __noinline struct hold_work *hold_work_for(u32 tid, u32 number)
{
	struct hold_work none = {.number = number};

	if (bpf_map_update_elem(&works, &tid, &none, BPF_ANY))
		return NULL;
	return bpf_map_lookup_elem(&works, &tid);
}
#endif
