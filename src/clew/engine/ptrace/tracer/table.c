/* SPDX-License-Identifier: Apache-2.0 */
/* The tasks we trace, by thread id, and the processes they are in. */
#include "tracer.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUCKETS = 4096 };
static struct task *buckets[BUCKETS];
static u32 count;

static struct task **place_of(pid_t tid)
{
	struct task **at = &buckets[tid & (BUCKETS - 1)];
	while (*at && (*at)->tid != tid)
		at = &(*at)->next;
	return at;
}

struct task *task_of(pid_t tid)
{
	return *place_of(tid);
}

struct process *process_of(pid_t pid)
{
	struct task *leader = task_of(pid);
	return leader && leader->process->pid == pid ? leader->process : NULL;
}

static void *zeroed(size_t size)
{
	void *made = calloc(1, size);
	if (!made)
		_exit(1); /* the kernel lets every tracee go */
	return made;
}

/* A first thread that has ended while others run is in the table no more: ask them. */
static struct process *by_other_threads(pid_t pid)
{
	for (u32 i = 0; i < BUCKETS; i++)
		for (struct task *t = buckets[i]; t; t = t->next)
			if (t->process->pid == pid)
				return t->process;
	return NULL;
}

static struct process *existing(pid_t pid)
{
	struct process *found = process_of(pid);
	return found ? found : by_other_threads(pid);
}

static struct process *new_process(pid_t pid)
{
	struct process *made = zeroed(sizeof(*made));
	made->pid = pid;
	made->pidfd = -1;
	read_numbers(made);
	return made;
}

struct task *new_task(pid_t tid, pid_t pid)
{
	struct task **at = place_of(tid), *t = zeroed(sizeof(*t));
	t->tid = tid;
	t->process = tid == pid ? NULL : existing(pid);
	if (!t->process)
		t->process = new_process(pid);
	t->process->tasks++;
	t->process->threads++;
	t->born = clock_ns();
	*at = t;
	count++;
	return t;
}

void rename_task(struct task *t, pid_t tid)
{
	*place_of(t->tid) = t->next;
	t->next = NULL;
	t->tid = tid;
	*place_of(tid) = t;
}

void free_task(struct task *t)
{
	struct process *p = t->process;
	*place_of(t->tid) = t->next;
	count--;
	if (!t->exiting)
		p->threads--;
	if (!--p->tasks) {
		if (p->pidfd >= 0)
			close(p->pidfd);
		free(p);
	}
	free(t->exec_path);
	free(t);
}

void each_task(void (*visit)(struct task *t, void *with), void *with)
{
	for (u32 i = 0; i < BUCKETS; i++)
		for (struct task *t = buckets[i], *next; t; t = next) {
			next = t->next;
			visit(t, with);
		}
}

u32 task_count(void)
{
	return count;
}
