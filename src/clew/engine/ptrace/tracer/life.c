/* SPDX-License-Identifier: Apache-2.0 */
/* Birth, exec, renaming and death of tasks, with the facts of each image (engine/bpf/probes/tasks.bpf.h). */
#include "tracer.h"
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOB_MAX = 16384 };

static void fill_life(struct clew_life *l, u32 kind, const struct task *t)
{
	*l = (struct clew_life){
		.t = clock_ns(), .kind = kind, .tid = t->tid, .pid = t->process->pid, .start = t->start,
	};
	memcpy(l->comm, t->comm, COMM);
}

void read_comm(struct task *t)
{
	char text[COMM + 2];
	ssize_t len = read_proc(text, sizeof(text), "/proc/%d/comm", t->tid);
	if (len <= 0)
		return;
	/* A name may hold newlines; the last one is the kernel's. */
	memset(t->comm, 0, COMM);
	memcpy(t->comm, text, len - 1 < COMM - 1 ? len - 1 : COMM - 1);
}

/* Name and start of a task (stat(5): field 22, in ticks). */
void read_birth(struct task *t)
{
	read_comm(t);
	u64 ticks = stat_field(t->process->pid, t->tid, 22);
	if (ticks)
		t->start = ticks * (1000000000 / sysconf(_SC_CLK_TCK));
}

/* Where the stack of a child begins: where its parent's is, unless clone was given another. */
static u64 child_sp(const struct task *parent)
{
	const struct call *c = &parent->call;
	u64 at[2] = {0, 0}; /* clone_args: stack, stack_size */
	if (!c->live || c->class != CLASS_CLONE)
		return 0;
	if (c->nr == SYS_clone3 && read_memory(parent, c->args[0] + 40, at, sizeof(at)) && at[0])
		return at[0] + at[1];
	if (c->nr == SYS_clone && c->args[1])
		return c->args[1];
	return c->sp;
}

void life_forked(struct task *child, const struct task *parent)
{
	struct clew_life l;
	fill_life(&l, KIND_FORKED, child);
	l.other_tid = parent->tid;
	l.other_pid = parent->process->pid;
	l.flags = child->process == parent->process ? LIFE_THREAD : 0;
	l.sp = child_sp(parent);
	if (parent->call.live && parent->call.class == CLASS_CLONE) {
		l.stack = parent->call.stack;
		l.code = parent->call.nr;
	}
	tell_life(&l, NULL, 0);
}

static ino_t namespace_of(pid_t pid, const char *kind)
{
	char path[48];
	struct stat st;
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, kind);
	return stat(path, &st) ? 0 : st.st_ino;
}

static void read_ids(pid_t pid, u32 *uid, u32 *gid)
{
	char text[4096], *at;
	if (read_proc(text, sizeof(text), "/proc/%d/status", pid) <= 0)
		return;
	if ((at = strstr(text, "\nUid:")))
		sscanf(at, "\nUid: %*u %u", uid);
	if ((at = strstr(text, "\nGid:")))
		sscanf(at, "\nGid: %*u %u", gid);
}

static ssize_t link_of(pid_t pid, const char *what, char path[PATH_MAX])
{
	char name[32];
	struct stat st;
	snprintf(name, sizeof(name), "/proc/%d/%s", pid, what);
	ssize_t len = readlink(name, path, PATH_MAX - 1);
	if (len < 0)
		len = 0;
	path[len] = 0;
	/* The kernel adds this to the name of a file that was removed, or never had one (a memfd's). */
	static const char deleted[] = " (deleted)";
	if (len > (ssize_t)sizeof(deleted) && !strcmp(path + len - sizeof(deleted) + 1, deleted) && !stat(name, &st) &&
	    !st.st_nlink)
		path[len -= sizeof(deleted) - 1] = 0;
	return len;
}

/* A path as names, innermost first, a NUL after each. */
static void tell_path(struct clew_life *l, u32 kind, const char *what)
{
	char path[PATH_MAX], blob[PATH_MAX + 1];
	ssize_t end = link_of(l->pid, what, path);
	u32 len = 0;
	for (ssize_t at = end - 1; at >= 0; at--)
		if (path[at] == '/') {
			if (end > at + 1) {
				memcpy(blob + len, path + at + 1, end - at - 1);
				len += end - at - 1;
				blob[len++] = 0;
			}
			end = at;
		}
	l->kind = kind;
	tell_life(l, blob, len);
}

static void tell_argv(struct clew_life *l)
{
	static char text[BLOB_MAX + 2];
	u32 flags = l->flags;
	ssize_t len = read_proc(text, sizeof(text), "/proc/%d/cmdline", l->pid);
	l->kind = KIND_ARGV;
	l->flags &= ~LIFE_CUT;
	if (len < 0 || len > BLOB_MAX)
		l->flags |= LIFE_CUT;
	tell_life(l, text, len < 0 ? 0 : len > BLOB_MAX ? BLOB_MAX : len);
	l->flags = flags;
}

void life_execed(struct task *t, pid_t former, bool root)
{
	struct clew_life l;
	char exe[PATH_MAX];
	pid_t pid = t->process->pid;
	read_comm(t);
	fill_life(&l, KIND_EXECED, t);
	l.flags = root ? LIFE_ROOT : 0;
	l.other_tid = former;
	l.sp = 0;
	if (t->call.live && t->call.class == CLASS_EXEC) {
		l.stack = t->call.stack;
		l.peer2 = t->call.t0;
	}
	read_ids(pid, &l.uid, &l.gid);
	l.ns_mnt = namespace_of(pid, "mnt");
	l.ns_pid = namespace_of(pid, "pid_for_children");
	l.ns_net = namespace_of(pid, "net");
	if (!t->exec_path)
		link_of(pid, "exe", exe);
	const char *path = t->exec_path ? t->exec_path : exe;
	tell_life(&l, path, strlen(path));
	tell_argv(&l);
	tell_path(&l, KIND_EXE_PATH, "exe");
	tell_path(&l, KIND_CWD_PATH, "cwd");
}

void life_exited(struct task *t, int status)
{
	struct clew_life l;
	struct process *p = t->process;
	if (t->exiting)
		return;
	t->exiting = true;
	p->threads--;
	futex_forget(t);
	t->call.live = false;
	if (t->mapping && p->mapping)
		p->mapping--;
	if (t->quiet || t->early)
		return;
	if ((status & 0x7f) == SIGKILL)
		tell_killed(t); /* the one signal that no stop announces */
	fill_life(&l, KIND_EXITED, t);
	l.code = status;
	l.flags = p->threads ? 0 : LIFE_GROUP_DEAD;
	tell_life(&l, NULL, 0);
	if (!p->threads) {
		note_ended(p);
		child_signal(t, l.t);
	}
}

/* Tells the task's name if it has changed. */
void life_renamed(struct task *t)
{
	struct clew_life l;
	char before[COMM];
	memcpy(before, t->comm, COMM);
	read_comm(t);
	if (t->quiet || !memcmp(before, t->comm, COMM))
		return;
	fill_life(&l, KIND_RENAMED, t);
	tell_life(&l, NULL, 0);
}

void life_creds(const struct task *t, u64 now)
{
	struct clew_life l;
	fill_life(&l, KIND_CREDS_NOW, t);
	memset(l.comm, 0, COMM);
	l.t = now;
	l.stack = t->call.stack;
	l.code = t->call.nr;
	read_ids(t->tid, &l.uid, &l.gid);
	tell_life(&l, NULL, 0);
}

/* --- exec ----------------------------------------------------------------------------------------- */

static bool read_string(const struct task *t, u64 from, char *to, size_t size)
{
	for (size_t have = 0; have < size;) {
		size_t step = 4096 - ((from + have) & 4095);
		if (step > size - have)
			step = size - have;
		if (!read_memory(t, from + have, to + have, step))
			return false;
		if (memchr(to + have, 0, step))
			return true;
		have += step;
	}
	return false;
}

/* A set-user-id program of somebody else gets no privilege from an exec under an unprivileged tracer, nor from
 * one after no_new_privs, which the filter needs. */
static void warn_of_setuid(const struct task *t, const char *path)
{
	char full[PATH_MAX + 64];
	struct stat st;
	if (geteuid() == 0)
		return;
	snprintf(full, sizeof(full), path[0] == '/' ? "/proc/%d/root%s" : "/proc/%d/cwd/%s", t->process->pid, path);
	if (!stat(full, &st) && st.st_mode & (S_ISUID | S_ISGID) && S_ISREG(st.st_mode))
		say(SAY_SETID, t->process->pid, st.st_uid, !(st.st_mode & S_ISUID), path);
}

/* The name an exec was given: after it, only the caller's memory knew. */
void note_exec_path(struct task *t, const struct entry *in)
{
	static char path[PATH_MAX];
	int at = in->nr == SYS_execveat;
	free(t->exec_path);
	t->exec_path = NULL;
	if (!read_string(t, in->args[at], path, sizeof(path)))
		return;
	if (at && !path[0])
		snprintf(path, sizeof(path), "/dev/fd/%d", (int)in->args[0]);
	t->exec_path = strdup(path);
	warn_of_setuid(t, path);
}

/* Whether the pattern matches the last component of the path. */
static bool names(const struct clew_glob *glob, const char *path)
{
	struct clew_glob_state state;
	clew_glob_begin(&state);
	for (; *path; path++)
		clew_glob_step_name(glob, &state, *path);
	return clew_glob_accepts(glob, &state);
}

/* Whether the user wants the program left out that has just begun.  is_excluded() of engine/bpf/probes/exclude.bpf.h asks
 * the same: what is too long for a path names nothing. */
bool excluded(const struct task *t)
{
	static struct clew_glob glob;
	const char *globs = (const char *)(settings->lists + settings->pids);
	char exe[PATH_MAX], argv[PATH_MAX + 1];
	pid_t pid = t->process->pid;
	if (!settings->exclusions)
		return false;
	ssize_t run = link_of(pid, "exe", exe), told = read_proc(argv, sizeof(argv), "/proc/%d/cmdline", pid);
	bool named = told > 0 && strlen(argv) < (size_t)told;
	for (u32 i = 0; i < settings->exclusions; i++) {
		memcpy(&glob, globs + i * sizeof(glob), sizeof(glob)); /* it stands at any multiple of four */
		if ((run > 0 && names(&glob, exe)) || (t->exec_path && names(&glob, t->exec_path)) || (named && names(&glob, argv)))
			return true;
	}
	return false;
}
