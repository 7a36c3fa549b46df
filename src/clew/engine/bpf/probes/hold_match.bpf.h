/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Whether a task is one that a rule is about.
 *
 * Kernel objects are passed as numbers and read with probe reads: so the verifier checks each function once
 * and not again for every rule and test, and a subject may be a child that is not running yet.  All state is
 * on the stack: a uprobe may be preempted, so per-CPU scratch memory would not be its own.
 */
#ifndef CLEW_HOLD_MATCH_BPF_H
#define CLEW_HOLD_MATCH_BPF_H
#include "hold_state.bpf.h"

#define PATH_DEPTH 40
#define PATH_STEPS (PATH_DEPTH + 8) /* some of them cross a mount point only */

__checked_once int hold_text_matches(u32 glob_at, u64 address, u32 user, u32 mode)
{
	struct clew_glob_state state;
	struct clew_glob *glob = bpf_map_lookup_elem(&globs, &glob_at);

	if (!glob)
		return 0;
	clew_glob_begin(&state);
	return clew_glob_feed_at(glob, &state, address, user, mode) && clew_glob_accepts(glob, &state);
}

/* One step up a path.  Returns 1 with a name, 0 where only a mount point was crossed, -1 at the root. */
struct hold_spot {
	u64 dentry, mount;
};
static __always_inline int hold_up(struct hold_spot *at, const unsigned char **name)
{
	struct dentry *dentry = (void *)at->dentry, *root = NULL, *parent = NULL;
	struct mount *mount = (void *)at->mount, *up = NULL;

	read_field(root, mount, mnt.mnt_root);
	read_field(parent, dentry, d_parent);
	if (dentry == root || dentry == parent) {
		read_field(up, mount, mnt_parent);
		if (dentry && dentry != root) { /* it hangs nowhere and has a name, as a memfd's: there is nothing above */
			read_field(*name, dentry, d_name.name);
			at->dentry = 0;
			return 1;
		}
		if (!dentry || up == mount || !up)
			return -1;
		read_field(dentry, mount, mnt_mountpoint);
		at->dentry = (u64)dentry;
		at->mount = (u64)up;
		return 0;
	}
	read_field(*name, dentry, d_name.name);
	at->dentry = (u64)parent;
	return 1;
}

static __always_inline struct hold_spot hold_spot_of(u64 file)
{
	struct dentry *dentry = NULL;
	struct vfsmount *vfs = NULL;

	read_field(dentry, (struct file *)file, f_path.dentry);
	read_field(vfs, (struct file *)file, f_path.mnt);
	return (struct hold_spot){
		.dentry = (u64)dentry,
		.mount = (u64)vfs - __builtin_preserve_field_info(((struct mount *)0)->mnt, 0 /* byte offset */),
	};
}

/* The name of the n-th component, counted from the file itself; 0 past the root. */
__checked_once u64 hold_component(u64 file, u32 n)
{
	struct hold_spot at = hold_spot_of(file);
	const unsigned char *name = NULL;

	for (u32 i = 0; i < PATH_STEPS; i++) {
		int step = hold_up(&at, &name);

		if (step < 0)
			return 0;
		if (step && !n--)
			return (u64)name;
	}
	return 0;
}

/* How many components the path of an open file has, counted on from `depth`: an argument is any number to the verifier,
 * which would follow every way of counting from 0.  It does not call hold_component(): each call down takes from the 512
 * bytes that all frames of a program share, 32 at least on older kernels (check_max_stack_depth() in
 * kernel/bpf/verifier.c). */
__checked_once u32 hold_depth(u64 file, u32 depth)
{
	struct hold_spot at = hold_spot_of(file);
	const unsigned char *name = NULL;

	for (u32 i = 0; i < PATH_STEPS; i++) {
		int step = hold_up(&at, &name);

		if (step < 0)
			break;
		depth += step;
	}
	return depth < PATH_DEPTH ? depth : PATH_DEPTH;
}

/* The whole path of an open file.  Components come innermost first and a pattern runs outermost first: to
 * walk again for each costs less than the memory to keep them. */
__checked_once int hold_path_matches(u32 glob_at, u64 file)
{
	struct clew_glob_state state;
	struct clew_glob *glob = bpf_map_lookup_elem(&globs, &glob_at);

	if (!glob || !file)
		return 0;
	u32 depth = hold_depth(file, 0);
	clew_glob_begin(&state);
	for (u32 i = 0; i < PATH_DEPTH; i++) {
		if (!depth)
			return clew_glob_accepts(glob, &state);
		depth--;
		clew_glob_step(glob, &state, '/');
		if (!clew_glob_feed_at(glob, &state, hold_component(file, depth), 0, FEED_ALL))
			return 0;
	}
	return 0;
}

static __always_inline struct mm_struct *hold_mm(u64 task)
{
	struct mm_struct *mm = NULL;
	read_field(mm, (struct task_struct *)task, mm);
	return mm;
}

static __always_inline int hold_exe_matches(u64 task, u32 glob, u32 whole_path)
{
	struct mm_struct *mm = hold_mm(task);
	struct file *file = NULL;

	if (!mm)
		return 0;
	read_field(file, mm, exe_file);
	if (!file)
		return 0;
	if (whole_path)
		return hold_path_matches(glob, (u64)file);
	return hold_text_matches(glob, hold_component((u64)file, 0), 0, FEED_ALL);
}

/* What a program goes by: the file that runs, the path given to exec, argv[0].  argv is read from the memory
 * of the current task; a child that is not running yet has the same bytes at the same place. */
__checked_once int hold_program_matches(u64 task, u64 filename, u32 glob, u32 whole_path)
{
	struct mm_struct *mm = hold_mm(task);
	u64 argv0 = 0;

	if (hold_exe_matches(task, glob, whole_path))
		return 1;
	if (filename && hold_text_matches(glob, filename, 0, whole_path ? FEED_ALL : FEED_LAST_NAME))
		return 1;
	if (whole_path || !mm)
		return 0;
	read_field(argv0, mm, arg_start);
	return hold_text_matches(glob, argv0, 1, FEED_LAST_NAME);
}

__checked_once int hold_argv_matches(u64 task, u32 glob_at)
{
	struct clew_glob_chunk chunk = {};
	struct clew_glob_argv argv;
	struct clew_glob *glob = bpf_map_lookup_elem(&globs, &glob_at);
	struct mm_struct *mm = hold_mm(task);
	u64 at = 0, end = 0;

	if (!glob || !mm)
		return 0;
	read_field(at, mm, arg_start);
	read_field(end, mm, arg_end);
	clew_glob_argv_begin(glob, &argv);
	for (int i = 0; i < 16384 / CLEW_GLOB_CHUNK; i++) {
		u64 length = end - at;

		if (at >= end)
			break;
		if (length > CLEW_GLOB_CHUNK)
			length = CLEW_GLOB_CHUNK;
		barrier_var(length);
		if (!length || length > CLEW_GLOB_CHUNK ||
		    bpf_probe_read_user(chunk.bytes, length, (const void *)at))
			break;
		clew_glob_argv_feed(glob, &argv, &chunk, length);
		at += length;
	}
	return clew_glob_argv_accepts(glob, &argv);
}

static __always_inline int hold_comm_matches(u64 task, u32 glob_at)
{
	struct task_struct *t = (struct task_struct *)task;
	return hold_text_matches(glob_at, (u64)__builtin_preserve_access_index(&t->comm), 0, FEED_ALL);
}

static __always_inline u64 hold_parent(u64 task)
{
	struct task_struct *parent = NULL, *leader = NULL;

	read_field(parent, (struct task_struct *)task, real_parent);
	if (parent)
		read_field(leader, parent, group_leader);
	return (u64)leader;
}

static __always_inline u32 hold_tgid(u64 task)
{
	s32 tgid = 0;
	read_field(tgid, (struct task_struct *)task, tgid);
	return tgid;
}

/* When the process of a task began, in ticks: what proc(5) tells. */
static __always_inline u64 hold_start(u64 task)
{
	struct task_struct *leader = NULL;
	u64 start = 0;

	read_field(leader, (struct task_struct *)task, group_leader);
	read_field(start, leader, start_boottime);
	return start / TICK_NS;
}

/* Whether a task is of the process of this number that began then, and of no later one. */
static __always_inline int hold_is_process(u64 task, u32 number, u64 start)
{
	return hold_tgid(task) == number && hold_start(task) == start;
}

static __always_inline int hold_is_named(u64 task, u32 glob, u32 whole_path)
{
	if (hold_exe_matches(task, glob, whole_path))
		return 1;
	return !whole_path && hold_comm_matches(task, glob);
}

__checked_once int hold_lineage_matches(u64 task, u32 glob, u32 whole_path)
{
	for (int i = 0; i < HOLD_ANCESTORS; i++) {
		task = hold_parent(task);
		if (!task || !hold_tgid(task))
			return 0;
		if (hold_is_named(task, glob, whole_path))
			return 1;
	}
	return 0;
}

__checked_once int hold_under(u64 task, u32 root, u64 start)
{
	for (int i = 0; i < HOLD_ANCESTORS; i++) {
		u32 tgid = task ? hold_tgid(task) : 0;

		if (!tgid || !root)
			return 0;
		if (tgid == root)
			return hold_start(task) == start;
		task = hold_parent(task);
	}
	return 0;
}

static __always_inline u32 hold_uid(u64 task)
{
	const struct cred *cred = NULL;
	u32 uid = 0;

	read_field(cred, (struct task_struct *)task, cred);
	read_field(uid, cred, uid.val);
	return uid;
}

static __always_inline int hold_under_command(u64 task)
{
	struct hold_settings *s = hold_settings_now();
	return s && hold_under(task, s->command, s->command_start);
}

/* A function that is checked once takes five arguments: `look` has two in it. */
#define WHOLE_PATH (1 << 16)
__checked_once int hold_looks(u64 task, u64 filename, u32 look, u32 operand, u64 start)
{
	u32 glob = operand, number = operand, whole_path = look & WHOLE_PATH;

	switch (look & (WHOLE_PATH - 1)) {
	case LOOK_UID:
		return hold_uid(task) == number;
	case LOOK_PID:
		return hold_is_process(task, number, start);
	case LOOK_PARENT_PID:
		return hold_is_process(hold_parent(task), number, start);
	case LOOK_TREE_COMMAND:
		return hold_under_command(task);
	case LOOK_TREE_PID:
		return hold_under(task, number, start);
	case LOOK_COMM:
		return hold_comm_matches(task, glob);
	case LOOK_PROGRAM:
		return hold_program_matches(task, filename, glob, whole_path);
	case LOOK_EXE:
		return hold_exe_matches(task, glob, whole_path);
	case LOOK_PARENT:
		return hold_is_named(hold_parent(task), glob, whole_path);
	case LOOK_ARGV:
		return hold_argv_matches(task, glob);
	case LOOK_LINEAGE:
		return hold_lineage_matches(task, glob, whole_path);
	case LOOK_SELF_OR_LINEAGE:
		return hold_program_matches(task, filename, glob, whole_path) ||
		       hold_lineage_matches(task, glob, whole_path);
	}
	return 0;
}

static __always_inline int hold_rule_matches(u64 task, u64 filename, u32 at, u32 excluding)
{
	struct hold_rule *rule = excluding ? bpf_map_lookup_elem(&exclusions, &at) : bpf_map_lookup_elem(&rules, &at);

	if (!rule)
		return 0;
	for (u32 i = 0; i < HOLD_TESTS; i++) {
		if (i >= rule->tests)
			return 1;
		struct hold_test *t = &rule->test[i];
		u32 look = t->look | (t->whole_path ? WHOLE_PATH : 0);
		int found = hold_looks(task, filename, look, t->operand, t->start);

		if (!!found == !!t->negated)
			return 0;
	}
	return 1;
}
#endif
