/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Birth, exec, renaming, signals and death of tasks, with the facts of each process from birth. */
#ifndef CLEW_TASKS_BPF_H
#define CLEW_TASKS_BPF_H
#include "wakes.bpf.h"
#include "exclude.bpf.h"

#define BLOB_MAX 16384
#define PATH_PARTS 4096 /* PATH_MAX has room for half of them; the others may be mounts */
#define PATH_STEPS 32
#define NAME_PART 256

struct blob_record {
	struct clew_life head;
	char blob[BLOB_MAX];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct blob_record);
} blob_scratch SEC(".maps");

static __always_inline void fill_head(struct clew_life *l, u32 kind, struct task_struct *task)
{
	__builtin_memset(l, 0, sizeof(*l));
	l->t = bpf_ktime_get_ns();
	l->kind = kind;
	l->tid = task->pid;
	l->pid = task->tgid;
	l->start = task->start_boottime;
	bpf_probe_read_kernel(l->comm, sizeof(l->comm), task->comm);
}

static __always_inline void tell_life(struct clew_life *l)
{
	if (bpf_ringbuf_output(&lifecycle, l, sizeof(*l), 0))
		count_lost(l->kind);
}

static __always_inline void tell_blob(struct blob_record *b, u32 len)
{
	if (len > BLOB_MAX)
		len = BLOB_MAX;
	b->head.blob_len = len;
	barrier_var(len);
	if (len <= BLOB_MAX && bpf_ringbuf_output(&lifecycle, b, sizeof(b->head) + len, 0))
		count_lost(b->head.kind);
}

/* Puts a dentry's name at the end of what is known of a path; 0 if there is no room or nothing to read. */
static __always_inline int tell_name(struct blob_record *b, struct dentry *dentry)
{
	volatile u16 *at_len = &b->head.blob_len;
	u32 len = *at_len;
	if (len > BLOB_MAX - NAME_PART)
		return 0;
	long n = bpf_probe_read_kernel_str(b->blob + len, NAME_PART, field_of(dentry, d_name.name));
	if (n <= 0)
		return 0;
	*at_len = len + n;
	return 1;
}

/* Some steps up a path; 1 once there is nothing above.  The loop keeps its state in the record itself: what the verifier
 * reads back from a map is just some number to it, so that it need not follow every history of steps separately. */
__checked_once int climb_path(struct blob_record *b)
{
	if (!b)
		return 1;
	volatile u64 *at_dentry = &b->head.chan, *at_mount = &b->head.peer;

	for (int i = 0; i < PATH_STEPS; i++) {
		struct mount *mount = (void *)*at_mount;
		struct dentry *dentry = (void *)*at_dentry;
		struct dentry *root = field_of(mount, mnt.mnt_root), *parent = field_of(dentry, d_parent);
		if (dentry == root || dentry == parent) {
			struct mount *up = field_of(mount, mnt_parent);
			if (dentry != root || up == mount || !up) {
				/* One that hangs nowhere has a name and no place: a memfd's (simple_dname() in fs/d_path.c). */
				if (dentry == root || tell_name(b, dentry))
					b->head.flags &= ~LIFE_CUT;
				return 1;
			}
			*at_mount = (u64)up;
			*at_dentry = (u64)field_of(mount, mnt_mountpoint);
			continue;
		}
		if (!tell_name(b, dentry))
			return 1;
		*at_dentry = (u64)parent;
	}
	return 0;
}

/* The names from `dentry_at` in the mount `vfs_at` up to the root of everything, innermost first, a NUL after each.
 * d_path() is allowed to sleeping hooks only. */
__checked_once int tell_path(struct blob_record *b, u64 dentry_at, u64 vfs_at)
{
	if (!b)
		return 0;
	b->head.chan = dentry_at;
	b->head.peer = vfs_at - __builtin_preserve_field_info(((struct mount *)0)->mnt, 0 /* byte offset */);
	b->head.blob_len = 0;
	b->head.flags |= LIFE_CUT; /* until there is nothing above */
	for (int i = 0; i < PATH_PARTS / PATH_STEPS; i++)
		if (climb_path(b))
			break;
	b->head.chan = b->head.peer = 0;
	tell_blob(b, b->head.blob_len);
	return 0;
}

static __noinline int tell_argv(struct blob_record *b, struct mm_struct *mm)
{
	u64 start = member_of(mm, arg_start), len = member_of(mm, arg_end) - start;
	b->head.kind = KIND_ARGV;
	b->head.flags &= ~LIFE_CUT;
	if (len > BLOB_MAX) {
		len = BLOB_MAX;
		b->head.flags |= LIFE_CUT;
	}
	barrier_var(len);
	if (len > BLOB_MAX || bpf_probe_read_user(b->blob, len, (void *)start)) {
		b->head.flags |= LIFE_CUT;
		len = 0;
	}
	tell_blob(b, len);
	return 0;
}

static __always_inline void tell_fork(struct task_struct *parent, struct task_struct *child)
{
	struct call *p = call_of(parent);
	struct call *c = bpf_task_storage_get(&calls, child, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!p || !c) {
		count_lost(KIND_FORKED);
		return;
	}
	c->traced = p->traced;
	if (p->traced != TRACED_YES)
		return;
	note_born(child);
	struct clew_life l;
	fill_head(&l, KIND_FORKED, child);
	l.other_tid = parent->pid;
	l.other_pid = parent->tgid;
	l.flags = child->tgid == parent->tgid ? LIFE_THREAD : 0;
	l.sp = bpf_task_pt_regs(child)->sp;
	if (p->live && p->class == CLASS_CLONE) {
		l.stack = p->stack;
		l.code = p->nr;
	}
	tell_life(&l);
}

EVENT(sched, sched_process_fork)
int record_fork(fork_args *ctx)
{
	struct task_struct *child = forked_task(ctx);
	if (!child) {
		count_lost(KIND_FORKED);
		return 0;
	}
	tell_fork(bpf_get_current_task_btf(), child);
	drop_task(child);
	return 0;
}

EVENT(sched, sched_process_exec)
int record_exec(exec_args *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct call *c = call_of(task);
	u32 zero = 0;
	struct blob_record *b = bpf_map_lookup_elem(&blob_scratch, &zero);

	if (!c || !b) {
		count_lost(KIND_EXECED);
		return 0;
	}
	int is_root = task->tgid == root_pid;
	if (is_root)
		c->traced = TRACED_YES;
	if (c->traced == TRACED_YES && !is_root && settings.exclusion_count && is_excluded(exec_name_at(ctx)))
		c->traced = TRACED_NO;
	if (c->traced != TRACED_YES)
		return 0;
	struct clew_life *l = &b->head;
	fill_head(l, KIND_EXECED, task);
	l->flags = is_root ? LIFE_ROOT : 0;
	l->peer2 = c->live && c->class == CLASS_EXEC ? c->t0 : 0;
	l->other_tid = exec_old_tid(ctx); /* the tid that exec was called under (a thread's, until it takes the leader's) */
	l->sp = bpf_task_pt_regs(task)->sp;
	if (c->live && c->class == CLASS_EXEC)
		l->stack = c->stack;
	const struct cred *cred = member_of(task, cred);
	l->uid = member_of(cred, euid.val);
	l->gid = member_of(cred, egid.val);
	struct nsproxy *ns = member_of(task, nsproxy);
	if (ns) {
		struct mnt_namespace *mnt = member_of(ns, mnt_ns);
		struct pid_namespace *pid = member_of(ns, pid_ns_for_children);
		struct net *net = member_of(ns, net_ns);
		l->ns_mnt = member_of(mnt, ns.inum);
		l->ns_pid = member_of(pid, ns.inum);
		l->ns_net = member_of(net, ns.inum);
	}
	long n = bpf_probe_read_kernel_str(b->blob, 4096, (void *)exec_name_at(ctx));
	tell_blob(b, n > 0 ? n - 1 : 0);
	struct mm_struct *mm = member_of(task, mm);
	tell_argv(b, mm);
	struct file *exe = member_of(mm, exe_file);
	if (exe) {
		b->head.kind = KIND_EXE_PATH;
		tell_path(b, (u64)field_of(exe, f_path.dentry), (u64)field_of(exe, f_path.mnt));
	}
	b->head.kind = KIND_CWD_PATH;
	struct fs_struct *fs = member_of(task, fs);
	tell_path(b, (u64)field_of(fs, pwd.dentry), (u64)field_of(fs, pwd.mnt));
	return 0;
}

EVENT(sched, sched_process_exit)
int record_exit(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct call *c = call_of(task);
	struct clew_life l;
	if (!c || c->traced != TRACED_YES)
		return 0;
	fill_head(&l, KIND_EXITED, task);
	l.code = task->exit_code;
	struct signal_struct *signal = member_of(task, signal);
	if (!member_of(signal, live.counter))
		l.flags = LIFE_GROUP_DEAD;
	tell_life(&l);
	return 0;
}

static __always_inline void tell_rename(struct task_struct *task, const char *name)
{
	struct call *c = call_of(task);
	struct clew_life l;
	if (!c || c->traced != TRACED_YES)
		return;
	fill_head(&l, KIND_RENAMED, task);
	bpf_probe_read_kernel_str(l.comm, sizeof(l.comm), name);
	tell_life(&l);
}

EVENT(task, task_rename)
int record_rename(rename_args *ctx)
{
	struct task_struct *task = renamed_task(ctx);
	if (!task)
		return 0;
	tell_rename(task, renamed_to(ctx));
	drop_task(task);
	return 0;
}

/* signal_generate(sig, info, task, group, result): in the sender's context.  A timer's come from an interrupt, in
 * whatever task it met: that one sent nothing. */
SEC("tp_btf/signal_generate")
int record_signal(btf_args *ctx)
{
	int sig = ARG(int, 0);
	struct task_struct *target = ARG(struct task_struct *, 2);
	struct task_struct *task = bpf_get_current_task_btf();
	if (target == task || !acts_itself(stack_of_raw(ctx), task))
		return 0;
	struct call *c = call_of(task);
	if (!c || c->traced != TRACED_YES)
		return 0;
	struct clew_event *e = new_event(KIND_SIGNAL, bpf_ktime_get_ns());
	if (!e)
		return 0;
	e->t0 = e->t;
	e->tid = task->pid;
	e->pid = task->tgid;
	e->channel = CHAN_NONE;
	e->nr = sig;
	e->ret = ARG(int, 4);
	e->sp = bpf_task_pt_regs(task)->sp;
	e->chan = (u64)target->tgid << 32 | (u32)target->pid;
	e->peer = ARG(int, 3); /* 1: to the process, 0: to this one thread */
	e->stack = c->live ? c->stack : settings.want_stacks ? take_stack() : 0;
	e->flags = 0;
	e->count = 0;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

#define BIT_OF_SIGNAL(number) (1ull << ((number)-1))
/* SIG_KERNEL_IGNORE_MASK of include/linux/signal.h: SIGCHLD, SIGCONT, SIGURG, SIGWINCH. */
#define IGNORED_BY_DEFAULT (BIT_OF_SIGNAL(17) | BIT_OF_SIGNAL(18) | BIT_OF_SIGNAL(23) | BIT_OF_SIGNAL(28))

/* Nothing comes of it: an ignored signal is delivered where it had been blocked when it was sent. */
static __always_inline int is_ignored(u32 sig, struct k_sigaction *action)
{
	u64 handler = 0;

	read_field(handler, action, sa.sa_handler);
	return handler == 1 /* SIG_IGN */ || (!handler && sig - 1 < 31 && (IGNORED_BY_DEFAULT & BIT_OF_SIGNAL(sig)));
}

/* signal_deliver(sig, info, ka): in the receiver's context, before its handler runs. */
SEC("tp_btf/signal_deliver")
int record_signalled(btf_args *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct call *c = call_of(task);
	if (!c || c->traced != TRACED_YES || is_ignored(ARG(u32, 0), ARG(struct k_sigaction *, 2)))
		return 0;
	struct clew_event *e = new_event(KIND_SIGNALLED, bpf_ktime_get_ns());
	if (!e)
		return 0;
	struct pt_regs *r = bpf_task_pt_regs(task);
	e->t0 = e->t;
	e->tid = task->pid;
	e->pid = task->tgid;
	e->channel = CHAN_NONE;
	e->nr = ARG(int, 0);
	e->ret = 0;
	e->sp = r->sp;
	e->chan = e->peer = 0;
	e->stack = settings.want_stacks ? take_stack() : 0;
	e->flags = 0;
	e->count = 0;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}
#endif
