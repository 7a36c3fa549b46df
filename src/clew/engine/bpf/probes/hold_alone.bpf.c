// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
/* Linux 6.18 (commit 38aa7003e369) and 6.19. */
#define HOLD_CAN_WAIT
#include "hold.bpf.c"

extern int bpf_task_work_schedule_signal_impl(struct task_struct *task, struct bpf_task_work *work, void *map,
					      hold_work_function *call, void *program) __ksym;

static __always_inline int hold_give_work(struct task_struct *task, struct bpf_task_work *work, hold_work_function *call)
{
	return bpf_task_work_schedule_signal_impl(task, work, &works, call, NULL);
}
