/* SPDX-License-Identifier: Apache-2.0 */
/* Who woke whom.  The kernel tells a tracer only that FUTEX_WAKE woke n tasks; which ones follows, where it does,
 * from who waited on the word and who of them is no longer asleep when the wake returns.  A WAKE record is
 * written where that leaves one answer; otherwise nothing is, and the reader has both calls to judge by. */
#include "tracer.h"
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

enum { BUCKETS = 1024, ASKED_MAX = 64, LINGER_NS = 100 * 1000 * 1000 };

/* A call on a word: a wait that has not been woken, or a wake that has not woken all it could. */
struct party {
	struct party *next;
	u64 space, address; /* the word: pid or inode, and address or offset in it */
	struct task *task;  /* NULL: it returned */
	struct clew_event event;
	bool waits;
	u64 returned; /* when; 0: not yet */
	s64 left;     /* wakes: how many of those woken are not known yet */
};
static struct party *words[BUCKETS];

/* Operations that move waiters to another word, or concern two: not followed. */
static bool simple(const struct call *c)
{
	u32 op = c->fd & FUTEX_CMD_MASK;
	if (c->nr == CLEW_NR_FUTEX_WAIT || c->nr == CLEW_NR_FUTEX_WAKE)
		return true;
	return c->nr == SYS_futex &&
	       (op == FUTEX_WAIT || op == FUTEX_WAKE || op == FUTEX_WAIT_BITSET || op == FUTEX_WAKE_BITSET);
}

static bool is_private(const struct call *c)
{
	return c->nr == SYS_futex ? c->fd & FUTEX_PRIVATE_FLAG : c->args[3] & CLEW_FUTEX_PRIVATE;
}

static struct party **bucket(u64 space, u64 address)
{
	return &words[((space ^ address >> 2) * 0x9e3779b97f4a7c15ULL >> 40) & (BUCKETS - 1)];
}

static void drop(struct party **at)
{
	struct party *gone = *at;
	*at = gone->next;
	free(gone);
}

void futex_entered(struct task *t)
{
	struct call *c = &t->call;
	u64 space = t->process->pid, address = c->args[0];
	struct party *p;
	if (!simple(c))
		return;
	if (!is_private(c))
		shared_place(t->process->pid, c->args[0], &space, &address);
	p = calloc(1, sizeof(*p));
	if (!p)
		return;
	p->space = space;
	p->address = address;
	p->task = t;
	p->waits = c->kind == KIND_FUTEX_WAIT;
	fill_event(t, &p->event, KIND_WAKE, c->t0, 0);
	c->chan2 = space;
	c->peer2 = address;
	struct party **at = bucket(space, address);
	while (*at)
		at = &(*at)->next; /* in the order they came */
	*at = p;
}

static bool same_word(const struct party *a, const struct party *b)
{
	return a->space == b->space && a->address == b->address;
}

/* State of a task in stat(5): a sleeper still waits, a stopped or running one was woken. */
static bool asleep(const struct party *p)
{
	char text[512], *end;
	if (!p->task)
		return false;
	if (read_proc(text, sizeof(text), "/proc/%d/task/%d/stat", p->task->process->pid, p->task->tid) <= 0)
		return true;
	end = strrchr(text, ')');
	return end && end[1] == ' ' && (end[2] == 'S' || end[2] == 'D');
}

static void tell_wake(struct party *wake, const struct party *woken)
{
	struct clew_event e = wake->event;
	u64 until = wake->returned;
	if (woken->returned && woken->returned < until)
		until = woken->returned;
	/* Within both calls: after they began, before either returned. */
	e.t0 = e.t = until - 1;
	e.peer = woken->event.chan;
	e.chan = (u64)woken->event.pid << 32 | woken->event.tid;
	e.nr = woken->event.nr;
	e.channel = CHAN_FUTEX;
	e.flags = FLAG_SAME_FUTEX;
	tell_event(&e);
	wake->left--;
}

/* Waits of the word that this wake may have ended. */
static int candidates(struct party *wake, struct party *found[ASKED_MAX])
{
	int n = 0, waiting = 0;
	struct party *p;
	for (p = *bucket(wake->space, wake->address); p; p = p->next)
		if (p->waits && same_word(p, wake) && (!p->returned || p->returned > wake->event.t0)) {
			if (n == ASKED_MAX)
				return 0;
			waiting += !p->returned;
			found[n++] = p;
		}
	if (n <= wake->left || !waiting)
		return n;
	int awake = 0;
	for (int i = 0; i < n; i++)
		if (found[i]->returned || !asleep(found[i]))
			found[awake++] = found[i];
	return awake;
}

/* True if another wake of the word may have ended a wait as well. */
static bool rivals(const struct party *wake)
{
	for (struct party *p = *bucket(wake->space, wake->address); p; p = p->next)
		if (p != wake && !p->waits && same_word(p, wake) && (!p->returned || p->left > 0))
			return true;
	return false;
}

/* Drops what is answered, and what nobody answered in time: a wake whose sleeper we do not trace. */
static void forget_done(struct party **at, u64 now)
{
	while (*at) {
		struct party *p = *at;
		bool done = p->waits ? p->event.kind == KIND_NONE : p->returned && p->left <= 0;
		if (done || (p->returned && now - p->returned > LINGER_NS))
			drop(at);
		else
			at = &p->next;
	}
}

/* A wake returned: pair it with those it woke if there is only one way to. */
static void settle(struct party *wake)
{
	struct party *found[ASKED_MAX];
	int n = candidates(wake, found);
	if (n && n <= wake->left && !rivals(wake))
		for (int i = 0; i < n; i++) {
			tell_wake(wake, found[i]);
			found[i]->event.kind = KIND_NONE; /* answered */
		}
}

/* A wait returned: which wakes could have ended it? */
static struct party *only_wake(const struct party *wait, bool *pending)
{
	struct party *one = NULL;
	int n = 0;
	*pending = false;
	for (struct party *p = *bucket(wait->space, wait->address); p; p = p->next)
		if (!p->waits && same_word(p, wait) && p->event.t0 < wait->returned && (!p->returned || p->left > 0)) {
			*pending |= !p->returned;
			one = p;
			n++;
		}
	return n == 1 && !*pending ? one : NULL;
}

static struct party **place_of(const struct task *t)
{
	struct party **at = bucket(t->call.chan2, t->call.peer2);
	while (*at && (*at)->task != t)
		at = &(*at)->next;
	return at;
}

static void wait_returned(struct party **at, u64 now, s64 ret)
{
	struct party *wait = *at, *wake;
	bool pending;
	if (ret) { /* timed out, interrupted, or the word had changed: nobody woke it */
		drop(at);
		return;
	}
	wait->returned = now;
	wait->task = NULL;
	wake = only_wake(wait, &pending);
	if (wake)
		tell_wake(wake, wait);
	if (!pending)
		wait->event.kind = KIND_NONE;
}

static void wake_returned(struct party **at, u64 now, s64 ret)
{
	struct party *wake = *at;
	if (ret <= 0) {
		drop(at);
		return;
	}
	wake->returned = now;
	wake->task = NULL;
	wake->left = ret;
	settle(wake);
}

void futex_returned(struct task *t, u64 now, s64 ret)
{
	struct party **at = place_of(t);
	struct party **chain = bucket(t->call.chan2, t->call.peer2);
	if (!*at)
		return;
	if ((*at)->waits)
		wait_returned(at, now, ret);
	else
		wake_returned(at, now, ret);
	forget_done(chain, now);
}

/* The task died in its call. */
void futex_forget(struct task *t)
{
	if (t->call.live && t->call.class == CLASS_FUTEX && *place_of(t))
		drop(place_of(t));
}
