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
	__type(value, u8);
} stacks_saved SEC(".maps");

/* Only what can be a code address tells one stack from another: counters, lengths and other numbers below
 * 64 KiB or above the user half change at each call and would make every copy a new one. */
static __always_inline u64 mix(u64 hash, u64 word)
{
	u64 low = word >> 16, high = word >> 47;
	/* All ones if 0 < low and high == 0, without a branch that the verifier would follow both ways. */
	u64 mask = (u64)((s64)(-low & (high - 1) & ~high) >> 63);
	return (hash ^ (word & mask)) * 0x9e3779b97f4a7c15ULL;
}

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
	if (len > stack_limit)
		len = stack_limit;
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
		a = mix(a, block->words[i]);
		b = mix(b, block->words[i + 1]);
		c = mix(c, block->words[i + 2]);
		d = mix(d, block->words[i + 3]);
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
	u64 a = mix(h.lane[0], h.lane[1] & 0x7fffffffffff);
	a = (a ^ h.lane[2]) * 0x9e3779b97f4a7c15ULL;
	return (a ^ h.lane[3] ^ h.lane[1]) * 0x9e3779b97f4a7c15ULL;
}

/* Saves the current task's stack if no one like it was; returns the low half of its id. */
__checked_once u32 take_stack(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = bpf_task_pt_regs(task);
	u32 zero = 0;
	u8 one = 1;
	struct mm_struct *mm = member_of(task, mm);
	struct stack_record *s = bpf_map_lookup_elem(&stack_scratch, &zero);
	if (!s || !mm)
		return 0;
	u64 sp = regs->sp;
	u32 len = copy_stack(s, sp, stack_depth(task, mm, sp));
	u64 seed = sp * 31 + regs->ip;
	struct file *exe = member_of(mm, exe_file);
	struct inode *inode = exe ? member_of(exe, f_inode) : NULL;
	if (inode)
		seed ^= (u64)member_of(inode, i_ino) << 16;
	u64 id = hash_stack(s, len, seed) | 1; /* never 0 in its low half */
	if (bpf_map_lookup_elem(&stacks_saved, &id))
		return id;
	u64 who = bpf_get_current_pid_tgid();
	s->head.t = bpf_ktime_get_ns();
	s->head.id = id;
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
		bpf_map_update_elem(&stacks_saved, &id, &one, BPF_ANY);
	return id;
}
#endif
