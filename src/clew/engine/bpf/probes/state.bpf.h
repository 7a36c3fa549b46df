/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* What the recording probes share: settings, maps, who is traced, what is lost. */
#ifndef CLEW_STATE_BPF_H
#define CLEW_STATE_BPF_H
#include "events.bpf.h"
#include "generated/record.h" /* made by clew.engine.described */
#include "alike.h"

/* What clew.engine.bpf.recorder sets before loading.  In a section of its own: where in .rodata a variable lies, among
 * tables of the compiler's own, is for each compiler to choose. */
const volatile struct {
	struct clew_shape shapes[SYSCALLS]; /* clew.engine.calls.kernel_table() */
	u8 want_stacks;
	u8 scope_tree;       /* only tasks marked wanted, and their children */
	u32 stack_limit;     /* bytes copied of a user stack */
	u32 exclusion_count; /* of programs left out */
} settings SEC(".rodata.config") = {.want_stacks = 1, .stack_limit = 16384};

/* The command's process, which our own recorder forks and which counts only from its exec on. */
volatile u32 root_pid SEC(".data.root") = 0;

/* A call on something that is no channel of ours is told of only if another task's doing ended it. */
enum { LIVE_NOT, LIVE_TOLD, LIVE_IF_WOKEN };
enum { TRACED_UNKNOWN, TRACED_NO, TRACED_YES };

/* What a descriptor stands for. */
struct endpoint {
	u64 chan, peer;
	u16 flags;
	u8 channel;
};

/* A system call between its entry and its return. */
struct call {
	u64 t0;
	u64 t; /* its return, once that is being told */
	u64 sp;
	struct endpoint end;
	struct endpoint end2; /* of splice, tee and sendfile */
	u32 stack;
	u32 switches; /* voluntary ones of the task, at entry */
	u16 nr;
	u16 fd;
	u8 class;
	u8 kind;
	u8 live; /* LIVE_* */
	u8 traced;
	u8 woken; /* by another task, in this call */
};
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct call);
} calls SEC(".maps");

/* Processes the user named (-p) or excluded, and the recorder itself; read once per task.  By number, which is used
 * again: the process meant is the one that began then. */
struct verdict {
	u64 start; /* in ticks */
	u64 traced;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, u32);
	__type(value, struct verdict);
} verdicts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 26);
} events SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 23);
} lifecycle SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 25);
} stacks SEC(".maps");

/* Lost records per kind, per CPU, and where on this CPU's time line. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, KIND_MAX);
	__type(key, u32);
	__type(value, u64);
} lost SEC(".maps");
struct gap {
	u64 first, last;
	u32 count;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct gap);
} gaps SEC(".maps");

static __always_inline void count_lost(u32 kind)
{
	u64 *n = bpf_map_lookup_elem(&lost, &kind);
	if (n)
		__sync_fetch_and_add(n, 1);
}

static __noinline void note_gap(u32 kind, u64 now)
{
	u32 zero = 0;
	struct gap *gap = bpf_map_lookup_elem(&gaps, &zero);
	if (gap) {
		if (!gap->count)
			gap->first = now;
		gap->last = now;
		gap->count++;
	}
	count_lost(kind);
}

/* Says where records were lost, once there is room again. */
static __noinline void tell_gap(struct gap *gap)
{
	struct clew_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return;
	__builtin_memset(e, 0, sizeof(*e));
	e->kind = KIND_GAP;
	e->t0 = gap->first;
	e->t = gap->last;
	e->ret = gap->count;
	e->count = bpf_get_smp_processor_id();
	gap->count = 0;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

static __always_inline struct clew_event *new_event(u32 kind, u64 now)
{
	struct clew_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		note_gap(kind, now);
		return NULL;
	}
	u32 zero = 0;
	struct gap *gap = bpf_map_lookup_elem(&gaps, &zero);
	if (gap && gap->count)
		tell_gap(gap);
	e->kind = kind;
	e->t = now;
	return e;
}

/* Whether a task that was not looked at before is recorded. */
static __always_inline u8 verdict_on(struct task_struct *task)
{
	u32 pid = member_of(task, tgid);
	struct verdict *v = bpf_map_lookup_elem(&verdicts, &pid);
	struct task_struct *leader = member_of(task, group_leader);
	int named = v && v->start == member_of(leader, start_boottime) / TICK_NS;
	return named ? v->traced : settings.scope_tree ? TRACED_NO : TRACED_YES;
}

/* The state of a task, made on first sight; NULL only when the kernel has no memory (or is just changing
 * this very map): the caller counts what it then cannot record. */
static __always_inline struct call *call_of(struct task_struct *task)
{
	struct call *c = bpf_task_storage_get(&calls, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (c && c->traced == TRACED_UNKNOWN)
		c->traced = verdict_on(task);
	return c;
}
#endif
