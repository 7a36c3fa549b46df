/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* The kernel as clew's probes see it: only the fields they read, relocated at load time (CO-RE), and the
 * helper numbers of include/uapi/linux/bpf.h.  A full vmlinux.h would be 130,000 lines for these few. */
#ifndef CLEW_KERNEL_BPF_H
#define CLEW_KERNEL_BPF_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed int s32;
typedef signed long long s64;

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
/* A function the verifier checks once, by itself, instead of at each call: it takes numbers and pointers to
 * memory only, which it must compare with NULL. */
#define __checked_once __attribute__((noinline))
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name
#define __ksym __attribute__((section(".ksyms")))
#define __weak __attribute__((weak))
#define __core __attribute__((preserve_access_index))
#define TICK_NS 10000000 /* proc(5) counts the start times of tasks in USER_HZ, 100 a second */
#define barrier_var(var) asm volatile("" : "+r"(var))
#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define NULL ((void *)0)

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_F_NO_PREALLOC = 1 };
enum { BPF_LOCAL_STORAGE_GET_F_CREATE = 1 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };

struct task_struct;
struct pt_regs;

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static u64 (*const bpf_get_current_pid_tgid)(void) = (void *)14;
static long (*const bpf_get_current_comm)(void *buf, u32 size) = (void *)16;
static long (*const bpf_send_signal)(u32 sig) = (void *)109;
static long (*const bpf_probe_read_user)(void *dst, u32 size, const void *src) = (void *)112;
static long (*const bpf_probe_read_kernel)(void *dst, u32 size, const void *src) = (void *)113;
static long (*const bpf_probe_read_user_str)(void *dst, u32 size, const void *src) = (void *)114;
static long (*const bpf_probe_read_kernel_str)(void *dst, u32 size, const void *src) = (void *)115;
static long (*const bpf_ringbuf_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;
static void *(*const bpf_ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, u64 flags) = (void *)132;
static void (*const bpf_ringbuf_discard)(void *data, u64 flags) = (void *)133;
static void *(*const bpf_task_storage_get)(void *map, struct task_struct *task, void *value, u64 flags) = (void *)156;
static struct task_struct *(*const bpf_get_current_task_btf)(void) = (void *)158;
static u64 (*const bpf_get_attach_cookie)(void *ctx) = (void *)174;
static struct pt_regs *(*const bpf_task_pt_regs)(struct task_struct *task) = (void *)175;

/* --- structures, each only as far as it is read ------------------------------------------------ */

struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
} __core;

struct timespec64 { s64 tv_sec; } __core;
struct qstr { const unsigned char *name; } __core;
struct super_block { u32 s_dev; unsigned long s_magic; } __core;
struct inode { u16 i_mode; u32 i_rdev; struct super_block *i_sb; unsigned long i_ino; } __core;
struct dentry { struct dentry *d_parent; struct qstr d_name; struct inode *d_inode; } __core;
struct vfsmount { struct dentry *mnt_root; } __core;
struct mount { struct mount *mnt_parent; struct dentry *mnt_mountpoint; struct vfsmount mnt; } __core;
struct path { struct vfsmount *mnt; struct dentry *dentry; } __core;
struct file { struct inode *f_inode; void *private_data; struct path f_path; u32 f_flags; } __core;
struct fdtable { u32 max_fds; struct file **fd; } __core;
struct files_struct { struct fdtable *fdt; } __core;
struct fs_struct { struct path root, pwd; } __core;

struct in6_addr { u32 word[4]; };
struct ns_common { u32 inum; } __core;
struct net { struct ns_common ns; } __core;

struct sock_common {
	u32 skc_daddr, skc_rcv_saddr;
	u16 skc_dport, skc_num, skc_family;
	struct { struct net *net; } skc_net;
	struct in6_addr skc_v6_daddr, skc_v6_rcv_saddr;
} __core;
struct socket;
struct sock { struct sock_common __sk_common; struct socket *sk_socket; } __core;
struct socket { short type; struct file *file; struct sock *sk; } __core;
struct sockaddr_un { u16 sun_family; char sun_path[108]; };
struct unix_address { int len; struct sockaddr_un name[]; } __core;
struct unix_sock { struct unix_address *addr; struct sock *peer; } __core;

struct tty_struct { int index; } __core;
struct tty_file_private { struct tty_struct *tty; } __core;

typedef struct { u32 val; } kuid_t;
typedef struct { u32 val; } kgid_t;
struct cred { kuid_t uid, euid; kgid_t gid, egid; } __core;
struct mnt_namespace { struct ns_common ns; } __core;
struct pid_namespace { struct ns_common ns; } __core;
struct nsproxy {
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
	struct net *net_ns;
} __core;
struct mm_struct { unsigned long start_stack, arg_start, arg_end, start_code; struct file *exe_file; } __core;
struct thread_struct { unsigned long fsbase; } __core;
struct thread_info { u32 status; } __core;
struct signal_struct { s32 group_exit_code; struct { s32 counter; } live; } __core;
struct task_struct {
	struct thread_info thread_info;
	u32 __state;
	void *stack;
	u32 flags;
	s32 pid, tgid;
	unsigned long nvcsw;
	u64 start_boottime;
	struct task_struct *real_parent, *group_leader;
	struct mm_struct *mm;
	struct files_struct *files;
	struct fs_struct *fs;
	struct nsproxy *nsproxy;
	const struct cred *cred;
	struct signal_struct *signal;
	struct thread_struct thread;
	s32 exit_code;
	char comm[16];
} __core;
struct bpf_iter__task { struct task_struct *task; } __core;
struct linux_binprm { const char *filename, *interp; struct file *file; } __core;
struct kernel_siginfo { int si_signo, si_errno, si_code; } __core;
struct sigaction { void *sa_handler; } __core;
struct k_sigaction { struct sigaction sa; } __core;

/* Whether a function of the kernel is there, which only newer ones have.  Objects called …_plain do without any: Linux 5.15
 * refuses a program with a call of one that it lacks, made or not (commit a5d827275241, Linux 5.16, permits it). */
#ifdef CLEW_PLAIN
#define has(function) 0
#else
#define has(function) (function != NULL)
#endif

/* Since Linux 6.2: gives a pointer a type, and its fields are then plain loads, a tenth of the
 * cost of bpf_probe_read_kernel(). */
extern void *bpf_rdonly_cast(const void *obj, u32 btf_id) __ksym __weak;
#define as_type(type, ptr) ((type *)bpf_rdonly_cast(ptr, __builtin_btf_type_id(*(type *)0, 1 /* the kernel's */)))

/* A field behind a pointer the verifier does not know the type of. */
#define read_field(dst, ptr, field) \
	bpf_probe_read_kernel(&(dst), sizeof(dst), __builtin_preserve_access_index(&(ptr)->field))

/* Eight bytes at any address; 0 if nothing is there.  Any type that begins with a number of that size will do: the
 * types of modules, which bpf_rdonly_cast() does not know, can be read so too. */
static __always_inline u64 word_at(const void *at)
{
	u64 word = 0;
	if (has(bpf_rdonly_cast))
		return as_type(struct timespec64, at)->tv_sec;
	bpf_probe_read_kernel(&word, sizeof(word), at);
	return word;
}

/* The same as a value: a pointer, or a number of at most eight bytes that is not the last of its page. */
#define field_of(ptr, field) ((typeof((ptr)->field))word_at(__builtin_preserve_access_index(&(ptr)->field)))

/* A field behind a pointer whose type the verifier knows; older kernels read it best by that type.  On newer ones each
 * step from one typed pointer to the next makes the verifier search the kernel's BTF by name, for milliseconds
 * (btf_nested_type_is_trusted() in kernel/bpf/btf.c). */
#define member_of(ptr, field) (has(bpf_rdonly_cast) ? field_of(ptr, field) : (ptr)->field)
#endif
