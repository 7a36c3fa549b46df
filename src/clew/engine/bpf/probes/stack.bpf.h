/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* A copy of the user stack, once per distinct stack. */
#ifndef CLEW_STACK_BPF_H
#define CLEW_STACK_BPF_H
#include "state.bpf.h"

#define STACK_MAX 16384
#define STACK_BLOCK 64 /* words hashed at a time */

struct stack_block {
	u64 words[STACK_BLOCK];
};
struct stack_record {
	struct clew_stack head;
	struct stack_block blocks[STACK_MAX / 8 / STACK_BLOCK];
};
struct stack_hash {
	u64 lane[4];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct stack_record);
} stack_scratch SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, u32);
} stacks_saved SEC(".maps");

/* Stacks saved so far.  An event names its stack by the number: two stacks never share one. */
static u32 stack_count SEC(".data.stacks");

/* How much there is between sp and the stack's outer end: the first thread's ends at the arguments the
 * kernel put there, another one's (glibc, musl) at its own control block, which the thread register names. */
static __always_inline u64 stack_depth(struct task_struct *task, struct mm_struct *mm, u64 sp)
{
	u64 top = member_of(mm, start_stack);
	if (sp < top && top - sp < (8 << 20))
		return top - sp;
	top = task->thread.fsbase;
	if (sp < top && top - sp < (8 << 20))
		return top - sp;
	return STACK_MAX;
}

static __always_inline u32 copy_stack(struct stack_record *s, u64 sp, u64 want)
{
	u32 len = want > STACK_MAX ? STACK_MAX : (want + 31) & ~31u;
	if (len > settings.stack_limit)
		len = settings.stack_limit;
	if (len > STACK_MAX)
		len = STACK_MAX;
	barrier_var(len);
	if (len <= STACK_MAX && !bpf_probe_read_user(s->blocks, len, (void *)sp))
		return len & ~31u;
	/* Part of it is not mapped (or swapped out): take whole pages up to there. */
	u32 have = 0, step = 4096 - (sp & 4095);
	for (int i = 0; i < 5; i++) {
		if (have + step > STACK_MAX || have >= len)
			break;
		barrier_var(have);
		barrier_var(step);
		if (have > STACK_MAX - 4096 || step > 4096)
			break;
		if (bpf_probe_read_user((char *)s->blocks + have, step, (void *)(sp + have)))
			break;
		have += step;
		step = 4096;
	}
	return have & ~31u;
}

/* The first `n` words (a multiple of four) of a block. */
__checked_once int mix_block(struct stack_hash *hash, const struct stack_block *block, u32 n)
{
	if (!hash || !block)
		return 0;
	u64 a = hash->lane[0], b = hash->lane[1], c = hash->lane[2], d = hash->lane[3];
	for (u32 i = 0; i < STACK_BLOCK; i += 4) {
		if (i >= n)
			break;
		a = clew_mix(a, block->words[i]);
		b = clew_mix(b, block->words[i + 1]);
		c = clew_mix(c, block->words[i + 2]);
		d = clew_mix(d, block->words[i + 3]);
	}
	hash->lane[0] = a;
	hash->lane[1] = b;
	hash->lane[2] = c;
	hash->lane[3] = d;
	return 0;
}

static __always_inline u64 hash_stack(struct stack_record *s, u32 len, u64 seed)
{
	struct stack_hash h = {{seed, 1, 2, 3}};
	u32 n = len / 8;
	for (u32 i = 0; i < STACK_MAX / 8 / STACK_BLOCK; i++) {
		if (i * STACK_BLOCK >= n)
			break;
		mix_block(&h, &s->blocks[i], n - i * STACK_BLOCK);
	}
	return clew_join_lanes(h.lane);
}

/* Gives the copied stack a number and writes it.  0 is no stack: nobody saves four thousand million of them. */
static __always_inline u32 save_stack(struct stack_record *s, u64 hash, u64 sp, u32 len)
{
	struct pt_regs *regs = bpf_task_pt_regs(bpf_get_current_task_btf());
	u64 who = bpf_get_current_pid_tgid();
	u32 number = __sync_fetch_and_add(&stack_count, 1) + 1;

	s->head.t = bpf_ktime_get_ns();
	s->head.id = number;
	s->head.sp = sp;
	s->head.kind = KIND_STACK;
	s->head.tid = who;
	s->head.pid = who >> 32;
	s->head.len = len;
	bpf_probe_read_kernel(s->head.regs, sizeof(s->head.regs), regs);
	if (len > STACK_MAX)
		return 0;
	if (bpf_ringbuf_output(&stacks, s, sizeof(s->head) + len, 0))
		count_lost(KIND_STACK);
	else
		bpf_map_update_elem(&stacks_saved, &hash, &number, BPF_ANY);
	return number;
}

/* Saves the current task's stack if no one like it was; returns its number. */
__checked_once u32 take_stack(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = bpf_task_pt_regs(task);
	u32 zero = 0;
	struct mm_struct *mm = member_of(task, mm);
	struct stack_record *s = bpf_map_lookup_elem(&stack_scratch, &zero);
	if (!s || !mm)
		return 0;
	u64 sp = regs->sp;
	u32 len = copy_stack(s, sp, stack_depth(task, mm, sp));
	struct file *exe = member_of(mm, exe_file);
	struct inode *inode = exe ? member_of(exe, f_inode) : NULL;
	u64 id = hash_stack(s, len, clew_stack_seed(sp, regs->ip, inode ? member_of(inode, i_ino) : 0));
	u32 *known = bpf_map_lookup_elem(&stacks_saved, &id);
	if (known)
		return *known;
	return save_stack(s, id, sp, len);
}
#endif
