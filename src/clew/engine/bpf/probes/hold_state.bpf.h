/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* What the holding probes share: rules, who is spared, who is held.  clew.engine.bpf.hold_probes fills the
 * maps and reads them; the sizes and orders here are those of its struct formats. */
#ifndef CLEW_HOLD_STATE_BPF_H
#define CLEW_HOLD_STATE_BPF_H
#include "events.bpf.h"
#include "glob.bpf.h"

#define HOLD_RULES 64 /* one bit each of a u64 */
#define HOLD_TESTS 16
#define HOLD_GLOBS 256
#define HOLD_SYSCALLS 1024
#define HOLD_SIGNALS 65
#define HOLD_ANCESTORS 40
#define SIGSTOP 19

/* Linux 6.13 (commit 6280cf718db0). */
enum pid_type { PIDTYPE_PID, PIDTYPE_TGID };
extern int bpf_send_signal_task(struct task_struct *task, int sig, enum pid_type type, u64 value) __ksym __weak;

#define SIG_IGN 1
typedef struct {
	u64 sig[1];
} sigset_t;
struct sigpending {
	sigset_t signal;
} __core;
struct sighand_struct {
	struct k_sigaction action[1];
} __core;
struct signal_struct___hold {
	struct sigpending shared_pending;
	u32 flags;
} __core;

/* Fields that only holding reads; libbpf strips the ___ part of a type's name. */
struct task_struct___hold {
	u32 ptrace;
	u64 jobctl;
	struct signal_struct___hold *signal;
	struct sighand_struct *sighand;
	sigset_t blocked;
	struct sigpending pending;
} __core;

enum hold_look { /* clew.model.rules.kernel.Look */
	LOOK_UID = 1,
	LOOK_PID,
	LOOK_PARENT_PID,
	LOOK_TREE_COMMAND,
	LOOK_TREE_PID,
	LOOK_COMM,
	LOOK_PROGRAM,
	LOOK_EXE,
	LOOK_PARENT,
	LOOK_ARGV,
	LOOK_LINEAGE,
	LOOK_SELF_OR_LINEAGE,
};

struct hold_test {
	u32 look;
	u16 negated;
	u16 whole_path;
	u32 operand; /* the number of a pattern, or what a number is compared with */
	u32 pad;
	u64 start; /* of the process that operand is the id of, in ticks */
};

struct hold_rule {
	u64 first, last; /* hits that are held */
	u64 hits;
	u32 tests;
	u32 flags;
	struct hold_test test[HOLD_TESTS];
};
#define RULE_UNDER_DEBUGGER 1 /* also holds what a debugger started */
#define RULE_ALONE 2 /* holds the thread that hit, and nobody else of its process */

enum hold_kind { KIND_EXEC, KIND_FORK, KIND_SYSCALL, KIND_SIGNAL, KIND_EXIT, HOLD_KINDS };

enum hold_exact { /* clew.engine.bpf.hold_probes.EXACT */
	EXACT_ENTRY,         /* no instruction of the new program ran */
	EXACT_CLONE,         /* before the child returns from clone */
	EXACT_FIRST_SYSCALL, /* at the end of the child's first system call */
	EXACT_FUNCTION,
	EXACT_LINE,
	EXACT_BEFORE_SYSCALL, /* it will be made again, whole, when the task is let go */
	EXACT_AFTER_SYSCALL,
	EXACT_HANDLER, /* at the first instruction of the signal's handler */
	EXACT_EXIT,    /* at the entry of the C library's _exit */
	EXACT_FATAL,   /* before the signal that will end it takes effect */
};

enum hold_how { /* clew.engine.bpf.hold_probes */
	HOW_SIGNAL, /* its whole process, by a SIGSTOP */
	HOW_WAIT,   /* this thread alone waits for its tracer: the session */
};
#define HOW 256

/* A task we stopped.  Written before its SIGSTOP is sent, so that nobody is stopped and unknown. */
struct held {
	u64 start;       /* of the thread */
	u64 group_start; /* of its process */
	u64 t;
	u32 tgid, tid;
	u32 rule;
	u32 exact;
	u32 detail; /* the system call's or the signal's number */
	u32 how; /* enum hold_how */
	char comm[16];
	u8 regs[168];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HOLD_RULES);
	__type(key, u32);
	__type(value, struct hold_rule);
} rules SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HOLD_RULES);
	__type(key, u32);
	__type(value, struct hold_rule);
} exclusions SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HOLD_GLOBS);
	__type(key, u32);
	__type(value, struct clew_glob);
} globs SEC(".maps");

/* Masks of rules: by kind of event, by system call, by signal. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HOLD_KINDS);
	__type(key, u32);
	__type(value, u64);
} kind_rules SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HOLD_SYSCALLS);
	__type(key, u32);
	__type(value, u64);
} syscall_rules SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HOLD_SIGNALS);
	__type(key, u32);
	__type(value, u64);
} signal_rules SEC(".maps");

/* Processes that no rule holds (by pid), with their descendants if `how` says so.  Numbers of processes are used again:
 * each is what was meant only if it began when that did. */
struct hold_spare {
	u64 start; /* of the process, in ticks */
	u32 how;
	u32 pad;
};
enum { SPARED_SELF = 1, SPARED_TREE = 2, SPARED_TOP = 4 /* the search for debuggers ends here */ };
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct hold_spare);
} spared SEC(".maps");
/* Names (comm) of debuggers: they and what they start are spared. */
struct comm {
	char text[16];
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct comm);
	__type(value, u32);
} debuggers SEC(".maps");

/* Everything held now, by tid: the truth, which the guardian reads too. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, u32);
	__type(value, struct held);
} held SEC(".maps");
/* Threads (with their start) that stand just before a system call for which rules were asked already. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u32);
	__type(value, u64);
} asked SEC(".maps");
/* What a thread is to do before it takes its next signal: wait for a tracer. */
struct bpf_task_work {
	u64 __opaque;
} __attribute__((aligned(8)));
struct hold_work {
	struct bpf_task_work work;
	u32 number; /* the signal */
	u32 pad;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct hold_work);
} works SEC(".maps");
/* Threads (with their start) whose next deadly signal is one they were held for: they were handed over, and it came
 * again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, u64);
} spent SEC(".maps");
/* Forked children (by pid) to be held by a rule (its number) at their first system call. */
struct hold_later {
	u64 start; /* of the child */
	u32 rule;
	u32 pad;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct hold_later);
} pending SEC(".maps");
/* Processes (by pid, with their start in ticks) that stop as soon as nobody traces them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, u64);
} keeping SEC(".maps");
/* Says that there is news in it; a full ring costs a delay, never a hold. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} news SEC(".maps");

struct hold_settings {
	u32 armed;
	u32 exclusions;
	u32 command; /* process id tree=cmd means */
	u32 forked_later; /* a forked child is held at its first system call */
	u64 most;      /* held at once */
	u64 let_go;    /* counted by user space */
	u64 under_debugger; /* rules with RULE_UNDER_DEBUGGER */
	u64 command_start; /* in ticks */
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hold_settings);
} settings SEC(".maps");

/* Counted here alone. */
struct hold_counts {
	u64 taken;
	u64 over; /* matched, and not held: as many as allowed were held already */
	u64 failed;
	u64 fatal; /* a signal matched whose default action ended the process, and nobody came to stop it before */
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hold_counts);
} counts SEC(".maps");

/* A kernel object as the functions that are checked once take it.  The verifier does not let a pointer be
 * called a number, but what a probe read finds, in our own stack too, is one. */
static __always_inline u64 hold_number(const volatile void *object)
{
	u64 number = 0;
	bpf_probe_read_kernel(&number, sizeof(number), &object);
	return number;
}

static __always_inline struct hold_settings *hold_settings_now(void)
{
	u32 zero = 0;
	struct hold_settings *s = bpf_map_lookup_elem(&settings, &zero);
	return s && s->armed ? s : NULL;
}

static __always_inline u64 hold_rules_of(u32 kind)
{
	u64 *mask = bpf_map_lookup_elem(&kind_rules, &kind);
	return mask && hold_settings_now() ? *mask : 0;
}
#endif
