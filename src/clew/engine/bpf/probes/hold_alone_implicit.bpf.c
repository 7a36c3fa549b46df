// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
/* Where the verifier adds the argument that says which program calls (KF_IMPLICIT_ARGS), Linux 7.0 and later. */
#define HOLD_CAN_WAIT
#include "hold.bpf.c"

extern int bpf_task_work_schedule_signal(struct task_struct *task, struct bpf_task_work *work, void *map,
					 hold_work_function *call) __ksym;

static __always_inline int hold_give_work(struct task_struct *task, struct bpf_task_work *work, hold_work_function *call)
{
	return bpf_task_work_schedule_signal(task, work, &works, call);
}
