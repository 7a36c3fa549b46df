/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Signals whose default action ends the process with a core: SIGSEGV, SIGABRT...
 *
 * No SIGSTOP comes before them: get_signal() (kernel/signal.c) takes the signals of a fault first, and acts where it
 * takes them.  But it does a task's own work before any signal, and what a tracer asked for before any signal too.  So
 * when the signal is sent the task is given the work to wait, for WAIT_NS at most, until the session has seized and
 * interrupted it; then it stops for its tracer with the signal still to come.  It is a task that has nothing
 * else to do but die.
 *
 * Other deadly signals (SIGTERM, SIGKILL) end the process where they are sent, in complete_signal().
 *
 * An object for each way the kernel has to take the work: libbpf refuses one that declares a function in another way than
 * the kernel's BTF does, called or not.
 */
#ifndef CLEW_HOLD_FATAL_BPF_H
#define CLEW_HOLD_FATAL_BPF_H
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

#define BIT_OF(number) (1ull << ((number)-1))
/* SYNCHRONOUS_MASK and SIG_KERNEL_COREDUMP_MASK of kernel/signal.c and include/linux/signal.h. */
#define FAULTS (BIT_OF(11) | BIT_OF(7) | BIT_OF(4) | BIT_OF(5) | BIT_OF(8) | BIT_OF(31))
#define DUMPS_CORE (FAULTS | BIT_OF(3) | BIT_OF(6) | BIT_OF(24) | BIT_OF(25))
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

/* Whether the signal would end the task's process with a core, now. */
static __noinline int hold_is_deadly(struct task_struct___hold *task, u32 number)
{
	struct sighand_struct *sighand = NULL;
	void *handler = NULL;
	u64 blocked = 0;

	if (!number || number > 31 || !(DUMPS_CORE & BIT_OF(number)))
		return 0;
	read_field(blocked, task, blocked.sig[0]);
	read_field(sighand, task, sighand);
	const char *actions = (const char *)__builtin_preserve_access_index(&sighand->action);
	actions += (number - 1) * __builtin_preserve_type_info(*(struct k_sigaction *)0, 1 /* its size */);
	read_field(handler, (struct k_sigaction *)actions, sa.sa_handler);
	return !handler && !(blocked & BIT_OF(number)) && !hold_is_ending(task);
}

static __noinline u64 hold_rules_of_signal(u32 number)
{
	u64 *named = bpf_map_lookup_elem(&signal_rules, &number);
	return hold_rules_of(KIND_EXIT) | (named ? *named : 0);
}

/* Notes that the current task is held for the signal, which was sent to it. */
static __always_inline void hold_note_fatal(struct task_struct *task, u32 number)
{
	u64 mask = hold_rules_of_signal(number);
	int rule = mask ? hold_decide(hold_number(task), 0, mask) : 0;

	if (rule > 0 && hold_note(task, rule - 1, EXACT_FATAL, number, bpf_task_pt_regs(task)))
		hold_tell(task->pid);
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
	if ((jobctl & JOBCTL_TRAP_STOP) || hold_is_ending(task) || bpf_ktime_get_ns() > wait->until)
		return 1;
	bpf_copy_from_user_task(&word, sizeof(word), (void *)wait->stack, bpf_get_current_task_btf(), 0);
	return 0;
}

static __noinline void hold_wait_for_tracer(struct task_struct *task)
{
	struct hold_wait wait = {.task = (void *)task, .until = bpf_ktime_get_ns() + WAIT_NS};

	wait.stack = bpf_task_pt_regs(task)->sp & ~7ull;
	bpf_loop(WAIT_STEPS, hold_wait_step, &wait, 0);
	if (!hold_is_traced(task))
		hold_count_fatal();
}

/* The work: runs in the task, at the beginning of get_signal(). */
static int hold_before_signal(struct bpf_map *map, void *key, void *value)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 number = ((struct hold_work *)value)->number;

	if (hold_is_traced(task) || !hold_settings_now() || !hold_is_deadly((void *)task, number))
		return 0;
	if (!hold_is_noted_fatal(task))
		hold_note_fatal(task, number);
	if (hold_is_noted_fatal(task))
		hold_wait_for_tracer(task);
	return 0;
}

/* The next functions keep little on the stack: matching a rule needs nearly all that a program may have. */
static __noinline struct hold_work *hold_work_for(u32 tid, u32 number)
{
	struct hold_work none = {.number = number};

	if (bpf_map_update_elem(&works, &tid, &none, BPF_ANY))
		return NULL;
	return bpf_map_lookup_elem(&works, &tid);
}

/* A signal was sent.  What a task does to itself, by a fault or by raise(3), is decided at once, so that the session
 * is on its way while the task comes to its work; another's argv can be read by itself alone. */
SEC("tp_btf/signal_generate")
int hold_fatal(btf_args *ctx)
{
	u32 number = ARG(u32, 0);
	struct task_struct *task = ARG(struct task_struct *, 2);
	struct hold_work *work;

	if (!hold_rules_of_signal(number) || hold_is_traced(task) || hold_is_spent(task) ||
	    !hold_is_deadly((void *)task, number))
		return 0;
	work = hold_work_for(task->pid, number);
	if (!work)
		return 0;
	if (task->pid == (s32)bpf_get_current_pid_tgid())
		hold_note_fatal(bpf_get_current_task_btf(), number);
	hold_give_work(task, &work->work, hold_before_signal);
	return 0;
}
#endif
