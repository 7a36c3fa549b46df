/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* What a wait for many descriptors was armed with, and which of them it returned. */
#ifndef CLEW_READY_BPF_H
#define CLEW_READY_BPF_H
#include "files.bpf.h"

#define READY_MAX 64    /* told for one wait, or hardly more; its record says how many were */
#define POLL_MAX 512    /* entries of a poll that are looked at */
#define SELECT_WORDS 16 /* of each set: descriptors up to 1023, which is all select(2) can do */
#define EPOLL_DEL 2
enum { POLLIN = 1, POLLPRI = 2, POLLOUT = 4 };

/* epoll hands back a number of the program's own choice: which descriptor was meant is what epoll_ctl said. */
struct armed_key {
	u64 epoll, data;
};
struct armed {
	struct endpoint end;
	u64 file;
	u32 fd;
	u32 ambiguous; /* two descriptors go by this number */
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct armed_key);
	__type(value, struct armed);
} armed SEC(".maps");

/* (epoll, file, fd) → the number it was armed with. */
struct armed_file {
	u64 epoll, file, fd;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct armed_file);
	__type(value, u64);
} armed_as SEC(".maps");

/* What was armed before the recording, by /proc/PID/fdinfo (clew.engine.bpf.epolls): value: descriptor.  The number of a
 * process is used again: the one meant began then. */
struct armed_before {
	u64 start; /* in ticks */
	u64 data;
	u32 pid, epoll;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct armed_before);
	__type(value, u32);
} armed_before SEC(".maps");

struct user_pollfd {
	int fd;
	u16 events, revents;
};

__checked_once int tell_one(struct call *c, const struct endpoint *end, u32 fd, u32 events)
{
	struct task_struct *task = bpf_get_current_task_btf();
	if (!c || !end)
		return 0;
	struct clew_event *e = new_event(KIND_READY, c->t);
	if (!e)
		return 0;
	e->t0 = c->t0;
	e->tid = task->pid;
	e->pid = task->tgid;
	e->channel = end->channel;
	e->nr = c->nr;
	e->ret = events;
	e->sp = c->sp;
	e->chan = end->chan;
	e->peer = end->peer;
	e->stack = 0;
	e->flags = end->flags;
	e->count = fd;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 1;
}

__checked_once int tell_fd(struct call *c, u32 fd, u32 events)
{
	struct endpoint end = {};
	if (endpoint_of(bpf_get_current_task_btf(), fd, &end) != END_CHANNEL)
		end.chan = end.peer = 0;
	return tell_one(c, &end, fd, events);
}

__checked_once u32 ready_of_poll(struct call *c)
{
	struct pt_regs *r = bpf_task_pt_regs(bpf_get_current_task_btf());
	u32 told = 0, n = r->si;
	u64 at = r->di;
	for (u32 i = 0; i < POLL_MAX; i++, at += sizeof(struct user_pollfd)) {
		struct user_pollfd p = {};
		if (i >= n || told >= READY_MAX || bpf_probe_read_user(&p, sizeof(p), (void *)at))
			break;
		if (p.revents)
			told += tell_fd(c, p.fd, p.revents);
	}
	return told;
}

/* Which bit the only one of a word is: a multiplication by a de Bruijn sequence moves its number to the top.  (A chain
 * of comparisons would make the verifier follow each outcome.) */
static const u8 bit_numbers[64] SEC(".rodata.bits") = {
	0,  1,  2,  53, 3,  7,  54, 27, 4,  38, 41, 8,  34, 55, 48, 28, 62, 5,  39, 46, 44, 42, 22, 9,  24, 35, 59, 56,
	49, 18, 29, 11, 63, 52, 6,  26, 37, 40, 33, 47, 61, 45, 43, 21, 23, 58, 17, 10, 51, 25, 36, 32, 60, 20, 57, 16,
	50, 31, 19, 15, 30, 14, 13, 12,
};

__checked_once u32 ready_of_word(struct call *c, u64 word, u32 first, u32 events)
{
	u32 told = 0;
	for (u32 i = 0; i < 64; i++) {
		u64 low = word & -word;
		if (!word)
			break;
		word ^= low;
		told += tell_fd(c, first + bit_numbers[(low * 0x022fdd63cc95386dULL) >> 58], events);
	}
	return told;
}

/* One of the three sets that select(2) leaves the ready descriptors in. */
__checked_once u32 ready_of_set(struct call *c, u64 at, u32 n, u32 events)
{
	u32 told = 0;
	if (!at)
		return 0;
	for (u32 i = 0; i < SELECT_WORDS; i++) {
		u64 word = 0;
		if (i * 64 >= n || told >= READY_MAX || bpf_probe_read_user(&word, sizeof(word), (void *)(at + i * 8)))
			break;
		told += ready_of_word(c, word, i * 64, events);
	}
	return told;
}

static __always_inline u32 ready_of_select(struct call *c, struct pt_regs *r)
{
	u32 n = r->di;
	return ready_of_set(c, r->si, n, POLLIN) + ready_of_set(c, r->dx, n, POLLOUT) + ready_of_set(c, r->r10, n, POLLPRI);
}

static __always_inline u64 epoll_at(struct task_struct *task, u32 fd)
{
	struct file *file = file_of(task, fd);
	return file ? (u64)field_of(file, private_data) : 0;
}

/* One that was armed before the recording began. */
static __always_inline int resolve_before(struct task_struct *task, u32 epoll, u64 data, struct armed *a)
{
	struct task_struct *leader = member_of(task, group_leader);
	struct armed_before key = {member_of(leader, start_boottime) / TICK_NS, data, task->tgid, epoll};
	u32 *fd = bpf_map_lookup_elem(&armed_before, &key);
	if (!fd)
		return 0;
	a->fd = *fd;
	if (endpoint_of(task, a->fd, &a->end) != END_CHANNEL)
		a->end.chan = a->end.peer = 0;
	return 1;
}

__checked_once int tell_epoll(struct call *c, u64 epoll, u64 data, u32 events)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct armed_key key = {epoll, data};
	struct armed before = {}, *a = bpf_map_lookup_elem(&armed, &key);
	if (!c)
		return 0;
	if (a && !a->ambiguous)
		before = *a;
	else if (a || !resolve_before(task, c->fd, data, &before)) {
		before.end.channel = CHAN_EPOLL;
		before.end.chan = epoll;
		before.end.peer = data;
	}
	return tell_one(c, &before.end, before.fd, events);
}

__checked_once u32 ready_of_epoll(struct call *c, u32 n)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *r = bpf_task_pt_regs(task);
	u64 at = r->si, epoll = epoll_at(task, r->di);
	u32 told = 0;
	for (u32 i = 0; i < READY_MAX; i++, at += 12 /* struct epoll_event is packed */) {
		u32 events = 0;
		u64 data = 0;
		if (i >= n || bpf_probe_read_user(&events, sizeof(events), (void *)at) ||
		    bpf_probe_read_user(&data, sizeof(data), (void *)(at + 4)))
			break;
		told += tell_epoll(c, epoll, data, events);
	}
	return told;
}

/* Tells which descriptors the wait in `c` returned; gives how many were told. */
static __always_inline u32 tell_ready(struct call *c, s64 ret)
{
	switch (c->class) {
	case CLASS_POLL: return ready_of_poll(c);
	case CLASS_SELECT: return ready_of_select(c, bpf_task_pt_regs(bpf_get_current_task_btf()));
	case CLASS_EPOLL: return ready_of_epoll(c, ret);
	}
	return 0;
}

/* A number that is armed twice says no longer which descriptor is meant, unless the first one was closed since: then
 * its place in the table holds another file, or none. */
static __always_inline int meets_another(struct task_struct *task, const struct armed *old, u64 file, u32 fd)
{
	return (old->file != file || old->fd != fd) && (u64)file_of(task, old->fd) == old->file;
}

__checked_once int note_epoll(u64 epoll, u64 data, u32 fd, const struct endpoint *end)
{
	struct task_struct *task = bpf_get_current_task_btf();
	u64 file = (u64)file_of(task, fd);
	struct armed_key key = {epoll, data};
	struct armed_file self = {epoll, file, fd};
	struct armed new = {.file = file, .fd = fd};
	if (!end)
		return 0;
	new.end = *end;
	u64 *before = bpf_map_lookup_elem(&armed_as, &self);
	if (before && *before != data) {
		struct armed_key gone = {epoll, *before};
		bpf_map_delete_elem(&armed, &gone);
	}
	struct armed *old = bpf_map_lookup_elem(&armed, &key);
	new.ambiguous = old && (old->ambiguous || meets_another(task, old, file, fd));
	bpf_map_update_elem(&armed_as, &self, &data, BPF_ANY);
	bpf_map_update_elem(&armed, &key, &new, BPF_ANY);
	return 0;
}

__checked_once int forget_epoll(u64 epoll, u32 fd)
{
	struct armed_file self = {epoll, (u64)file_of(bpf_get_current_task_btf(), fd), fd};
	u64 *data = bpf_map_lookup_elem(&armed_as, &self);
	if (data) {
		struct armed_key gone = {epoll, *data};
		bpf_map_delete_elem(&armed, &gone);
		bpf_map_delete_elem(&armed_as, &self);
	}
	return 0;
}

/* epoll_ctl and timerfd_settime have succeeded: puts what was armed into the call; gives the events asked for. */
__checked_once int note_armed(struct call *c)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *r = bpf_task_pt_regs(task);
	u32 fd, events = 0;
	u64 data = 0, epoll;
	if (!c)
		return 0;
	fd = c->class == CLASS_EPOLL_CTL ? r->dx : r->di;
	if (endpoint_of(task, fd, &c->end) != END_CHANNEL)
		c->end.chan = c->end.peer = 0;
	if (c->class != CLASS_EPOLL_CTL)
		return 0;
	epoll = epoll_at(task, r->di);
	if ((u32)r->si == EPOLL_DEL) {
		forget_epoll(epoll, fd);
		return 0;
	}
	bpf_probe_read_user(&events, sizeof(events), (void *)r->r10);
	bpf_probe_read_user(&data, sizeof(data), (void *)(r->r10 + 4));
	note_epoll(epoll, data, fd, &c->end);
	return events;
}
#endif
