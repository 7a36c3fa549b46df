/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of clew-tracer share.  It traces a program by ptrace(2) and writes the records of record.h into
 * rings of shared memory, which clew empties; when clew dies it stays with those that need it (keep). */
#ifndef CLEW_TRACER_H
#define CLEW_TRACER_H

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;

#include "record.h" /* made by clew.engine.described */
#include "../../bpf/probes/alike.h"
#include "../../bpf/probes/glob.h"

#define COMM 16

/* clew.engine.ptrace.settings writes it; process ids and struct clew_globs follow. */
struct settings {
	u32 version;
	u32 stacks;
	u32 stack_limit;
	u32 filter;
	u32 pids;
	u32 exclusions;
	struct clew_shape shapes[SYSCALLS];
	u32 lists[];
};
enum { SETTINGS_VERSION = 3 };
extern const struct settings *settings;

/* --- tasks ---------------------------------------------------------------------------------------- */

enum { PID_LEVELS = 5 };

struct process {
	pid_t pid;
	u32 threads;     /* alive, as far as we traced them */
	u32 tasks;       /* structs that point here */
	u64 exe_ino;
	u64 stack_top;   /* of the first thread; 0: not asked yet */
	bool maps_known; /* what is mapped has been told */
	bool to_be_stopped, let_go; /* while the heir takes over */
	u32 mapping;     /* tasks inside an mmap of code */
	pid_t parent_pid, parent_tid;
	u64 pid_ns;
	u32 levels;      /* of pid namespaces, from ours on; and what it is called in each */
	pid_t numbers[PID_LEVELS];
	int pidfd;
	struct group_kill { /* the last kill of more than one process */
		u64 t, sp;
		u32 stack, tid;
		int sig;
	} kill;
};

struct call {
	u64 t0, sp;
	u64 chan, peer, chan2, peer2;
	u64 args[6];
	u64 switches; /* voluntary ones, at entry */
	u32 stack;
	u16 nr, flags, flags2, fd;
	u8 class, kind, channel, channel2;
	bool live; /* between its entry and its return */
};

struct task {
	struct task *next; /* of its hash chain */
	pid_t tid;
	struct process *process;
	u64 start;         /* ns since boot */
	u64 fs_base;       /* thread register; 0: not asked yet */
	u64 born;          /* when we first saw it, CLOCK_MONOTONIC */
	struct call call;
	char *exec_path;   /* of the exec it is in */
	char comm[COMM];
	bool early;        /* stopped before its parent told of it */
	bool filtered;     /* has our seccomp filter: only wanted calls stop it */
	bool quiet;        /* traced, not recorded */
	bool exiting;      /* its death is told */
	bool mapping;
	bool is_root;
	bool entered;      /* unfiltered: inside a system call */
};

struct task *task_of(pid_t tid);
struct task *new_task(pid_t tid, pid_t pid);
void free_task(struct task *t);
/* Gives it another thread id (an exec by a thread: that of the first one). */
void rename_task(struct task *t, pid_t tid);
void each_task(void (*visit)(struct task *t, void *with), void *with);
u32 task_count(void);
struct process *process_of(pid_t pid);

/* --- the ways out --------------------------------------------------------------------------------- */

bool rings_open(int fd);
void rings_close(void);
void tell_event(struct clew_event *e);
void tell_life(struct clew_life *l, const void *blob, u32 len);
/* False if there is no room. */
bool tell_stack(const struct clew_stack *head, const void *bytes);
void tell_mapping(pid_t pid, u64 start, u64 end, u64 offset, const char *path);

/* To clew, over the control socket: what `kind` says with up to three numbers and a text. */
enum message {
	SAY_STARTED = 'S', /* the command's pid, our pid */
	SAY_FAILED = 'X',  /* errno of its exec */
	SAY_REFUSED = 'R', /* pid, errno, its tracer */
	SAY_SETID = 'U',   /* pid, owner, 1: only the group; the program */
	SAY_PTRACE = 'P',  /* pid, tid; its name: it asked to trace, which cannot work */
	SAY_ENDED = 'E',   /* wait status or -1, how many live on with the filter */
};
void say(enum message kind, s64 a, s64 b, s64 c, const char *text);
extern int control;
/* The timer or clew rang since the flag was last cleared. */
extern volatile sig_atomic_t rang;
/* As clew was given them: signals ignored (bit N-1 is signal N), and blocked. */
extern u64 inherited_ignored;
extern sigset_t inherited_mask;

/* --- system calls --------------------------------------------------------------------------------- */

struct entry { /* PTRACE_GET_SYSCALL_INFO, as far as used */
	u64 nr, args[6], ip, sp;
};
/* Takes note of a call that is about to run; true if its return is wanted. */
bool call_entered(struct task *t, const struct entry *in);
void call_returned(struct task *t, s64 ret);
void call_pending(struct task *t, void *unused);
void fill_event(const struct task *t, struct clew_event *e, u32 kind, u64 now, s64 ret);

struct endpoint {
	u64 chan, peer;
	u16 flags;
	u8 channel;
};
bool endpoint_of(const struct task *t, u32 fd, struct endpoint *out);
void files_start(void);
/* Whether the descriptor that endpoint_of looked at last is a file of /proc. */
bool was_on_procfs(void);
bool socket_endpoint(const struct task *t, u32 fd, u64 ino, struct endpoint *out);
void socket_changed(u64 ino);
void socket_connected(const struct task *t, u32 fd);
void socket_accepted(const struct task *t, u32 fd);
void peer_from_address(struct call *c, const void *address, size_t len);

bool read_memory(const struct task *t, u64 from, void *to, size_t len);
u32 take_stack(struct task *t, u64 ip, u64 sp);
void tell_mappings(struct process *p);
bool shared_place(pid_t pid, u64 address, u64 *ino, u64 *offset);

/* --- waits ---------------------------------------------------------------------------------------- */

u32 tell_ready(struct task *t, u64 now, s64 ret);
u32 armed_events(const struct task *t);
u64 voluntary_switches(const struct task *t);

/* --- waits and wake-ups of futexes ---------------------------------------------------------------- */

void futex_entered(struct task *t);
void futex_returned(struct task *t, u64 now, s64 ret);
void futex_forget(struct task *t);

/* --- numbers inside pid namespaces ---------------------------------------------------------------- */

void read_numbers(struct process *p);
void note_ended(const struct process *p);
pid_t process_called(const struct process *reader, pid_t number);
pid_t child_called(const struct process *reader, pid_t number);

/* --- lives ---------------------------------------------------------------------------------------- */

void read_birth(struct task *t);
void life_forked(struct task *child, const struct task *parent);
void life_execed(struct task *t, pid_t former, bool root);
void life_exited(struct task *t, int status);
void life_renamed(struct task *t);
void life_creds(const struct task *t, u64 now);
void note_exec_path(struct task *t, const struct entry *in);
bool excluded(const struct task *t);
void kill_called(struct task *t, u64 now, s64 ret);
void child_signal(const struct task *t, u64 now);
void signal_delivered(struct task *t, int sig);
void tell_killed(struct task *t);

/* --- the end of the tracer ------------------------------------------------------------------------ */

void leave_heir(int rings);
void set_signals(void);
void stop_timer(void);
void keep_no_files(int rings);

/* --- the loop ------------------------------------------------------------------------------------- */

/* How every task is seized. */
#define OPTIONS \
	(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | \
	 PTRACE_O_TRACEEXIT | PTRACE_O_TRACESECCOMP)

pid_t start_command(char **argv);
int command_error(void);
int install_filter(void);
bool attach_process(pid_t pid);
int trace(pid_t root);
void keep(void);
void resume(struct task *t, int sig);
bool adopt(struct task *child, struct task *parent);
extern bool recording;

u64 clock_ns(void);
/* Reads a file of /proc into `to` with a NUL after it; how many bytes, -1 if it cannot. */
ssize_t read_proc(char *to, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* One of the numbers in a thread's stat(5), counted as there, from the fourth on; 0 if the thread is gone. */
u64 stat_field(pid_t pid, pid_t tid, int field);

#endif
