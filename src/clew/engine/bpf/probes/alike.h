/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* What both engines decide alike: compiled for BPF and for the tracer.  Whoever includes it has the number types and
 * record.h; nothing here reads another's memory. */
#ifndef CLEW_ALIKE_H
#define CLEW_ALIKE_H

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#define CLEW_GOLDEN 0x9e3779b97f4a7c15ULL
#define CLEW_FNV_BASIS 0xcbf29ce484222325ULL
#define CLEW_FNV_PRIME 0x100000001b3ULL
#define CLEW_FUTEX_COMMAND 0x7f
#define CLEW_FUTEX_PRIVATE 128 /* FUTEX_PRIVATE_FLAG, and FUTEX2_PRIVATE */
enum { CLEW_NR_FUTEX = 202, CLEW_NR_FUTEX_WAITV = 449, CLEW_NR_FUTEX_WAKE = 454, CLEW_NR_FUTEX_WAIT = 455,
       CLEW_NR_FUTEX_REQUEUE = 456, CLEW_NR_WAITID = 247 };
enum { CLEW_MSG_PEEK = 2, CLEW_MSG_DONTWAIT = 0x40, CLEW_SOL_SOCKET = 1, CLEW_SCM_RIGHTS = 1 };
enum { CLEW_SUN_PATH = 108 /* unix(7) */, CLEW_MESSAGES = 1024 /* UIO_MAXIOV: the most of one sendmmsg */ };

/* As a 64-bit program has them in its memory. */
struct clew_msghdr {
	u64 name;
	u32 name_len, pad;
	u64 iov, iov_len, control, control_len;
	u32 flags, pad2;
};
struct clew_mmsghdr {
	struct clew_msghdr head;
	u32 len, pad;
};
struct clew_futex_waitv {
	u64 value, word;
	u32 flags, reserved;
};
struct clew_cmsghdr {
	u64 len;
	s32 level, type;
};

/* An address and port in one number.  Of IPv6 47 bits of a hash, marked by the top bit (the whole address is in the socket's
 * record); IPv4 in IPv6 is unwrapped, so both ends agree.  Neither address nor port: 0. */
#define CLEW_INET6 (1ULL << 63)
enum { CLEW_INET6_ENDS = 32 /* bytes: both addresses of a socket */ };

static __always_inline u64 clew_pack_inet(u32 addr, u16 port)
{
	return ((u64)addr << 16) | port;
}

static __always_inline u64 clew_pack_inet6(const u32 word[4], u16 port)
{
	if (!word[0] && !word[1] && word[2] == 0xffff0000)
		return clew_pack_inet(word[3], port);
	u64 high = (u64)word[0] << 32 | word[1], low = (u64)word[2] << 32 | word[3];
	u64 packed = ((high * CLEW_GOLDEN) ^ low) * CLEW_GOLDEN >> 17 << 16 | port;
	return packed ? packed | CLEW_INET6 : 0;
}

/* Which operations on a futex wait, which wake: FUTEX_WAIT 0, WAKE 1, REQUEUE 3, CMP_REQUEUE 4, WAKE_OP 5, LOCK_PI 6,
 * UNLOCK_PI 7, TRYLOCK_PI 8, WAIT_BITSET 9, WAKE_BITSET 10, WAIT_REQUEUE_PI 11, CMP_REQUEUE_PI 12, LOCK_PI2 13
 * (futex(2)). */
static __always_inline u32 clew_futex_kind(u32 nr, u32 operation)
{
	if (nr == CLEW_NR_FUTEX_WAIT || nr == CLEW_NR_FUTEX_WAITV)
		return KIND_FUTEX_WAIT;
	if (nr == CLEW_NR_FUTEX_WAKE || nr == CLEW_NR_FUTEX_REQUEUE)
		return KIND_FUTEX_WAKE;
	return (1u << (operation & CLEW_FUTEX_COMMAND & 31)) & 0x2a41 ? KIND_FUTEX_WAIT : KIND_FUTEX_WAKE;
}

/* Which argument holds a futex call's operation, or its flags, from 1 on (futex(2), futex_waitv(2)). */
static __always_inline u32 clew_futex_operation(u32 nr)
{
	return nr == CLEW_NR_FUTEX_WAKE || nr == CLEW_NR_FUTEX_WAIT ? 4 : 2;
}

/* Whether the call's first argument is a list of words, and not a word itself. */
static __always_inline int clew_futex_lists(u32 nr)
{
	return nr == CLEW_NR_FUTEX_WAITV || nr == CLEW_NR_FUTEX_REQUEUE;
}

/* What the flags of a send or receive mean for its record. */
static __always_inline u16 clew_message_flags(u32 kind, u32 flags)
{
	u16 told = flags & CLEW_MSG_DONTWAIT ? FLAG_NONBLOCK : 0;
	return told | (kind == KIND_RECV && flags & CLEW_MSG_PEEK ? FLAG_PEEK : 0);
}

static __always_inline int clew_passes_files(const struct clew_cmsghdr *c)
{
	return c->level == CLEW_SOL_SOCKET && c->type == CLEW_SCM_RIGHTS;
}

/* Datagrams may name their receiver; of a stream, no send does. */
static __always_inline int clew_takes_addresses(u8 channel)
{
	return channel == CHAN_UDP || channel == CHAN_UNIX_DGRAM;
}

/* Only what can be a code address tells one stack from another: counters, lengths and other numbers below
 * 64 KiB or above the user half change at each call and would make every copy a new one. */
static __always_inline u64 clew_mix(u64 hash, u64 word)
{
	u64 low = word >> 16, high = word >> 47;
	/* All ones if 0 < low and high == 0, without a branch that the verifier would follow both ways. */
	u64 mask = (u64)((s64)(-low & (high - 1) & ~high) >> 63);
	return (hash ^ (word & mask)) * CLEW_GOLDEN;
}

/* A stack is hashed in four lanes, a word to each in turn; they begin with clew_stack_seed(), 1, 2, 3. */
static __always_inline u64 clew_stack_seed(u64 sp, u64 ip, u64 exe_inode)
{
	return (sp * 31 + ip) ^ exe_inode << 16;
}

static __always_inline u64 clew_join_lanes(const u64 lane[4])
{
	u64 a = clew_mix(lane[0], lane[1] & 0x7fffffffffff);
	a = (a ^ lane[2]) * CLEW_GOLDEN;
	return (a ^ lane[3] ^ lane[1]) * CLEW_GOLDEN;
}
#endif
