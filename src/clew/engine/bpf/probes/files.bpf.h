/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* From a file descriptor to the channel behind it: which kind, which endpoint, which peer. */
#ifndef CLEW_FILES_BPF_H
#define CLEW_FILES_BPF_H
#include "state.bpf.h"

#define S_IFMT 0170000
#define S_IFIFO 0010000
#define S_IFCHR 0020000
#define S_IFSOCK 0140000
#define PIPEFS_MAGIC 0x50495045
#define ANON_INODE_FS_MAGIC 0x09041934
#define UNIX98_PTY_SLAVE_MAJOR 136 /* to 143 */
#define TTYAUX_MAJOR 5 /* /dev/ptmx is 5:2 */
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
enum { SOCK_STREAM = 1, SOCK_DGRAM = 2, SOCK_SEQPACKET = 5 };

/* Sockets already described on the lifecycle ring, by inode number. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, u64);
} sockets_seen SEC(".maps");

struct socket_scratch {
	struct clew_life life;
	char name[128];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct socket_scratch);
} socket_scratch SEC(".maps");

static __always_inline u16 swap16(u16 v)
{
	return (u16)(v << 8 | v >> 8);
}

static __always_inline void inet_ends(struct sock *sk, u16 family, u64 *local, u64 *remote)
{
	u16 sport = field_of(sk, __sk_common.skc_num), dport = field_of(sk, __sk_common.skc_dport);
	if (family == AF_INET) {
		*local = clew_pack_inet(field_of(sk, __sk_common.skc_rcv_saddr), sport);
		*remote = clew_pack_inet(field_of(sk, __sk_common.skc_daddr), swap16(dport));
	} else {
		struct in6_addr s = {}, d = {};
		read_field(s, sk, __sk_common.skc_v6_rcv_saddr);
		read_field(d, sk, __sk_common.skc_v6_daddr);
		*local = clew_pack_inet6(s.word, sport);
		*remote = clew_pack_inet6(d.word, swap16(dport));
	}
}

/* The inode number of the file a struct sock belongs to; 0 while it is not accepted. */
static __always_inline u64 sock_inode(struct sock *sk)
{
	struct socket *socket = field_of(sk, sk_socket);
	struct file *file = socket ? field_of(socket, file) : NULL;
	struct inode *inode = file ? field_of(file, f_inode) : NULL;
	return inode ? field_of(inode, i_ino) : 0;
}

/* One number for a socket with its addresses: sockets are freed and made again in the same place. */
static __always_inline u64 seen_as(struct sock *sk, u64 local, u64 remote)
{
	return (u64)sk ^ local * 31 ^ remote * 131;
}

/* Describes a socket the first time it is used, with the name it is bound to, or the IPv6 addresses of both ends. */
__checked_once int tell_socket(u64 ino, u64 sock, u32 channel, u64 peer_ino, u64 local)
{
	struct sock *sk = (void *)sock;
	u64 seen = seen_as(sk, local, channel <= CHAN_UNIX_SEQPACKET ? 0 : peer_ino);
	u32 zero = 0;
	struct socket_scratch *s = bpf_map_lookup_elem(&socket_scratch, &zero);
	if (!s)
		return 0;
	__builtin_memset(s, 0, sizeof(*s));
	struct clew_life *l = &s->life;
	u64 id = bpf_get_current_pid_tgid();
	l->t = bpf_ktime_get_ns();
	l->kind = KIND_SOCKET;
	l->tid = id;
	l->pid = id >> 32;
	l->chan = ino;
	l->peer = sock;
	l->peer2 = peer_ino;
	l->local = local;
	struct net *net = field_of(sk, __sk_common.skc_net.net);
	l->ns_net = field_of(net, ns.inum);
	l->channel = channel;
	if (channel == CHAN_UNIX || channel == CHAN_UNIX_DGRAM || channel == CHAN_UNIX_SEQPACKET) {
		struct unix_address *addr = field_of((struct unix_sock *)sk, addr);
		if (addr) {
			int len = field_of(addr, len) - 2; /* sa_family */
			if (len > 108)
				len = 108;
			if (len > 0 && !bpf_probe_read_kernel(s->name, len & 127,
							     (char *)__builtin_preserve_access_index(&addr->name) + 2))
				l->blob_len = len;
		}
	} else if (field_of(sk, __sk_common.skc_family) == AF_INET6) {
		struct in6_addr *ends = (void *)s->name;
		read_field(ends[0], sk, __sk_common.skc_v6_rcv_saddr);
		read_field(ends[1], sk, __sk_common.skc_v6_daddr);
		l->blob_len = CLEW_INET6_ENDS;
	}
	if (bpf_ringbuf_output(&lifecycle, s, sizeof(*s), 0))
		count_lost(KIND_SOCKET);
	else
		bpf_map_update_elem(&sockets_seen, &ino, &seen, BPF_ANY);
	return 0;
}

static __always_inline int socket_endpoint(struct file *file, u64 ino, struct endpoint *out)
{
	u64 local = 0;
	struct socket *socket = field_of(file, private_data);
	struct sock *sk = socket ? field_of(socket, sk) : NULL;
	if (!sk)
		return 0;
	short type = field_of(socket, type);
	u16 family = field_of(sk, __sk_common.skc_family);
	out->chan = ino;
	if (family == AF_UNIX) {
		out->channel = type == SOCK_STREAM ? CHAN_UNIX : type == SOCK_DGRAM ? CHAN_UNIX_DGRAM : CHAN_UNIX_SEQPACKET;
		struct sock *peer = field_of((struct unix_sock *)sk, peer);
		if (peer) {
			out->peer = sock_inode(peer);
			if (!out->peer) {
				out->peer = (u64)peer;
				out->flags |= FLAG_PEER_SOCK;
			}
		}
	} else if (family == AF_INET || family == AF_INET6) {
		out->channel = type == SOCK_STREAM ? CHAN_TCP : CHAN_UDP;
		inet_ends(sk, family, &local, &out->peer);
		out->flags |= FLAG_PEER_INET;
	} else {
		return 0;
	}
	/* It is told of again when its addresses have changed: connected, or bound, since. */
	u64 *seen = bpf_map_lookup_elem(&sockets_seen, &ino);
	if (!seen || *seen != seen_as(sk, local, family == AF_UNIX ? 0 : out->peer))
		tell_socket(ino, (u64)sk, out->channel, out->peer, local);
	return 1;
}

/* Anonymous inodes share one inode number; the name of their dentry tells what they are. */
static __always_inline int anon_endpoint(struct file *file, struct endpoint *out)
{
	struct dentry *dentry = field_of(file, f_path.dentry);
	union {
		u64 all;
		char at[8];
	} name = {word_at(field_of(dentry, d_name.name))};
	const char *word = name.at;

	if (word[1] == 'e' && word[2] == 'v' && word[6] == 'f')
		out->channel = CHAN_EVENTFD; /* "[eventfd]" */
	else if (word[1] == 't' && word[2] == 'i' && word[3] == 'm')
		out->channel = CHAN_TIMERFD; /* "[timerfd]" */
	else if (word[1] == 's' && word[2] == 'i' && word[3] == 'g')
		out->channel = CHAN_SIGNALFD; /* "[signalfd]" */
	else
		return 0;
	out->chan = out->peer = (u64)field_of(file, private_data);
	return 1;
}

static __always_inline int pty_endpoint(struct file *file, u32 rdev, struct endpoint *out)
{
	u32 major = rdev >> 20, index;

	if (rdev != (TTYAUX_MAJOR << 20 | 2) && (major < UNIX98_PTY_SLAVE_MAJOR || major > 143))
		return 0;
	struct tty_file_private *private = field_of(file, private_data);
	struct tty_struct *tty = private ? field_of(private, tty) : NULL;
	if (!tty)
		return 0;
	index = field_of(tty, index) + 1; /* 0 would be no endpoint */
	out->channel = CHAN_PTY;
	out->chan = (u64)index << 1 | (major == TTYAUX_MAJOR);
	out->peer = out->chan ^ 1;
	return 1;
}

/* Descriptors that are neither pipes nor plain files. */
__checked_once int rare_endpoint(u64 at, u64 ino, u32 mode, struct endpoint *out)
{
	struct file *file = (void *)at;
	struct inode *inode = field_of(file, f_inode);

	if (!out)
		return 0;
	out->chan = out->peer = 0;
	if (mode == S_IFSOCK)
		return socket_endpoint(file, ino, out);
	if (mode == S_IFCHR)
		return pty_endpoint(file, field_of(inode, i_rdev), out);
	return anon_endpoint(file, out);
}

static __always_inline struct file *file_of(struct task_struct *task, u32 fd)
{
	struct files_struct *files = member_of(task, files);
	if (!files)
		return NULL;
	struct fdtable *fdt = member_of(files, fdt);
	return fd < member_of(fdt, max_fds) ? (void *)word_at(member_of(fdt, fd) + fd) : NULL;
}

/* What endpoint_of() finds: a file, a channel, or something else that a task may wait for (a netlink socket, inotify). */
enum { END_NONE, END_CHANNEL, END_OTHER };

/* Fills `out` from descriptor `fd` of the current task. */
static __always_inline int endpoint_of(struct task_struct *task, u32 fd, struct endpoint *out)
{
	struct file *file = file_of(task, fd);

	out->flags = 0;
	out->channel = CHAN_NONE;
	if (!file)
		return 0;
	struct inode *inode = field_of(file, f_inode);
	u32 mode = field_of(inode, i_mode) & S_IFMT;
	u64 ino = field_of(inode, i_ino);
	if (mode == S_IFSOCK || mode == S_IFCHR)
		return rare_endpoint((u64)file, ino, mode, out) ? END_CHANNEL : END_OTHER;
	struct super_block *sb = field_of(inode, i_sb);
	u64 magic = field_of(sb, s_magic);
	if (mode == S_IFIFO) {
		out->channel = magic == PIPEFS_MAGIC ? CHAN_PIPE : CHAN_FIFO;
		out->chan = out->peer = magic == PIPEFS_MAGIC ? ino : ino ^ (u64)field_of(sb, s_dev) << 32;
		return END_CHANNEL;
	}
	/* Anonymous inodes had no type bits until kernels of 2025 gave them S_IFREG: ask the
	 * file system instead. */
	if (magic != ANON_INODE_FS_MAGIC)
		return END_NONE;
	return rare_endpoint((u64)file, ino, mode, out) ? END_CHANNEL : END_OTHER;
}
#endif
