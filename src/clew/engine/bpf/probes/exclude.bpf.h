/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Programs that are left out: from their exec on, with all they start. */
#ifndef CLEW_EXCLUDE_BPF_H
#define CLEW_EXCLUDE_BPF_H
#include "glob.bpf.h"
#include "state.bpf.h"

#define EXCLUSIONS 16
#define COMM_LENGTH 16

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, EXCLUSIONS);
	__type(key, u32);
	__type(value, struct clew_glob);
} exclusions SEC(".maps");

/* A program goes by the last part of its file's path and by its comm, which is a script's own name. */
struct program_names {
	struct clew_glob_name file, comm;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct program_names);
} names_scratch SEC(".maps");

/* Whether the current task's program is one of those named. */
__checked_once int is_excluded(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mm_struct *mm = member_of(task, mm);
	struct dentry *dentry = NULL;
	const unsigned char *name = NULL;
	u32 zero = 0;
	struct program_names *n = bpf_map_lookup_elem(&names_scratch, &zero);

	if (!n || !mm)
		return 0;
	__builtin_memset(n, 0, sizeof(*n));
	struct file *exe = member_of(mm, exe_file);
	if (exe) {
		read_field(dentry, exe, f_path.dentry);
		read_field(name, dentry, d_name.name);
		bpf_probe_read_kernel_str(n->file.bytes, sizeof(n->file.bytes), name);
	}
	bpf_probe_read_kernel(n->comm.bytes, COMM_LENGTH, task->comm);
	for (u32 i = 0; i < EXCLUSIONS && i < settings.exclusion_count; i++) {
		u32 at = i;
		struct clew_glob *glob = bpf_map_lookup_elem(&exclusions, &at);
		if (glob && (clew_glob_matches(glob, &n->file) || clew_glob_matches(glob, &n->comm)))
			return 1;
	}
	return 0;
}
#endif
