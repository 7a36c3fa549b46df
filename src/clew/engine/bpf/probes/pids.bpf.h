/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Whose number a number is: inside a pid namespace tasks are numbered anew, and calls give and take those numbers.
 * A recording has the machine's own. */
#ifndef CLEW_PIDS_BPF_H
#define CLEW_PIDS_BPF_H
#include "state.bpf.h"

#define PID_LEVELS 4 /* nested namespaces that are looked at; the kernel allows 32 */

struct upid { int nr; struct pid_namespace *ns; } __core;
struct pid { u32 level; struct upid numbers[1]; } __core;
struct task_struct___pids { struct pid *thread_pid; } __core;
enum { UPID_SIZE = 16 };

struct local_pid {
	u32 ns, number;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct local_pid);
	__type(value, u32);
} machine_pids SEC(".maps");

static __always_inline struct pid *pid_of(struct task_struct *task)
{
	return field_of((struct task_struct___pids *)task, thread_pid);
}

/* What the task is called in its namespace of this level; the first level is the machine. */
static __always_inline struct local_pid number_at(struct pid *pid, u32 level)
{
	struct upid *at = (void *)((u64)__builtin_preserve_access_index(&pid->numbers) + level * UPID_SIZE);
	struct pid_namespace *ns = field_of(at, ns);
	return (struct local_pid){ns ? field_of(ns, ns.inum) : 0, field_of(at, nr)};
}

/* A task was born: notes what it is called inside namespaces. */
__checked_once int note_numbers(u64 at, u32 machine)
{
	struct pid *pid = (void *)at;
	for (u32 level = 1; level <= PID_LEVELS; level++) {
		if (level > field_of(pid, level))
			break;
		struct local_pid key = number_at(pid, level);
		bpf_map_update_elem(&machine_pids, &key, &machine, BPF_ANY);
	}
	return 0;
}

static __always_inline void note_born(struct task_struct *child)
{
	struct pid *pid = pid_of(child);
	if (pid && field_of(pid, level))
		note_numbers((u64)pid, member_of(child, pid));
}

/* The machine's number for one that the current task was given by a call; 0 if it is not known. */
static __always_inline s64 machine_pid(struct task_struct *task, s64 number)
{
	struct pid *pid = pid_of(task);
	u32 level = pid ? field_of(pid, level) : 0;
	if (!level || number <= 0)
		return number;
	struct local_pid key = number_at(pid, level);
	key.number = number;
	u32 *found = bpf_map_lookup_elem(&machine_pids, &key);
	return found ? *found : 0;
}
#endif
