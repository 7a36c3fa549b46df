/* SPDX-License-Identifier: Apache-2.0 */
/* System calls by which tasks talk, wait and wake: noted at entry, reported at return.  What each record holds is
 * what engine/bpf/probes/calls.bpf.h puts into it. */
#include "tracer.h"
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

enum { ADDRESS_MAX = 128 };

static const struct clew_shape *shape_of(const struct call *c)
{
	return &settings->shapes[c->nr];
}

/* Argument `n` of the call, from 1 on; 0: there is none. */
static u64 argument(const struct call *c, u32 n)
{
	return n ? c->args[n - 1] : 0;
}

static void address_at(struct task *t, u64 where, u64 len)
{
	char address[ADDRESS_MAX] = {0};
	if (len > sizeof(address))
		len = sizeof(address);
	if (where && len >= 4 && read_memory(t, where, address, len))
		peer_from_address(&t->call, address, len);
}

/* What the message header says: an address (datagrams), passed descriptors. */
static void note_msghdr(struct task *t, u64 where)
{
	struct clew_msghdr m;
	struct clew_cmsghdr first;
	struct call *c = &t->call;
	if (!read_memory(t, where, &m, sizeof(m)))
		return;
	if (m.control && m.control_len >= sizeof(first) && read_memory(t, m.control, &first, sizeof(first)) &&
	    clew_passes_files(&first))
		c->flags |= FLAG_FDS;
	if (clew_takes_addresses(c->channel))
		address_at(t, m.name, m.name_len);
}

static bool note_descriptors(struct task *t)
{
	struct call *c = &t->call;
	struct endpoint end;
	bool known = endpoint_of(t, c->fd, &end);

	c->chan = end.chan;
	c->peer = end.peer;
	c->channel = end.channel;
	c->flags = end.flags | (c->class == CLASS_TEE ? FLAG_PEEK : 0);
	if (shape_of(c)->into) {
		known |= endpoint_of(t, argument(c, shape_of(c)->into), &end);
		c->chan2 = end.chan;
		c->peer2 = end.peer;
		c->channel2 = end.channel;
		c->flags2 = end.flags;
	}
	return known;
}

static void note_arguments(struct task *t)
{
	struct call *c = &t->call;
	const struct clew_shape *s = shape_of(c);
	c->flags |= clew_message_flags(c->kind, argument(c, s->flags));
	if (c->kind == KIND_SEND && s->header)
		note_msghdr(t, argument(c, s->header));
	else if (c->kind == KIND_SEND && s->address && clew_takes_addresses(c->channel))
		address_at(t, argument(c, s->address), argument(c, s->length));
}

/* A write to /proc/.../comm renames a thread; other calls on files are none of ours. */
static bool note_file(struct task *t)
{
	t->call.class = CLASS_RENAME;
	return t->call.kind == KIND_SEND && was_on_procfs();
}

static void forget_socket(struct task *t)
{
	struct endpoint end;
	if (endpoint_of(t, t->call.args[0], &end))
		socket_changed(end.chan);
}

/* Calls that only change what we know; true if their return matters. */
static bool note_own(struct task *t)
{
	struct call *c = &t->call;
	switch (c->class) {
	case CLASS_MMAP:
		t->process->maps_known = false;
		t->process->mapping += !t->mapping;
		t->mapping = true;
		return false;
	case CLASS_RENAME: return true;
	case CLASS_ADDRESS: forget_socket(t); return false;
	case CLASS_PTRACE:
		if (!t->quiet)
			say(SAY_PTRACE, t->process->pid, t->tid, 0, t->comm);
		return false;
	}
	return false;
}

static u8 class_of(const struct entry *in)
{
	u8 class = in->nr < SYSCALLS ? settings->shapes[in->nr].class : CLASS_NONE;
	if (class == CLASS_MMAP && !(in->args[2] & 4 /* PROT_EXEC */))
		return CLASS_NONE;
	if (class == CLASS_RENAME && in->args[0] != 15 /* PR_SET_NAME */)
		return CLASS_NONE;
	return class;
}

/* Whether it matters if the task slept. */
static bool waits(const struct call *c)
{
	return c->kind == KIND_WAIT || c->kind == KIND_FUTEX_WAIT || c->kind == KIND_WAIT_CHILD;
}

/* One word of a list of `n`; while a task waits at several, none is the one it waits at. */
static u64 listed_word(const struct task *t, u64 at, u64 n)
{
	struct clew_futex_waitv w;
	if ((!at && n > 1) || !read_memory(t, t->call.args[0] + at * sizeof(w), &w, sizeof(w)))
		return 0;
	return w.word;
}

bool call_entered(struct task *t, const struct entry *in)
{
	struct call *c = &t->call;
	u64 now = clock_ns();

	memset(c, 0, sizeof(*c));
	c->class = class_of(in);
	if (!c->class)
		return false;
	c->nr = in->nr;
	c->kind = shape_of(c)->kind;
	c->sp = in->sp;
	memcpy(c->args, in->args, sizeof(c->args));
	c->fd = argument(c, shape_of(c)->fd);
	if (c->class == CLASS_EXEC)
		note_exec_path(t, in);
	if (c->class >= CLASS_MMAP)
		return c->live = note_own(t);
	if (t->quiet)
		return false;
	if (c->kind == KIND_SEND || c->kind == KIND_RECV) {
		if (!note_descriptors(t))
			return c->live = note_file(t);
		if (shape_of(c)->flags)
			note_arguments(t);
	} else if (c->class == CLASS_FUTEX) {
		c->chan = clew_futex_lists(c->nr) ? listed_word(t, 0, c->args[1]) : c->args[0];
		c->peer = t->process->pid;
		c->channel = CHAN_FUTEX;
		c->fd = argument(c, clew_futex_operation(c->nr));
		c->kind = clew_futex_kind(c->nr, c->fd);
	} else if (c->class == CLASS_CONNECT) {
		forget_socket(t);
	}
	c->stack = take_stack(t, in->ip, in->sp);
	c->t0 = now;
	if (waits(c))
		c->switches = voluntary_switches(t);
	if (c->class == CLASS_FUTEX)
		futex_entered(t);
	return c->live = true;
}

void fill_event(const struct task *t, struct clew_event *e, u32 kind, u64 now, s64 ret)
{
	const struct call *c = &t->call;
	*e = (struct clew_event){
		.t0 = c->t0, .t = now, .tid = t->tid, .pid = t->process->pid, .kind = kind, .channel = c->channel, .nr = c->nr,
		.ret = ret, .sp = c->sp, .chan = c->chan, .peer = c->peer, .stack = c->stack, .flags = c->flags, .count = c->fd,
	};
}

static void tell_call(const struct task *t, u32 kind, u64 now, s64 ret, u16 count)
{
	struct clew_event e;
	fill_event(t, &e, kind, now, ret);
	e.count = count;
	tell_event(&e);
}

/* splice, tee and sendfile take from one descriptor and put into another: two records. */
static void tell_both(struct task *t, u64 now, s64 ret)
{
	struct call *c = &t->call;
	if (c->channel)
		tell_call(t, KIND_RECV, now, ret, c->fd);
	if (c->channel2) {
		c->channel = c->channel2;
		c->chan = c->chan2;
		c->peer = c->peer2;
		c->flags = c->flags2;
		tell_call(t, KIND_SEND, now, ret, c->fd);
	}
}

/* Bytes of the messages that sendmmsg or recvmmsg moved. */
static s64 sum_messages(const struct task *t, s64 messages)
{
	struct clew_mmsghdr m;
	s64 bytes = 0;
	for (s64 i = 0; i < messages && i < CLEW_MESSAGES; i++)
		if (read_memory(t, t->call.args[1] + i * sizeof(m), &m, sizeof(m)))
			bytes += m.len;
	return bytes;
}

static void reread_comm(struct task *t, void *process)
{
	if (t->process == process && !t->exiting)
		life_renamed(t);
}

/* A call that has not returned when the recording ends: where the task waits.  It moved nothing. */
void call_pending(struct task *t, void *unused)
{
	struct clew_event e;
	(void)unused;
	if (!t->call.live || !t->call.kind || t->quiet)
		return;
	fill_event(t, &e, t->call.kind, clock_ns(), -EINPROGRESS);
	e.flags |= FLAG_PENDING;
	tell_event(&e);
}

/* waitid tells whom it waited for in its siginfo_t only. */
static s64 waited_for(const struct task *t, s64 ret)
{
	siginfo_t info;
	if (t->call.nr == SYS_waitid && !ret && read_memory(t, t->call.args[2], &info, sizeof(info)))
		return info.si_pid;
	return ret;
}

/* What a receive tells of who sent, once it has returned. */
static void note_sender(struct task *t)
{
	const struct clew_shape *s = shape_of(&t->call);
	if (s->header)
		note_msghdr(t, argument(&t->call, s->header));
	else if (s->address && t->call.channel == CHAN_UDP)
		address_at(t, argument(&t->call, s->address), 28);
}

/* Puts into the call what a descriptor stands for now: at the return of a connect, or of an accept, which made it. */
static bool endpoint_now(struct task *t, u32 fd)
{
	struct endpoint end;
	if (!endpoint_of(t, fd, &end))
		return false;
	t->call.chan = end.chan;
	t->call.peer = end.peer;
	t->call.channel = end.channel;
	t->call.flags = end.flags | (t->call.flags & FLAG_BLOCKED);
	return true;
}

void call_returned(struct task *t, s64 ret)
{
	struct call *c = &t->call;
	u64 now = clock_ns();
	u16 count = c->fd;

	if (!c->live)
		return;
	c->live = false;
	/* One switch is that of the stop we are in. */
	if (waits(c) && voluntary_switches(t) > c->switches + 1)
		c->flags |= FLAG_BLOCKED;
	switch (c->class) {
	case CLASS_RENAME: each_task(reread_comm, t->process); return;
	case CLASS_CALL: kill_called(t, now, ret); return;
	case CLASS_PAIR:
	case CLASS_TEE: tell_both(t, now, ret); return;
	case CLASS_CONNECT:
		if (!endpoint_now(t, c->fd))
			return;
		if (!ret)
			socket_connected(t, c->fd);
		break;
	case CLASS_EXEC:
		if (ret >= 0)
			return;
		break;
	case CLASS_MESSAGES:
		if (ret > 0) {
			count = ret;
			ret = sum_messages(t, ret);
		}
		break;
	case CLASS_DATA:
		if (c->kind == KIND_RECV && ret >= 0)
			note_sender(t);
		break;
	case CLASS_CRED:
		if (!ret)
			life_creds(t, now);
		break;
	case CLASS_ACCEPT:
		if (ret >= 0) {
			socket_accepted(t, ret);
			if (endpoint_now(t, ret))
				c->kind = KIND_ACCEPT;
		}
		break;
	case CLASS_POLL:
	case CLASS_SELECT:
	case CLASS_EPOLL: count = ret > 0 ? tell_ready(t, now, ret) : 0; break;
	case CLASS_EPOLL_CTL:
	case CLASS_TIMER_SET:
		if (ret)
			return;
		endpoint_now(t, c->fd);
		ret = (s32)armed_events(t);
		count = c->class == CLASS_EPOLL_CTL ? c->args[1] : 0;
		break;
	case CLASS_FUTEX:
		if (c->nr == CLEW_NR_FUTEX_WAITV && ret >= 0)
			c->chan = listed_word(t, ret, ret + 1); /* the one that was woken */
		break;
	case CLASS_WAIT_CHILD: ret = child_called(t->process, waited_for(t, ret)); break;
	case CLASS_CLONE: ret = child_called(t->process, ret); break;
	}
	tell_call(t, c->kind, now, ret, count);
	if (c->class == CLASS_FUTEX)
		futex_returned(t, now, ret);
}
