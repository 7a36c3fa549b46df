"""``--queue``: jobs that change hands in memory, where no wake-up tells who got which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.clew_command import clew, complaint, flow_of
from tests.support.tracing import compiled

_PROGRAM = """
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
enum { PRODUCERS = 3, WORKERS = 2, EACH = 20, ALL = PRODUCERS * EACH, AGAIN = 8 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long jobs[ALL], slots[AGAIN];
static int put, taken, way[2];
/* A job is where its number stands: numbers pass, places are used again. */
__attribute__((noinline, noclone)) void push(int unused, long *job) {
	pthread_mutex_lock(&lock);
	jobs[put++] = (long)job;
	pthread_mutex_unlock(&lock);
	(void)unused;
}
__attribute__((noinline, noclone)) long *pop(void) {
	long *job = NULL;
	pthread_mutex_lock(&lock);
	if (taken < put)
		job = (long *)jobs[taken++];
	pthread_mutex_unlock(&lock);
	return job;
}
static void *produce(void *number) {
	char name[16];
	snprintf(name, sizeof name, "producer%ld", (long)number);
	prctl(PR_SET_NAME, name);
	for (long i = 0; i < EACH; i++) {
		long job = i * PRODUCERS + (long)number + 1, *slot = &slots[job % AGAIN];
		while (__atomic_load_n(slot, __ATOMIC_ACQUIRE) || !__sync_bool_compare_and_swap(slot, 0, job))
			sched_yield();
		push(0, slot);
	}
	return number;
}
static void *work(void *done) {
	char message[ALL + 1] = "";
	while (__atomic_load_n(&taken, __ATOMIC_ACQUIRE) < ALL) { /* always awake */
		long *job = pop();
		if (!job) {
			sched_yield();
			continue;
		}
		long number = *job;
		__atomic_store_n(job, 0, __ATOMIC_RELEASE);
		if (write(way[1], message, number) != number)
			_exit(1);
	}
	return done;
}
int main(void) {
	pthread_t threads[PRODUCERS + WORKERS];
	char message[ALL + 1];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, way))
		return 1;
	for (long i = 0; i < PRODUCERS + WORKERS; i++)
		pthread_create(&threads[i], NULL, i < PRODUCERS ? produce : work, (void *)i);
	for (int i = 0; i < ALL; i++)
		if (read(way[0], message, sizeof message) <= 0)
			return 1;
	for (int i = 0; i < PRODUCERS + WORKERS; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
"""
_JOBS, _PRODUCERS = 60, 3


def _followed(path: Path, take: str, folder: Path) -> dict[str, Any]:
    queue = ("--queue", f"call:{path}!push,arg=2", f"call:{path}!pop,{take}")
    done = clew("follow", "--engine", "bpf", "--json", *queue, "-o", folder / "trace", "--", path)
    assert done.returncode == 0, done.stderr
    return flow_of(done)


@pytest.mark.requires("root", "bpf", "compiler")
def test_a_job_belongs_to_whoever_put_it_into_the_queue(tmp_path: Path) -> None:
    flow = _followed(compiled(_PROGRAM), "ret", tmp_path)
    assert not any(flow["events"]["lost"].values())
    put = [hop for hop in flow["hops"] if hop["channel"] and hop["channel"]["type"] == "queue"]
    assert len(put) == _JOBS and len({hop["channel"]["id"] for hop in put}) < _JOBS
    by_act = {hop["activation_to"]: hop for hop in put}
    worked = [hop for hop in flow["hops"] if hop["channel"] and hop["channel"]["type"] == "unix-seqpacket"]
    assert sorted(hop["bytes"] for hop in worked) == list(range(1, _JOBS + 1))
    for hop in worked:  # a job's number is how many bytes its worker then sent
        given = by_act[hop["activation_from"]]
        assert given["from"]["comm"] == f"producer{(hop['bytes'] - 1) % _PRODUCERS}"
        assert given["to"]["tid"] == hop["from"]["tid"]
        assert (given["kind"], given["tier"], given["bytes"]) == ("message", "observed", None)
        assert given["channel"]["name"].startswith("job 0x")


@pytest.mark.requires("root", "bpf", "compiler")
def test_a_queue_is_shown_to_people_and_is_no_system_call(tmp_path: Path) -> None:
    _followed(compiled(_PROGRAM), "ret", tmp_path)
    shown = clew("show", tmp_path / "trace", "--whole").stdout.decode()
    assert "queue job 0x" in shown
    told = clew("rules", "explain", "--json", "--trace", tmp_path / "trace", "syscall:read,comm=producer*")
    assert flow_of(told)["rules"][0]["hits"] == 0


@pytest.mark.parametrize(
    ("put", "take", "said"),
    [
        ("call:push", "call:pop,ret", "where the job is"),
        ("call:push,arg=7", "call:pop,ret", "where the job is"),
        ("call:push,ret", "call:pop,ret", "as an argument"),
        ("exec:push,arg=1", "call:pop,ret", "by two functions"),
        ("call:push,uid=0,arg=1", "call:pop,ret", "by two functions"),
    ],
)
def test_a_queue_that_is_not_named_rightly_is_refused(put: str, take: str, said: str) -> None:
    done = clew("follow", "--queue", put, take, "--", "true")
    assert done.returncode == 125
    assert said in complaint(done)


def test_the_ptrace_engine_knows_no_queues() -> None:
    done = clew(
        "record", "--engine", "ptrace", "--queue", "call:malloc,arg=1", "call:free,arg=1", "--", "true"
    )
    assert done.returncode == 125
    assert "--engine bpf" in complaint(done)


@pytest.mark.requires("root", "bpf")
def test_a_function_that_is_nowhere_is_told(tmp_path: Path) -> None:
    queue = ("--queue", "call:/bin/true!no_such_push,arg=1", "call:/bin/true!no_such_pop,ret")
    done = clew("record", "-o", tmp_path / "trace", *queue, "--", "true")
    assert done.returncode == 125
    assert "no_such_push" in complaint(done)
