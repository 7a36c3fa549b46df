/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Programs that are left out: from their exec on, with all they start. */
#ifndef CLEW_EXCLUDE_BPF_H
#define CLEW_EXCLUDE_BPF_H
#include "glob.bpf.h"
#include "state.bpf.h"

#define EXCLUSIONS 16

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, EXCLUSIONS);
	__type(key, u32);
	__type(value, struct clew_glob);
} exclusions SEC(".maps");

static __always_inline int is_called(const struct clew_glob *glob, u64 name, u32 user)
{
	struct clew_glob_state state;
	clew_glob_begin(&state);
	return clew_glob_feed_at(glob, &state, name, user, FEED_LAST_NAME) && clew_glob_accepts(glob, &state);
}

/* Whether the program that the current task has just begun is one of those named, as an exec: rule names it: by the file
 * that runs, by the path given to exec, by argv[0].  The tracer's excluded() asks the same. */
__checked_once int is_excluded(u64 filename)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mm_struct *mm = member_of(task, mm);
	struct dentry *dentry = NULL;
	const unsigned char *file = NULL;
	struct file *exe = mm ? member_of(mm, exe_file) : NULL;

	if (!exe)
		return 0;
	read_field(dentry, exe, f_path.dentry);
	read_field(file, dentry, d_name.name);
	for (u32 i = 0; i < EXCLUSIONS && i < settings.exclusion_count; i++) {
		u32 at = i;
		struct clew_glob *glob = bpf_map_lookup_elem(&exclusions, &at);
		if (glob && (is_called(glob, (u64)file, 0) || is_called(glob, filename, 0) ||
			     is_called(glob, member_of(mm, arg_start), 1)))
			return 1;
	}
	return 0;
}
#endif
