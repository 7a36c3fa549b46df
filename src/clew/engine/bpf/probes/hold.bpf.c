/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Stops tasks at chosen points.  Everything is decided here, in the kernel: what no rule wants is not
 * stopped, and not slowed by more than the look at it.
 *
 * A stop is a SIGSTOP that the task sends itself from inside the event; it takes effect when the task is next
 * about to run user instructions (do_signal_stop, kernel/signal.c).
 */
/* Where the kernel can give a task work of its own (hold_alone*.bpf.c), a thread that is to be held alone waits for its
 * tracer where it is: its siblings and whoever watches its process see nothing of it, and no signal moves it. */
#ifdef HOLD_CAN_WAIT
#include "hold_wait.bpf.h"
#else
#include "hold_take.bpf.h"
#endif

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#ifdef HOLD_CAN_WAIT
/* The work: runs in the task, before its next user instruction and before any signal.  If nobody comes, the session
 * being busy, its process is stopped as where no task can wait. */
static int hold_before_user(struct bpf_map *map, void *key, void *value)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 tid = task->pid;
	struct held *note = bpf_map_lookup_elem(&held, &tid);

	if (!note || note->how != HOW_WAIT || note->start != task->start_boottime || hold_wait_for_tracer(task) ||
	    hold_is_ending((void *)task) || !hold_settings_now())
		return 0;
	note = bpf_map_lookup_elem(&held, &tid);
	if (!note)
		return 0;
	note->how = HOW_SIGNAL;
	bpf_send_signal(SIGSTOP);
	hold_tell(tid);
	return 0;
}

/* Has the current task wait for its tracer; 0 if it will. */
static __noinline int hold_have_wait(u32 tid)
{
	struct hold_work *work = hold_work_for(tid, 0);

	return work ? hold_give_work(bpf_get_current_task_btf(), &work->work, hold_before_user) : -1;
}
#endif

static __noinline u32 hold_how(u32 rule)
{
#ifdef HOLD_CAN_WAIT
	struct hold_rule *row = bpf_map_lookup_elem(&rules, &rule);
	return row && row->flags & RULE_ALONE ? HOW_WAIT : HOW_SIGNAL;
#else
	return HOW_SIGNAL;
#endif
}

/* Holds the task that runs now.  In a frame of its own: what matches a rule needs all but 32 bytes of the stack. */
static __noinline void hold_current(u32 rule, u32 exact, u32 detail, struct pt_regs *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u32 tid = task->pid, how = hold_how(rule);

	if (!hold_note(task, rule, exact | how * HOW, detail, regs))
		return;
#ifdef HOLD_CAN_WAIT
	if (how == HOW_WAIT && !hold_have_wait(tid)) {
		hold_tell(tid);
		return;
	}
	struct held *note = bpf_map_lookup_elem(&held, &tid);
	if (note)
		note->how = HOW_SIGNAL;
#endif
	bpf_send_signal(SIGSTOP);
	hold_tell(tid);
}

/* After a successful exec, in the new image: its PC is at the loader's entry. */
EVENT(sched, sched_process_exec)
int hold_exec(exec_args *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 mask = hold_rules_of(KIND_EXEC);

	if (!mask || hold_is_traced(task))
		return 0;
	int rule = hold_decide(hold_number(task), exec_name_at(ctx), mask);
	if (rule > 0)
		hold_current(rule - 1, EXACT_ENTRY, 0, bpf_task_pt_regs(task));
	return 0;
}

/* In the parent; the child is complete and has not run.  One that a debugger traces from birth (it followed
 * the fork) is left to it, and held at the first system call it makes when the debugger has let it go. */
static __always_inline void hold_child(struct task_struct *child, struct task_struct *parent)
{
	u64 mask = hold_rules_of(KIND_FORK);
	struct hold_settings *s = hold_settings_now();
	u32 traced = hold_is_traced(child);

	if (!mask || !s || child->tgid == parent->tgid)
		return;
	if (traced)
		mask &= s->under_debugger;
	int rule = hold_decide(hold_number(child), 0, mask);
	if (rule <= 0)
		return;
	if (traced || s->forked_later || !has(bpf_send_signal_task)) {
		u32 tgid = child->tgid;
		struct hold_later later = {.start = child->start_boottime, .rule = rule - 1};
		bpf_map_update_elem(&pending, &tgid, &later, BPF_ANY);
		return;
	}
	if (!hold_note(child, rule - 1, EXACT_CLONE, 0, bpf_task_pt_regs(child)))
		return;
	bpf_send_signal_task(child, SIGSTOP, PIDTYPE_TGID, 0);
	hold_tell(child->pid);
}

EVENT(sched, sched_process_fork)
int hold_fork(fork_args *ctx)
{
	struct task_struct *child = forked_task(ctx);
	if (!child)
		return 0;
	hold_child(child, bpf_get_current_task_btf());
	drop_task(child);
	return 0;
}

EVENT(raw_syscalls, sys_enter)
int hold_pending(enter_args *ctx)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct hold_later *later = bpf_map_lookup_elem(&pending, &tgid);
	struct task_struct *task = bpf_get_current_task_btf();

	if (!later || !hold_settings_now() || hold_is_traced(task))
		return 0;
	u32 number = later->rule;
	int other = later->start != task->group_leader->start_boottime;
	bpf_map_delete_elem(&pending, &tgid);
	if (other)
		return 0;
	hold_current(number, EXACT_FIRST_SYSCALL, entered_call(ctx), bpf_task_pt_regs(task));
	return 0;
}

#define COOKIE_ANY_CALL (1 << 8)

/* Just before a system call whose number the code does not tell: whether the rule is about the one in the register. */
static __always_inline int hold_call_is_wanted(struct pt_regs *ctx, u64 cookie)
{
#ifdef __TARGET_ARCH_x86
	u32 number = ctx->ax;
	u64 *mask = bpf_map_lookup_elem(&syscall_rules, &number);

	return mask && *mask >> (cookie & (HOLD_RULES - 1)) & 1;
#else
	return 0;
#endif
}

/* At a function's entry, or a line's address; the cookie is the rule's number and how exact that is. */
SEC("uprobe")
int hold_call(struct pt_regs *ctx)
{
	u64 cookie = bpf_get_attach_cookie(ctx);
	struct task_struct *task = bpf_get_current_task_btf();

	if (!hold_settings_now() || hold_is_traced(task))
		return 0;
	if (cookie & COOKIE_ANY_CALL && !hold_call_is_wanted(ctx, cookie))
		return 0;
	if (cookie >> 32 == EXACT_BEFORE_SYSCALL) {
		u32 tid = bpf_get_current_pid_tgid();
		u64 start = task->start_boottime;
		bpf_map_update_elem(&asked, &tid, &start, BPF_ANY);
	}
	int rule = hold_decide(hold_number(task), 0, 1ull << (cookie & (HOLD_RULES - 1)));
	if (rule > 0)
		hold_current(rule - 1, cookie >> 32, 0, ctx);
	return 0;
}

/* When a signal's handler is about to be entered.  The default action of a signal follows at once, in this
 * very system call's or interrupt's end: who was not held before, by hold_fatal, can only be counted. */
SEC("tp_btf/signal_deliver")
int hold_signal(btf_args *ctx)
{
	u32 number = ARG(int, 0);
	struct task_struct *task = bpf_get_current_task_btf();
	u64 *mask = bpf_map_lookup_elem(&signal_rules, &number);
	void *handler = NULL;

	if (!mask || !*mask || !hold_settings_now() || hold_is_traced(task))
		return 0;
	read_field(handler, ARG(struct k_sigaction *, 2), sa.sa_handler);
	if (handler == (void *)SIG_IGN || (!handler && (hold_is_noted_fatal(task) || hold_is_spent(task))))
		return 0;
	int rule = hold_decide(hold_number(task), 0, *mask);
	if (rule > 0 && !handler)
		hold_count_fatal();
	else if (rule > 0)
		hold_current(rule - 1, EXACT_HANDLER, number, bpf_task_pt_regs(task));
	return 0;
}

/* At a system call's entry, where no uprobe stood before it (clew.hold.syscall_sites).  No signal stops a task before the call has run, unless the call waits: then it
 * ends at once, to be made again when the task is let go.  Which of the two it was, its end tells. */
EVENT(raw_syscalls, sys_enter)
int hold_syscall_enter(enter_args *ctx)
{
	u32 number = entered_call(ctx);
	struct task_struct *task = bpf_get_current_task_btf();
	u64 *mask = bpf_map_lookup_elem(&syscall_rules, &number);

	if (!mask || !*mask || !hold_settings_now() || hold_is_traced(task))
		return 0;
	u32 tid = bpf_get_current_pid_tgid();
	u64 *start = bpf_map_lookup_elem(&asked, &tid);
	int is_asked = start && *start == task->start_boottime;
	bpf_map_delete_elem(&asked, &tid);
	if (is_asked)
		return 0;
	int rule = hold_decide(hold_number(task), 0, *mask);
	if (rule > 0)
		hold_current(rule - 1, EXACT_AFTER_SYSCALL, number, bpf_task_pt_regs(task));
	return 0;
}

#define ERESTARTSYS 512
#define ERESTART_RESTARTBLOCK 516

EVENT(raw_syscalls, sys_exit)
int hold_syscall_exit(return_args *ctx)
{
	s64 result = returned_value(ctx);
	u32 tid = bpf_get_current_pid_tgid();
	struct held *note = bpf_map_lookup_elem(&held, &tid);

	if (note && note->exact == EXACT_AFTER_SYSCALL && result <= -ERESTARTSYS && result >= -ERESTART_RESTARTBLOCK)
		note->exact = EXACT_BEFORE_SYSCALL;
	return 0;
}

/* A process that a debugger is about to leave, and that is to be held on: its next step into the kernel
 * stops it, whatever signals the debugger has sent it in leaving.  Attached only for that while. */
EVENT(raw_syscalls, sys_enter)
int hold_keep(enter_args *ctx)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct task_struct *task = bpf_get_current_task_btf();
	u64 *start = bpf_map_lookup_elem(&keeping, &tgid);

	if (start && *start == hold_start(hold_number(task)) && !hold_is_traced(task))
		bpf_send_signal(SIGSTOP);
	return 0;
}
