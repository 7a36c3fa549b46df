/* SPDX-License-Identifier: Apache-2.0 */
/* The seccomp filter: the calls we record stop the task, all others run at full speed (the kernel keeps a bitmap of
 * those that a filter always allows).  Threads and children inherit it. */
#include "tracer.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PROT_EXEC_BIT = 4, SET_NAME = 15, PROGRAM_MAX = 512 };
#define DATA(field) offsetof(struct seccomp_data, field)
#define ADD(...) (program[n++] = (struct sock_filter)__VA_ARGS__)

/* Numbers of 32-bit calls mean others: they are let through. */
static unsigned build(struct sock_filter program[PROGRAM_MAX])
{
	unsigned n = 0;
	ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, DATA(arch)));
	ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
	ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
	ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, DATA(nr)));
	for (unsigned nr = 0; nr < SYSCALLS && n < PROGRAM_MAX - 8; nr++) {
		u8 class = settings->shapes[nr].class;
		if (class == CLASS_MMAP) {
			ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4));
			ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, DATA(args[2])));
			ADD(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC_BIT, 0, 1));
			ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE));
			ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
		} else if (class == CLASS_RENAME) {
			ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4));
			ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, DATA(args[0])));
			ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SET_NAME, 0, 1));
			ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE));
			ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
		} else if (class) {
			ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1));
			ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE));
		}
	}
	ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
	return n;
}

/* In the child, before its exec.  Without CAP_SYS_ADMIN the kernel wants no_new_privs first (seccomp(2)); with it,
 * set-user-id programs keep working.  Returns 0 or errno. */
int install_filter(void)
{
	struct sock_filter program[PROGRAM_MAX];
	struct sock_fprog all = {build(program), program};
	if (!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &all))
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return errno;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &all) ? errno : 0;
}
