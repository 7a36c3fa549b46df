/* SPDX-License-Identifier: Apache-2.0 */
/* Rings of shared memory, one writer (we) and one reader (clew), framed as a BPF ring buffer frames its records.
 * clew.engine.ptrace.rings describes the same bytes. */
#include "tracer.h"
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { RINGS = 4, HEADER = 4096, FRAME = 8 };
enum { EVENTS, LIFECYCLE, STACKS, MAPS };

struct shared {
	struct ring {
		u64 head; /* bytes written since the start */
		u64 tail; /* bytes taken */
		u64 size; /* a power of two */
		u64 at;   /* where its bytes begin in the file */
	} ring[RINGS];
	u64 lost[KIND_MAX];
	u64 maps_lost;
};

static struct shared *shared;
static size_t mapped;
static struct clew_event gap;

bool rings_open(int fd)
{
	struct stat st;
	if (fstat(fd, &st) || st.st_size < HEADER)
		return false;
	void *at = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return false;
	shared = at;
	mapped = st.st_size;
	return true;
}

void rings_close(void)
{
	if (shared)
		munmap(shared, mapped);
	shared = NULL;
}

static void copy_in(const struct ring *r, u64 position, const void *from, size_t len)
{
	char *base = (char *)shared + r->at;
	u64 at = position & (r->size - 1);
	size_t first = r->size - at < len ? r->size - at : len;
	memcpy(base + at, from, first);
	memcpy(base, (const char *)from + first, len - first);
}

/* Writes one record made of two parts; false if there is no room. */
static bool put(int which, const void *a, size_t a_len, const void *b, size_t b_len)
{
	static const char zeros[FRAME];
	struct ring *r = &shared->ring[which];
	u64 len = a_len + b_len, padded = (len + FRAME - 1) & ~(u64)(FRAME - 1), head = r->head;
	u64 tail = __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE);

	if (head - tail + FRAME + padded > r->size)
		return false;
	copy_in(r, head, &len, FRAME);
	copy_in(r, head + FRAME, a, a_len);
	copy_in(r, head + FRAME + a_len, b, b_len);
	copy_in(r, head + FRAME + len, zeros, padded - len);
	__atomic_store_n(&r->head, head + FRAME + padded, __ATOMIC_RELEASE);
	return true;
}

void tell_event(struct clew_event *e)
{
	if (!shared || !recording)
		return;
	if (gap.ret && put(EVENTS, &gap, sizeof(gap), NULL, 0))
		gap.ret = 0;
	if (put(EVENTS, e, sizeof(*e), NULL, 0))
		return;
	shared->lost[e->kind]++;
	if (!gap.ret) {
		gap.kind = KIND_GAP;
		gap.t0 = e->t;
	}
	gap.t = e->t;
	gap.ret++;
}

void tell_life(struct clew_life *l, const void *blob, u32 len)
{
	if (!shared || !recording)
		return;
	l->blob_len = len;
	if (!put(LIFECYCLE, l, sizeof(*l), blob, len))
		shared->lost[l->kind]++;
}

bool tell_stack(const struct clew_stack *head, const void *bytes)
{
	if (!shared || !recording)
		return false;
	bool room = put(STACKS, head, sizeof(*head), bytes, head->len);
	if (!room)
		shared->lost[KIND_STACK]++;
	return room;
}

void tell_mapping(pid_t pid, u64 start, u64 end, u64 offset, const char *path)
{
	struct {
		u64 t, start, end, offset;
		u32 pid, path_len;
	} m = {clock_ns(), start, end, offset, pid, strlen(path)};
	if (shared && recording && !put(MAPS, &m, sizeof(m), path, m.path_len))
		shared->maps_lost++;
}
