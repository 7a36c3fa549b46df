/* SPDX-License-Identifier: Apache-2.0 */
/* From a file descriptor to the channel behind it, by what /proc/TID/fd and fdinfo show.  Nothing is remembered
 * about descriptors, so nothing can be out of date: a stat costs less than a stop for every close and dup. */
#include "tracer.h"
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { PTY_MASTER_MAJOR = 5, PTMX_MINOR = 2, PTY_SLAVE_MAJOR = 136, PTY_SLAVE_LAST = 143, WHOLE_ANSWER = 2048 };

static dev_t pipe_dev, anon_dev, proc_dev;
static dev_t looked_at; /* file system of the descriptor last looked at */

/* The file systems that pipes and anonymous inodes live on, as pipes and eventfds of our own show them. */
void files_start(void)
{
	struct stat st;
	int ends[2], fd = eventfd(0, EFD_CLOEXEC);
	if (!fstat(fd, &st))
		anon_dev = st.st_dev;
	close(fd);
	if (!pipe2(ends, O_CLOEXEC)) {
		if (!fstat(ends[0], &st))
			pipe_dev = st.st_dev;
		close(ends[0]);
		close(ends[1]);
	}
	if (!stat("/proc/self/stat", &st))
		proc_dev = st.st_dev;
}

ssize_t read_proc(char *to, size_t size, const char *format, ...)
{
	char path[64];
	va_list values;
	va_start(values, format);
	vsnprintf(path, sizeof(path), format, values);
	va_end(values);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t have = 0, n;
	/* A short answer is the whole one: these files are made of a page, or of all that is asked for, at a time. */
	do {
		n = read(fd, to + have, size - 1 - have);
		have += n > 0 ? n : 0;
	} while (n >= WHOLE_ANSWER);
	close(fd);
	to[have] = 0;
	return have;
}

u64 stat_field(pid_t pid, pid_t tid, int field)
{
	char text[2048], *at;
	/* task/TID/stat, not /proc/TID/stat: that one adds up every thread of the process. */
	if (read_proc(text, sizeof(text), "/proc/%d/task/%d/stat", pid, tid) <= 0 || !(at = strrchr(text, ')')))
		return 0;
	for (int n = 2; at && n < field; n++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

static bool stat_fd(const struct task *t, u32 fd, struct stat *st)
{
	char path[48];
	snprintf(path, sizeof(path), "/proc/%d/fd/%u", t->tid, fd);
	if (stat(path, st))
		return false;
	looked_at = st->st_dev;
	return true;
}

static bool fdinfo_number(const struct task *t, u32 fd, const char *key, u64 *value)
{
	char text[1024];
	if (read_proc(text, sizeof(text), "/proc/%d/fdinfo/%u", t->tid, fd) < 0)
		return false;
	char *at = strstr(text, key);
	if (!at)
		return false;
	*value = strtoull(at + strlen(key), NULL, 10);
	return true;
}

/* Descriptors that were eventfds when last looked at: their fdinfo alone then tells that they still are, and which. */
enum { HINTS = 4096 };
static u64 eventfds[HINTS];

static u64 *hint(const struct task *t, u32 fd, u64 *key)
{
	*key = (u64)t->process->pid << 32 | fd;
	return &eventfds[(*key * 0x9e3779b97f4a7c15ULL >> 40) & (HINTS - 1)];
}

static bool eventfd_endpoint(const struct task *t, u32 fd, struct endpoint *out)
{
	u64 id;
	if (!fdinfo_number(t, fd, "\neventfd-id:", &id))
		return false;
	out->channel = CHAN_EVENTFD;
	out->chan = out->peer = id + 1; /* ids begin at 0, which means unknown */
	return true;
}

static bool anon_endpoint(const struct task *t, u32 fd, struct endpoint *out)
{
	char path[48], name[64] = "";
	snprintf(path, sizeof(path), "/proc/%d/fd/%u", t->tid, fd);
	if (readlink(path, name, sizeof(name) - 1) < 0)
		return false;
	if (!strcmp(name, "anon_inode:[eventfd]")) {
		u64 key;
		*hint(t, fd, &key) = key;
		return eventfd_endpoint(t, fd, out);
	}
	if (!strcmp(name, "anon_inode:[timerfd]") || !strcmp(name, "anon_inode:[signalfd]")) {
		/* Nobody sends to these: the kernel does.  Any number will do. */
		out->channel = name[12] == 't' ? CHAN_TIMERFD : CHAN_SIGNALFD;
		out->chan = (u64)t->process->pid << 20 | (fd + 1);
	} else {
		return false;
	}
	out->peer = out->chan;
	return true;
}

static bool pty_endpoint(const struct task *t, u32 fd, dev_t rdev, struct endpoint *out)
{
	u64 index = minor(rdev);
	bool master = major(rdev) == PTY_MASTER_MAJOR && minor(rdev) == PTMX_MINOR;
	if (!master && (major(rdev) < PTY_SLAVE_MAJOR || major(rdev) > PTY_SLAVE_LAST))
		return false;
	if (master && !fdinfo_number(t, fd, "tty-index:", &index))
		return false;
	out->channel = CHAN_PTY;
	out->chan = (index + 1) << 1 | master; /* 0 would be no endpoint */
	out->peer = out->chan ^ 1;
	return true;
}

bool was_on_procfs(void)
{
	return looked_at == proc_dev;
}

/* Fills `out` and returns true if the task's descriptor `fd` is a channel. */
bool endpoint_of(const struct task *t, u32 fd, struct endpoint *out)
{
	struct stat st;
	u64 key, *known = hint(t, fd, &key);
	*out = (struct endpoint){0};
	if (*known == key) {
		if (eventfd_endpoint(t, fd, out))
			return true;
		*known = 0;
	}
	if (!stat_fd(t, fd, &st))
		return false;
	switch (st.st_mode & S_IFMT) {
	case S_IFIFO:
		out->channel = st.st_dev == pipe_dev ? CHAN_PIPE : CHAN_FIFO;
		out->chan = st.st_ino;
		if (out->channel == CHAN_FIFO)
			out->chan ^= (u64)(major(st.st_dev) << 20 | minor(st.st_dev)) << 32;
		out->peer = out->chan;
		return true;
	case S_IFSOCK:
		return socket_endpoint(t, fd, st.st_ino, out);
	case S_IFCHR:
		return pty_endpoint(t, fd, st.st_rdev, out);
	}
	/* Anonymous inodes had no type until kernels of 2025 gave them S_IFREG: their file system tells them. */
	return st.st_dev == anon_dev && anon_endpoint(t, fd, out);
}
