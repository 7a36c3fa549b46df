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
 */
#ifndef CLEW_HOLD_FATAL_BPF_H
#define CLEW_HOLD_FATAL_BPF_H
#include "hold_wait.bpf.h"

#define BIT_OF(number) (1ull << ((number)-1))
/* SYNCHRONOUS_MASK and SIG_KERNEL_COREDUMP_MASK of kernel/signal.c and include/linux/signal.h. */
#define FAULTS (BIT_OF(11) | BIT_OF(7) | BIT_OF(4) | BIT_OF(5) | BIT_OF(8) | BIT_OF(31))
#define DUMPS_CORE (FAULTS | BIT_OF(3) | BIT_OF(6) | BIT_OF(24) | BIT_OF(25))

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

/* The work: runs in the task, at the beginning of get_signal(). */
static int hold_before_signal(struct bpf_map *map, void *key, void *value)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 number = ((struct hold_work *)value)->number;

	if (hold_is_traced(task) || !hold_settings_now() || !hold_is_deadly((void *)task, number))
		return 0;
	if (!hold_is_noted_fatal(task))
		hold_note_fatal(task, number);
	if (hold_is_noted_fatal(task) && !hold_wait_for_tracer(task))
		hold_count_fatal();
	return 0;
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
