/* SPDX-License-Identifier: Apache-2.0 */
/* System calls by which tasks talk, wait and wake: noted at entry, reported at return.  What each record holds is
 * what engine/bpf/probes/calls.bpf.h puts into it. */
#include "tracer.h"
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

enum { MMSG_MAX = 64, ADDRESS_MAX = 128 };

static const u8 kinds[] = {
	[CLASS_SEND] = KIND_SEND,         [CLASS_SENDTO] = KIND_SEND,     [CLASS_SENDMSG] = KIND_SEND,
	[CLASS_SENDMMSG] = KIND_SEND,     [CLASS_RECV] = KIND_RECV,       [CLASS_RECVFROM] = KIND_RECV,
	[CLASS_RECVMSG] = KIND_RECV,      [CLASS_RECVMMSG] = KIND_RECV,   [CLASS_WAIT] = KIND_WAIT,
	[CLASS_ACCEPT] = KIND_WAIT,       [CLASS_FUTEX] = KIND_FUTEX_WAKE, [CLASS_WAIT_CHILD] = KIND_WAIT_CHILD,
	[CLASS_CRED] = KIND_CRED,         [CLASS_EXEC] = KIND_EXEC_CALL,  [CLASS_CLONE] = KIND_CLONE,
	[CLASS_CALL] = KIND_NONE,         [CLASS_POLL] = KIND_WAIT,       [CLASS_SELECT] = KIND_WAIT,
	[CLASS_EPOLL] = KIND_WAIT,
};

static u32 kind_of(const struct call *c)
{
	if (c->class == CLASS_FUTEX && futex_waits(c))
		return KIND_FUTEX_WAIT;
	return c->class < sizeof(kinds) ? kinds[c->class] : KIND_NONE;
}

static void address_at(struct task *t, u64 where, u64 len)
{
	char address[ADDRESS_MAX] = {0};
	if (len > sizeof(address))
		len = sizeof(address);
	if (where && len >= 4 && read_memory(t, where, address, len))
		peer_from_address(&t->call, address, len);
}

static bool takes_addresses(const struct call *c)
{
	return c->channel == CHAN_UDP || c->channel == CHAN_UNIX_DGRAM;
}

/* What the message header says: an address (datagrams), passed descriptors. */
static void note_msghdr(struct task *t, u64 where)
{
	struct msghdr m;
	struct cmsghdr cm;
	struct call *c = &t->call;
	if (!read_memory(t, where, &m, sizeof(m)))
		return;
	if (m.msg_control && m.msg_controllen >= sizeof(cm) && read_memory(t, (u64)m.msg_control, &cm, sizeof(cm)) &&
	    cm.cmsg_level == SOL_SOCKET && cm.cmsg_type == SCM_RIGHTS)
		c->flags |= FLAG_FDS;
	if (takes_addresses(c))
		address_at(t, (u64)m.msg_name, m.msg_namelen);
}

static bool note_descriptors(struct task *t)
{
	struct call *c = &t->call;
	struct endpoint end;
	u32 first = c->args[0], second = 0;
	bool two = true, known;

	switch (c->class) {
	case CLASS_SPLICE: second = c->args[2]; break;
	case CLASS_TEE: second = c->args[1]; break;
	case CLASS_SENDFILE: second = first; first = c->args[1]; break;
	default: two = false;
	}
	c->fd = first;
	known = endpoint_of(t, first, &end);
	c->chan = end.chan;
	c->peer = end.peer;
	c->channel = end.channel;
	c->flags = end.flags;
	if (two) {
		known |= endpoint_of(t, second, &end);
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
	u32 flags = 0;
	bool sends = false;
	switch (c->class) {
	case CLASS_SENDTO:
		sends = true;
		flags = c->args[3];
		if (takes_addresses(c))
			address_at(t, c->args[4], c->args[5]);
		break;
	case CLASS_RECVFROM: flags = c->args[3]; break;
	case CLASS_SENDMSG:
	case CLASS_SENDMMSG:
		sends = true;
		flags = c->class == CLASS_SENDMSG ? c->args[2] : c->args[3];
		note_msghdr(t, c->args[1]);
		break;
	case CLASS_RECVMSG: flags = c->args[2]; break;
	case CLASS_RECVMMSG: flags = c->args[3]; break;
	case CLASS_TEE: c->flags |= FLAG_PEEK; break;
	}
	if (flags & MSG_PEEK && !sends)
		c->flags |= FLAG_PEEK;
	if (flags & MSG_DONTWAIT)
		c->flags |= FLAG_NONBLOCK;
}

/* A write to /proc/.../comm renames a thread; other calls on files are none of ours. */
static bool note_file(struct task *t)
{
	t->call.class = CLASS_RENAME;
	return kinds[settings->class[t->call.nr]] == KIND_SEND && was_on_procfs();
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
	case CLASS_ADDRESS: forget_socket(t); return c->nr == SYS_connect && !t->quiet;
	case CLASS_PTRACE:
		if (!t->quiet)
			say(SAY_PTRACE, t->process->pid, t->tid, 0, t->comm);
		return false;
	}
	return false;
}

static u8 class_of(const struct entry *in)
{
	u8 class = in->nr < SYSCALLS ? settings->class[in->nr] : CLASS_NONE;
	if (class == CLASS_MMAP && !(in->args[2] & 4 /* PROT_EXEC */))
		return CLASS_NONE;
	if (class == CLASS_RENAME && in->args[0] != 15 /* PR_SET_NAME */)
		return CLASS_NONE;
	return class;
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
	c->sp = in->sp;
	memcpy(c->args, in->args, sizeof(c->args));
	if (c->class == CLASS_EXEC)
		note_exec_path(t, in);
	if (c->class >= CLASS_MMAP)
		return c->live = note_own(t);
	if (t->quiet)
		return false;
	if (c->class <= CLASS_SENDFILE) {
		if (!note_descriptors(t))
			return c->live = note_file(t);
		if (c->class > CLASS_RECV)
			note_arguments(t);
	} else if (c->class == CLASS_FUTEX) {
		c->chan = c->args[0];
		c->peer = t->process->pid;
		c->channel = CHAN_FUTEX;
		c->fd = c->args[1];
	} else {
		c->fd = c->args[0];
	}
	c->stack = take_stack(t, in->ip, in->sp);
	c->t0 = now;
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
	struct mmsghdr m;
	s64 bytes = 0;
	for (s64 i = 0; i < messages && i < MMSG_MAX; i++)
		if (read_memory(t, t->call.args[1] + i * sizeof(m), &m, sizeof(m)))
			bytes += m.msg_len;
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
	if (!t->call.live || !kind_of(&t->call) || t->quiet)
		return;
	fill_event(t, &e, kind_of(&t->call), clock_ns(), -EINPROGRESS);
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

void call_returned(struct task *t, s64 ret)
{
	struct call *c = &t->call;
	u64 now = clock_ns();
	u16 count = c->fd;

	if (!c->live)
		return;
	c->live = false;
	switch (c->class) {
	case CLASS_RENAME: each_task(reread_comm, t->process); return;
	case CLASS_ADDRESS:
		if (!ret)
			socket_connected(t, c->args[0]);
		return;
	case CLASS_CALL: kill_called(t, now, ret); return;
	case CLASS_SPLICE:
	case CLASS_TEE:
	case CLASS_SENDFILE: tell_both(t, now, ret); return;
	case CLASS_EXEC:
		if (ret >= 0)
			return;
		break;
	case CLASS_SENDMMSG:
	case CLASS_RECVMMSG:
		if (ret > 0) {
			count = ret;
			ret = sum_messages(t, ret);
		}
		break;
	case CLASS_RECVMSG:
		if (ret >= 0)
			note_msghdr(t, c->args[1]);
		break;
	case CLASS_RECVFROM:
		if (ret >= 0 && c->channel == CHAN_UDP)
			address_at(t, c->args[4], 28);
		break;
	case CLASS_CRED:
		if (!ret)
			life_creds(t, now);
		break;
	case CLASS_ACCEPT:
		if (ret >= 0)
			socket_accepted(t, ret);
		break;
	case CLASS_WAIT_CHILD: ret = waited_for(t, ret); break;
	}
	tell_call(t, kind_of(c), now, ret, count);
	if (c->class == CLASS_FUTEX)
		futex_returned(t, now, ret);
}
