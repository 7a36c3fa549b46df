/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* From an event to a decision: which rule takes it, who is spared, and the note of whom we hold. */
#ifndef CLEW_HOLD_TAKE_BPF_H
#define CLEW_HOLD_TAKE_BPF_H
#include "hold_match.bpf.h"

enum { SPARE_NOT, SPARE_DEBUGGED, SPARE_ALWAYS };

/* pid 1 and our own are never held; nor debuggers and what they start, unless a rule says so. */
__checked_once int hold_spares(u64 task)
{
	struct comm comm;
	u32 self = hold_tgid(task);
	int debugged = SPARE_NOT;

	if (self <= 1)
		return SPARE_ALWAYS;
	for (int i = 0; i < HOLD_ANCESTORS; i++) {
		u32 tgid = task ? hold_tgid(task) : 0;
		if (!tgid)
			break;
		struct hold_spare *spare = bpf_map_lookup_elem(&spared, &tgid);
		u32 how = spare && spare->start == hold_start(task) ? spare->how : 0;
		if (how && (tgid == self || (how & SPARED_TREE)))
			return SPARE_ALWAYS;
		if (how & SPARED_TOP)
			break;
		__builtin_memset(&comm, 0, sizeof(comm));
		read_field(comm.text, (struct task_struct *)task, comm);
		if (bpf_map_lookup_elem(&debuggers, &comm))
			debugged = tgid == self ? SPARE_ALWAYS : SPARE_DEBUGGED;
		if (debugged == SPARE_ALWAYS)
			return debugged;
		task = hold_parent(task);
	}
	return debugged;
}

/* The steps of hold_decide's loops.  Each is a function of its own so that its outcome is just a number to
 * the verifier, which would else follow every set of matching rules separately. */
__checked_once u64 hold_add_match(u64 task, u64 filename, u64 matched, u32 at)
{
	return hold_rule_matches(task, filename, at, 0) ? matched | 1ull << (at & 63) : matched;
}

__checked_once int hold_count(u32 at, int taken)
{
	struct hold_rule *rule = bpf_map_lookup_elem(&rules, &at);

	if (!rule)
		return taken;
	u64 hit = __sync_fetch_and_add(&rule->hits, 1) + 1;
	return !taken && hit >= rule->first && hit <= rule->last ? at + 1 : taken;
}

__checked_once int hold_exclusion_matches(u64 task, u64 filename, u32 at)
{
	return hold_rule_matches(task, filename, at, 1);
}

static __always_inline int hold_excluded(u64 task, u64 filename, u32 number)
{
	for (u32 i = 0; i < HOLD_RULES; i++) {
		if (i >= number)
			break;
		if (hold_exclusion_matches(task, filename, i))
			return 1;
	}
	return 0;
}

/* The rule (from 1) of those in the mask that takes this event, 0 if none does.  A hit is counted for every
 * rule that matches, as clew.model.rules.select counts it. */
__checked_once int hold_decide(u64 task, u64 filename, u64 mask)
{
	struct hold_settings *s = hold_settings_now();
	u64 matched = 0;
	int taken = 0;

	if (!s)
		return 0;
	for (u32 i = 0; i < HOLD_RULES; i++)
		if (mask >> i & 1)
			matched = hold_add_match(task, filename, matched, i);
	if (!matched)
		return 0;
	int spared = hold_spares(task);
	if (spared == SPARE_ALWAYS)
		return 0;
	if (spared == SPARE_DEBUGGED)
		matched &= s->under_debugger;
	if (!matched || hold_excluded(task, filename, s->exclusions))
		return 0;
	for (u32 i = 0; i < HOLD_RULES; i++)
		if (matched >> i & 1)
			taken = hold_count(i, taken);
	return taken;
}

/* Notes that the task is held, before anyone stops it; exact may be or-ed with HOW * an enum hold_how.  Returns 0 if it
 * must not be: enough are. */
static __noinline int hold_note(struct task_struct *task, u32 rule, u32 exact, u32 detail, struct pt_regs *regs)
{
	struct held h = {};
	u32 zero = 0;
	struct hold_settings *s = hold_settings_now();
	struct hold_counts *n = bpf_map_lookup_elem(&counts, &zero);

	if (!s || !n)
		return 0;
	if (__sync_fetch_and_add(&n->taken, 1) - s->let_go >= s->most) {
		__sync_fetch_and_add(&n->taken, -1);
		__sync_fetch_and_add(&n->over, 1);
		return 0;
	}
	h.start = task->start_boottime;
	h.group_start = task->group_leader->start_boottime;
	h.t = bpf_ktime_get_ns();
	h.tgid = task->tgid;
	h.tid = task->pid;
	h.rule = rule;
	h.exact = exact & (HOW - 1);
	h.how = exact / HOW;
	h.detail = detail;
	bpf_probe_read_kernel(h.comm, sizeof(h.comm), task->comm);
	bpf_probe_read_kernel(h.regs, sizeof(h.regs), regs);
	u32 tid = h.tid;
	/* A task that is held already (a leftover entry of an ended one aside) keeps its first note. */
	struct held *before = bpf_map_lookup_elem(&held, &tid);
	if ((before && before->start == h.start) || bpf_map_update_elem(&held, &tid, &h, BPF_ANY)) {
		__sync_fetch_and_add(&n->taken, -1);
		if (!before)
			__sync_fetch_and_add(&n->failed, 1);
		return 0;
	}
	return 1;
}

static __always_inline void hold_tell(u32 tid)
{
	u64 *note = bpf_ringbuf_reserve(&news, sizeof(*note), 0);
	if (!note)
		return;
	*note = tid;
	bpf_ringbuf_submit(note, BPF_RB_FORCE_WAKEUP);
}

static __always_inline void hold_count_fatal(void)
{
	u32 zero = 0;
	struct hold_counts *n = bpf_map_lookup_elem(&counts, &zero);

	if (n)
		__sync_fetch_and_add(&n->fatal, 1);
	hold_tell(0);
}

/* Whether the signal that it was held for has come again: then it is to have it. */
static __noinline int hold_is_spent(struct task_struct *task)
{
	u32 tid = task->pid;
	u64 *start = bpf_map_lookup_elem(&spent, &tid);

	return start && *start == task->start_boottime;
}

static __noinline int hold_is_noted_fatal(struct task_struct *task)
{
	u32 tid = task->pid;
	struct held *note = bpf_map_lookup_elem(&held, &tid);

	return note && note->exact == EXACT_FATAL && note->start == task->start_boottime;
}

/* A debugger that has the task decides over it. */
static __always_inline int hold_is_traced(struct task_struct *task)
{
	u32 traced = 0;
	read_field(traced, (struct task_struct___hold *)task, ptrace);
	return traced != 0;
}
#endif
