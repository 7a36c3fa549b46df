/* SPDX-License-Identifier: Apache-2.0 */
/* Whose number a number is (engine/bpf/probes/pids.bpf.h): inside a pid namespace tasks are numbered anew, and calls
 * give and take those numbers.  A recording has those that the tracer itself sees. */
#include "tracer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { ENDED = 256 };

/* Children that ended inside a namespace: the tracer hears of it before their parents do. */
static struct {
	pid_t parent, number, pid;
} ended[ENDED];
static u32 ended_count;

static u64 namespace_of(const char *who)
{
	char path[48];
	struct stat st;
	snprintf(path, sizeof(path), "/proc/%s/ns/pid", who);
	return stat(path, &st) ? 0 : st.st_ino;
}

void read_numbers(struct process *p)
{
	static u64 own;
	char who[16], text[4096], *at;
	if (!own)
		own = namespace_of("self");
	snprintf(who, sizeof(who), "%d", p->pid);
	p->pid_ns = namespace_of(who);
	p->numbers[0] = p->pid;
	p->levels = 1;
	if (!p->pid_ns || p->pid_ns == own || read_proc(text, sizeof(text), "/proc/%d/status", p->pid) <= 0)
		return;
	at = strstr(text, "\nNSpid:");
	for (p->levels = 0, at = at ? at + 7 : text + strlen(text); *at && *at != '\n' && p->levels < PID_LEVELS;)
		p->numbers[p->levels++] = strtol(at, &at, 10);
}

static pid_t number_for(const struct process *p, const struct process *reader)
{
	return reader->levels <= p->levels ? p->numbers[reader->levels - 1] : 0;
}

void note_ended(const struct process *p)
{
	const struct process *parent = process_of(p->parent_pid);
	if (!parent || parent->levels < 2)
		return;
	u32 at = ended_count++ % ENDED;
	ended[at].parent = parent->pid;
	ended[at].number = number_for(p, parent);
	ended[at].pid = p->pid;
}

struct search {
	const struct process *reader;
	pid_t number;
	bool child; /* of the reader; else in the same namespace */
	const struct task *found;
};

static void is_it(struct task *t, void *with)
{
	struct search *s = with;
	const struct process *p = t->process;
	bool near = s->child ? p->parent_pid == s->reader->pid : p->pid_ns == s->reader->pid_ns;
	if (near && t->tid == p->pid && number_for(p, s->reader) == s->number)
		s->found = t;
}

/* Who is called `number` in the namespace of `reader`; 0: nobody we know. */
pid_t process_called(const struct process *reader, pid_t number)
{
	struct search s = {.reader = reader, .number = number};
	if (reader->levels < 2)
		return number;
	each_task(is_it, &s);
	return s.found ? s.found->tid : 0;
}

pid_t child_called(const struct process *reader, pid_t number)
{
	struct search s = {.reader = reader, .number = number, .child = true};
	if (reader->levels < 2 || number <= 0)
		return number;
	for (u32 i = 0; i < ENDED && i < ended_count; i++) {
		u32 at = (ended_count - 1 - i) % ENDED;
		if (ended[at].parent == reader->pid && ended[at].number == number)
			return ended[at].pid;
	}
	each_task(is_it, &s);
	return s.found ? s.found->tid : 0;
}
