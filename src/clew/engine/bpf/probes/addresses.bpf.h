/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Whom the address of a datagram names. */
#ifndef CLEW_ADDRESSES_BPF_H
#define CLEW_ADDRESSES_BPF_H
#include "files.bpf.h"

#define NAME_MASK 127

/* FNV-1a over a unix address as bind(2) took it; clew.flow.sockets computes the same. */
__checked_once int peer_from_name(struct call *c, u64 name, u64 len)
{
	char at[NAME_MASK + 1] = {};
	u64 h = CLEW_FNV_BASIS;

	if (!c || !len || len > CLEW_SUN_PATH)
		return 0;
	/* The compiler may keep the length in another register than the one it compared; that the two are equal is known
	 * to newer verifiers only (Linux 6.18 does, 6.12 does not).  A mask it cannot leave out bounds it for all. */
	barrier_var(len);
	/* A path ends at its first NUL, an abstract name (leading NUL) at the given length. */
	long n = bpf_probe_read_user_str(at, (len + 1) & NAME_MASK, (void *)name) - 1;
	if (n <= 0) {
		if (bpf_probe_read_user(at, len & NAME_MASK, (void *)name))
			return 0;
		n = len;
	}
	for (u32 i = 0; i < CLEW_SUN_PATH; i++) {
		if (i >= n)
			break;
		h = (h ^ (u8)at[i]) * CLEW_FNV_PRIME;
	}
	c->end.peer = h;
	c->end.flags = (c->end.flags & ~FLAG_PEER_SOCK) | FLAG_PEER_NAME;
	return 0;
}

/* The peer that a datagram's own address names. */
__checked_once int peer_from_address(struct call *c, u64 addr, u64 len)
{
	struct {
		u16 family, port;
		union {
			u32 v4;
			struct {
				u32 flow;
				struct in6_addr v6;
			};
		};
	} a = {};

	if (!c || !addr || len < 4)
		return 0;
	bpf_probe_read_user(&a.family, sizeof(a.family), (void *)addr);
	if (a.family == AF_UNIX)
		return peer_from_name(c, addr + sizeof(a.family), len - sizeof(a.family));
	if (len > sizeof(a))
		len = sizeof(a);
	barrier_var(len);
	if (len > sizeof(a) || bpf_probe_read_user(&a, len, (void *)addr))
		return 0;
	if (a.family == AF_INET)
		c->end.peer = clew_pack_inet(a.v4, swap16(a.port));
	else if (a.family == AF_INET6)
		c->end.peer = clew_pack_inet6(a.v6.word, swap16(a.port));
	else
		return 0;
	c->end.flags |= FLAG_PEER_INET;
	return 0;
}
#endif
