/* SPDX-License-Identifier: Apache-2.0 */
/* A copy of the user stack, once per distinct stack.   */
#include "tracer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/user.h>

enum { STACK_MAX = 16384, PT_REGS = 168, PAGE = 4096 };
#define DEEPEST (8ull << 20)

/* Stacks that are saved, by their hash: open addressing, emptied when it gets too full.  An event names its stack by
 * a number: two stacks never share one. */
enum { SAVED = 1 << 17 };
static struct saved {
	u64 hash;
	u32 number;
} saved[SAVED];
static u32 saved_count, numbered;

static struct saved *saved_place(u64 hash)
{
	u32 at = (hash ^ hash >> 32) & (SAVED - 1);
	while (saved[at].number && saved[at].hash != hash)
		at = (at + 1) & (SAVED - 1);
	return &saved[at];
}

static void remember(u64 hash, u32 number)
{
	if (++saved_count > SAVED / 2) {
		memset(saved, 0, sizeof(saved));
		saved_count = 1;
	}
	*saved_place(hash) = (struct saved){hash, number};
}

bool read_memory(const struct task *t, u64 from, void *to, size_t len)
{
	struct iovec here = {to, len}, there = {(void *)from, len};
	return process_vm_readv(t->tid, &here, 1, &there, 1, 0) == (ssize_t)len;
}

/* Field 28 of stat(5): where the kernel put the arguments, the outer end of the first thread's stack. */
static u64 first_stack_top(pid_t pid)
{
	u64 top = stat_field(pid, pid, 28);
	return top ? top : 1;
}

/* The thread register is asked for once: a thread sets it as it begins. */
static u64 thread_register(struct task *t)
{
	struct user_regs_struct r;
	struct iovec set = {&r, sizeof(r)};
	if (!t->fs_base && !ptrace(PTRACE_GETREGSET, t->tid, (void *)1 /* NT_PRSTATUS */, &set))
		t->fs_base = r.fs_base;
	return t->fs_base;
}

static u64 stack_depth(struct task *t, u64 sp)
{
	struct process *p = t->process;
	if (!p->stack_top)
		p->stack_top = first_stack_top(p->pid);
	u64 top = p->stack_top;
	if (sp < top && top - sp < DEEPEST)
		return top - sp;
	top = thread_register(t);
	if (sp < top && top - sp < DEEPEST)
		return top - sp;
	return STACK_MAX;
}

static u32 copy_stack(pid_t tid, char *to, u64 sp, u64 want)
{
	size_t len = want > STACK_MAX ? STACK_MAX : (want + 31) & ~31ull;
	if (len > settings->stack_limit)
		len = settings->stack_limit;
	/* Whole pages as separate pieces: the kernel reads up to the first piece that is not mapped. */
	struct iovec here = {to, len}, there[STACK_MAX / PAGE + 2];
	int pieces = 0;
	for (size_t have = 0; have < len; pieces++) {
		size_t step = PAGE - ((sp + have) & (PAGE - 1));
		if (step > len - have)
			step = len - have;
		there[pieces] = (struct iovec){(void *)(sp + have), step};
		have += step;
	}
	ssize_t got = process_vm_readv(tid, &here, 1, there, pieces, 0);
	return got < 0 ? 0 : (u32)got & ~31u;
}

static u64 hash_stack(const u64 *words, u32 len, u64 seed)
{
	u64 lane[4] = {seed, 1, 2, 3};
	for (u32 i = 0; i < len / 8; i++)
		lane[i % 4] = clew_mix(lane[i % 4], words[i]);
	return clew_join_lanes(lane);
}

static u64 exe_inode(pid_t pid)
{
	char path[32];
	struct stat st;
	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	return stat(path, &st) ? 1 : st.st_ino;
}

/* The stack's number; 0 without stacks. */
u32 take_stack(struct task *t, u64 ip, u64 sp)
{
	static u64 words[STACK_MAX / 8];
	struct user_regs_struct r;
	struct iovec set = {&r, sizeof(r)};
	struct process *p = t->process;

	if (!settings->stacks || t->quiet)
		return 0;
	if (!p->exe_ino)
		p->exe_ino = exe_inode(p->pid);
	u32 len = copy_stack(t->tid, (char *)words, sp, stack_depth(t, sp));
	u64 hash = hash_stack(words, len, clew_stack_seed(sp, ip, p->exe_ino));
	if (saved_place(hash)->number)
		return saved_place(hash)->number;
	/* A 32-bit task has a smaller set of registers, and frames of another shape. */
	if (ptrace(PTRACE_GETREGSET, t->tid, (void *)1 /* NT_PRSTATUS */, &set) || set.iov_len != sizeof(r))
		return 0;
	tell_mappings(p); /* first: a mapping serves the stacks that are younger */
	struct clew_stack head = {
		.t = clock_ns(), .id = ++numbered, .sp = sp, .kind = KIND_STACK, .tid = t->tid, .pid = p->pid, .len = len,
	};
	memcpy(head.regs, &r, PT_REGS);
	if (tell_stack(&head, words))
		remember(hash, head.id);
	return head.id;
}
