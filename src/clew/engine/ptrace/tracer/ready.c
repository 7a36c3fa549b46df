/* SPDX-License-Identifier: Apache-2.0 */
/* Which descriptors a wait returned, what was armed, and whether the task slept (engine/bpf/probes/ready.bpf.h). */
#include "tracer.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>

enum { READY_MAX = 64, POLL_MAX = 512, EPOLL_TEXT = 1 << 18 };

struct wait {
	struct task *task;
	u64 now;
	u32 told;
};

static void tell_end(struct wait *w, const struct endpoint *end, u32 fd, u32 events)
{
	struct clew_event e;
	fill_event(w->task, &e, KIND_READY, w->now, (s32)events);
	e.chan = end->chan;
	e.peer = end->peer;
	e.channel = end->channel;
	e.flags = end->flags;
	e.count = fd;
	e.stack = 0;
	tell_event(&e);
	w->told++;
}

static void tell_fd(struct wait *w, u32 fd, u32 events)
{
	struct endpoint end;
	if (!endpoint_of(w->task, fd, &end))
		end = (struct endpoint){0};
	tell_end(w, &end, fd, events);
}

static void ready_of_poll(struct wait *w, const u64 *args)
{
	static struct pollfd all[POLL_MAX];
	u32 n = args[1] < POLL_MAX ? args[1] : POLL_MAX;
	if (!read_memory(w->task, args[0], all, n * sizeof(*all)))
		return;
	for (u32 i = 0; i < n && w->told < READY_MAX; i++)
		if (all[i].revents)
			tell_fd(w, all[i].fd, (u16)all[i].revents);
}

/* One of the three sets that select(2) leaves the ready descriptors in. */
static void ready_of_set(struct wait *w, u64 at, u32 n, u32 events)
{
	fd_set set;
	size_t bytes = (n + 63) / 64 * 8;
	if (!at || bytes > sizeof(set) || !read_memory(w->task, at, &set, bytes))
		return;
	for (u32 fd = 0; fd < n && w->told < READY_MAX; fd++)
		if (FD_ISSET(fd, &set))
			tell_fd(w, fd, events);
}

/* The descriptor that epoll's number stands for, by what fdinfo lists; -1: none, or more than one. */
static int watched_as(const char *list, u64 data)
{
	int found = -1, fd;
	for (const char *at = strstr(list, "tfd:"); at; at = strstr(at + 4, "tfd:")) {
		unsigned long long number;
		unsigned events;
		if (sscanf(at, "tfd: %d events: %x data: %llx", &fd, &events, &number) != 3 || number != data)
			continue;
		if (found >= 0)
			return -1;
		found = fd;
	}
	return found;
}

static void ready_of_epoll(struct wait *w, u32 epoll, u64 at, s64 n)
{
	static char list[EPOLL_TEXT];
	struct epoll_event got[READY_MAX];
	n = n < READY_MAX ? n : READY_MAX;
	if (!read_memory(w->task, at, got, n * sizeof(*got)))
		return;
	if (read_proc(list, sizeof(list), "/proc/%d/fdinfo/%u", w->task->tid, epoll) < 0)
		list[0] = 0;
	for (s64 i = 0; i < n; i++) {
		int fd = watched_as(list, got[i].data.u64);
		struct endpoint unknown = {.channel = CHAN_EPOLL, .peer = got[i].data.u64};
		if (fd >= 0)
			tell_fd(w, fd, got[i].events);
		else
			tell_end(w, &unknown, 0, got[i].events);
	}
}

/* Tells what the wait that returns just now has found; how many descriptors were told. */
u32 tell_ready(struct task *t, u64 now, s64 ret)
{
	const struct call *c = &t->call;
	struct wait w = {t, now, 0};
	switch (c->class) {
	case CLASS_POLL: ready_of_poll(&w, c->args); break;
	case CLASS_SELECT:
		ready_of_set(&w, c->args[1], c->args[0], POLLIN);
		ready_of_set(&w, c->args[2], c->args[0], POLLOUT);
		ready_of_set(&w, c->args[3], c->args[0], POLLPRI);
		break;
	case CLASS_EPOLL: ready_of_epoll(&w, c->args[0], c->args[1], ret); break;
	}
	return w.told;
}

/* The events that epoll_ctl asked for; 0 for other ways to arm. */
u32 armed_events(const struct task *t)
{
	struct epoll_event e = {0};
	const struct call *c = &t->call;
	if (c->class == CLASS_EPOLL_CTL && c->args[1] != EPOLL_CTL_DEL)
		read_memory(t, c->args[3], &e, sizeof(e));
	return e.events;
}

/* How often the task gave up its CPU so far.  It is in a ptrace stop, and that one counts. */
u64 voluntary_switches(const struct task *t)
{
	static const char key[] = "\nvoluntary_ctxt_switches:";
	char text[4096], *at;
	if (read_proc(text, sizeof(text), "/proc/%d/task/%d/status", t->process->pid, t->tid) <= 0)
		return 0;
	at = strstr(text, key);
	return at ? strtoull(at + sizeof(key) - 1, NULL, 10) : 0;
}
