/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of a socket.  pidfd_getfd(2) borrows the traced task's own descriptor, so that getsockname and
 * getpeername answer for any network namespace; the peer of a unix socket is told by sock_diag(7) only. */
#include "tracer.h"
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/unix_diag.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum { PATH_BYTES = CLEW_SUN_PATH, FAMILY_BYTES = 2 };

/* What is known of a socket, by its inode number; a place may be taken by another one. */
struct known {
	u64 ino;
	struct endpoint end;
	u64 local;
	u32 name_len; /* of a unix socket; what bind(2) gave, or autobind, stays */
	u32 net; /* its network namespace; 0: not known */
	bool settled; /* its peer will not change */
};
enum { KNOWN = 8192 };
static struct known table[KNOWN];

static struct known *place_of(u64 ino)
{
	return &table[(ino * 0x9e3779b97f4a7c15ULL >> 32) & (KNOWN - 1)];
}

void socket_changed(u64 ino)
{
	if (place_of(ino)->ino == ino)
		place_of(ino)->settled = false;
}

static u64 pack_address(const struct sockaddr_storage *a)
{
	if (a->ss_family == AF_INET) {
		const struct sockaddr_in *v4 = (const void *)a;
		return clew_pack_inet(v4->sin_addr.s_addr, ntohs(v4->sin_port));
	}
	const struct sockaddr_in6 *v6 = (const void *)a;
	u32 w[4];
	memcpy(w, &v6->sin6_addr, sizeof(w));
	return clew_pack_inet6(w, ntohs(v6->sin6_port));
}

/* The peer that an address names (calls.bpf.h: peer_from_address). */
void peer_from_address(struct call *c, const void *address, size_t len)
{
	struct sockaddr_storage a = {0};
	if (len < 4)
		return;
	memcpy(&a, address, len < sizeof(a) ? len : sizeof(a));
	if (a.ss_family == AF_INET || a.ss_family == AF_INET6) {
		c->peer = pack_address(&a);
		c->flags |= FLAG_PEER_INET;
	} else if (a.ss_family == AF_UNIX) {
		const u8 *p = (const u8 *)address + FAMILY_BYTES;
		u64 h = CLEW_FNV_BASIS;
		for (size_t i = 0; i < len - FAMILY_BYTES && i < PATH_BYTES && (p[i] || !p[0]); i++)
			h = (h ^ p[i]) * CLEW_FNV_PRIME;
		c->peer = h;
		c->flags = (c->flags & ~FLAG_PEER_SOCK) | FLAG_PEER_NAME;
	}
}

static int borrow(const struct task *t, u32 fd)
{
	struct process *p = t->process;
	if (p->pidfd < 0)
		p->pidfd = syscall(SYS_pidfd_open, p->pid, 0);
	return p->pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, p->pidfd, fd, 0);
}

static int number_option(int fd, int option)
{
	int value = 0;
	socklen_t len = sizeof(value);
	return getsockopt(fd, SOL_SOCKET, option, &value, &len) ? -1 : value;
}

/* --- unix sockets: sock_diag ---------------------------------------------------------------------- */

struct answer {
	bool found;
	u64 peer;
	u32 name_len;
	char name[PATH_BYTES];
};

static void read_answer(const struct nlmsghdr *h, struct answer *out)
{
	const struct unix_diag_msg *m = NLMSG_DATA(h);
	int left = (int)h->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*m));
	out->found = true;
	for (const struct rtattr *a = (const void *)(m + 1); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == UNIX_DIAG_PEER) {
			u32 ino;
			memcpy(&ino, RTA_DATA(a), sizeof(ino));
			out->peer = ino;
		} else if (a->rta_type == UNIX_DIAG_NAME) {
			out->name_len = RTA_PAYLOAD(a) < PATH_BYTES ? RTA_PAYLOAD(a) : PATH_BYTES;
			memcpy(out->name, RTA_DATA(a), out->name_len);
		}
	}
}

static void ask_unix(u64 ino, struct answer *out)
{
	static int diag = -1;
	struct {
		struct nlmsghdr h;
		struct unix_diag_req r;
	} q = {
		{.nlmsg_len = sizeof(q), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
		{.sdiag_family = AF_UNIX, .udiag_states = -1, .udiag_ino = ino, .udiag_show = UDIAG_SHOW_PEER | UDIAG_SHOW_NAME,
		 .udiag_cookie = {-1, -1}},
	};
	char text[1024] __attribute__((aligned(8)));
	memset(out, 0, sizeof(*out));
	if (diag < 0)
		diag = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (diag < 0 || send(diag, &q, sizeof(q), 0) < 0)
		return;
	ssize_t n = recv(diag, text, sizeof(text), 0);
	const struct nlmsghdr *h = (const void *)text;
	if (n >= (ssize_t)NLMSG_LENGTH(sizeof(struct unix_diag_msg)) && h->nlmsg_type == SOCK_DIAG_BY_FAMILY)
		read_answer(h, out);
}

/* --- telling -------------------------------------------------------------------------------------- */

/* A name for the kernel's struct sock of `end`, which we cannot see: the one whose peer is that inode.  A message to
 * a socket that is not accepted yet carries it, and so does that socket's description once it is. */
static u64 sock_facing(u64 peer_ino)
{
	return 1ULL << 63 | peer_ino;
}

static void tell_socket(const struct task *t, u64 ino, const struct known *k, const struct answer *a)
{
	struct clew_life l = {
		.t = clock_ns(), .kind = KIND_SOCKET, .tid = t->tid, .pid = t->process->pid, .chan = ino, .peer2 = k->end.peer,
		.local = k->local, .channel = k->end.channel, .ns_net = k->net,
	};
	bool is_unix = k->end.channel <= CHAN_UNIX_SEQPACKET;
	if (k->end.flags & FLAG_PEER_SOCK)
		l.peer2 = 0;
	l.peer = is_unix && l.peer2 ? sock_facing(l.peer2) : 1ULL << 62 | ino;
	tell_life(&l, a->name, a->name_len);
}

static void look_at_unix(u64 ino, int type, struct known *k, struct answer *a)
{
	ask_unix(ino, a);
	k->end.channel = type == SOCK_STREAM ? CHAN_UNIX : type == SOCK_DGRAM ? CHAN_UNIX_DGRAM : CHAN_UNIX_SEQPACKET;
	k->end.peer = a->peer;
	k->name_len = a->name_len;
	k->settled = a->peer != 0;
}

/* One end of an internet socket; of IPv6 the whole address too. */
static u64 look_at_end(int fd, int (*get)(int, struct sockaddr *, socklen_t *), char whole[CLEW_INET6_ENDS / 2])
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	memset(whole, 0, CLEW_INET6_ENDS / 2);
	if (get(fd, (void *)&a, &len))
		return 0;
	if (a.ss_family == AF_INET6)
		memcpy(whole, &((struct sockaddr_in6 *)&a)->sin6_addr, CLEW_INET6_ENDS / 2);
	return pack_address(&a);
}

static bool look_at_inet(int fd, int family, int type, struct known *k, struct answer *a)
{
	k->end.channel = type == SOCK_STREAM ? CHAN_TCP : CHAN_UDP;
	k->end.flags = FLAG_PEER_INET;
	k->local = look_at_end(fd, getsockname, a->name);
	k->end.peer = look_at_end(fd, getpeername, a->name + CLEW_INET6_ENDS / 2);
	k->settled = k->end.peer != 0;
	a->name_len = family == AF_INET6 ? CLEW_INET6_ENDS : 0;
	return true;
}

/* The socket's own namespace, if we may ask for it (CAP_NET_ADMIN in it); else the task's, which is nearly always it. */
static u32 net_of(const struct task *t, int fd)
{
	char path[48];
	struct stat st;
	int net = ioctl(fd, SIOCGSKNS);
	if (net >= 0) {
		bool known = !fstat(net, &st);
		close(net);
		return known ? st.st_ino : 0;
	}
	snprintf(path, sizeof(path), "/proc/%d/ns/net", t->tid);
	return stat(path, &st) ? 0 : st.st_ino;
}

/* True if `fd`, borrowed, is of a family we record. */
static bool look(const struct task *t, int fd, u64 ino, struct known *k, struct answer *a)
{
	int family = number_option(fd, SO_DOMAIN), type = number_option(fd, SO_TYPE);
	a->name_len = 0;
	k->net = net_of(t, fd);
	if (family == AF_INET || family == AF_INET6)
		return look_at_inet(fd, family, type, k, a);
	if (family != AF_UNIX)
		return false;
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	look_at_unix(ino, type, k, a);
	/* Connected, but to a socket nobody has accepted yet. */
	if (!k->end.peer && type != SOCK_DGRAM && !getpeername(fd, (void *)&peer, &len)) {
		k->end.peer = sock_facing(ino);
		k->end.flags = FLAG_PEER_SOCK;
	}
	return true;
}

/* --- clients that may be gone before they are accepted --------------------------------------------- */

/* A listener hands out connections in the order they were made.  Where the client's socket is closed by the time it
 * is accepted, nothing but this order tells whose the connection was. */
struct client {
	struct client *next;
	u64 listener; /* hash of its address */
	u64 ino;
};
enum { CLIENTS = 1024 }; /* more wait for daemons we do not trace: the oldest is forgotten */
static struct client *clients;
static u32 client_count;

static u64 address_hash(int fd, int (*get)(int, struct sockaddr *, socklen_t *))
{
	struct sockaddr_un a = {0};
	socklen_t len = sizeof(a);
	struct call c = {0};
	if (!get(fd, (void *)&a, &len) && a.sun_family == AF_UNIX)
		peer_from_address(&c, &a, len);
	return c.peer;
}

static u64 inode_of(int fd)
{
	struct stat st;
	return fstat(fd, &st) ? 0 : st.st_ino;
}

static void drop_client(struct client **at)
{
	struct client *gone = *at;
	*at = gone->next;
	free(gone);
	client_count--;
}

/* Takes the client `ino` of `listener` from those that wait; for 0, the first one whose socket is closed. */
static u64 take_client(u64 listener, u64 ino)
{
	struct answer a;
	for (struct client **at = &clients; *at; at = &(*at)->next) {
		struct client *c = *at;
		if (c->listener != listener || (ino && c->ino != ino))
			continue;
		if (!ino)
			ask_unix(c->ino, &a);
		if (!ino && a.found)
			continue;
		u64 found = c->ino;
		drop_client(at);
		return found;
	}
	return 0;
}

void socket_connected(const struct task *t, u32 fd)
{
	int own = borrow(t, fd);
	struct client *c = NULL, **end = &clients;
	if (own < 0)
		return;
	if (number_option(own, SO_DOMAIN) == AF_UNIX && number_option(own, SO_TYPE) != SOCK_DGRAM)
		c = calloc(1, sizeof(*c));
	if (c) {
		c->listener = address_hash(own, getpeername);
		c->ino = inode_of(own);
		while (*end)
			end = &(*end)->next;
		*end = c;
		if (++client_count > CLIENTS)
			drop_client(&clients);
	}
	close(own);
}

/* An accepted socket is looked at while its peer may still be there. */
void socket_accepted(const struct task *t, u32 fd)
{
	int own = borrow(t, fd);
	struct known now = {.end.chan = 0};
	struct answer a;
	if (own < 0)
		return;
	now.ino = now.end.chan = inode_of(own);
	if (look(t, own, now.ino, &now, &a)) {
		if (now.end.channel == CHAN_UNIX || now.end.channel == CHAN_UNIX_SEQPACKET) {
			bool gone = now.end.flags & FLAG_PEER_SOCK;
			u64 client = take_client(address_hash(own, getsockname), gone ? 0 : now.end.peer);
			if (gone && client) {
				now.end.peer = client;
				now.end.flags = 0;
				now.settled = true;
			}
		}
		tell_socket(t, now.ino, &now, &a);
		*place_of(now.ino) = now;
	}
	close(own);
}

/* --------------------------------------------------------------------------------------------------- */

bool socket_endpoint(const struct task *t, u32 fd, u64 ino, struct endpoint *out)
{
	struct known *k = place_of(ino), now = {.ino = ino};
	struct answer a;
	if (k->ino == ino && k->settled) {
		*out = k->end;
		return true;
	}
	int own = borrow(t, fd);
	bool ours = own >= 0 && look(t, own, ino, &now, &a);
	if (own >= 0)
		close(own);
	if (!ours)
		return false;
	now.end.chan = ino;
	if (k->ino != ino || k->end.peer != now.end.peer || k->local != now.local || k->name_len != now.name_len)
		tell_socket(t, ino, &now, &a);
	*k = now;
	*out = now.end;
	return true;
}
