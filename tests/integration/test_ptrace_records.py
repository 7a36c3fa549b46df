"""Records that the ptrace engine has to conclude, because no stop tells them."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from clew.model.event import ChannelType, EventFlag, EventKind
from tests.support.tracing import compiled, record

pytestmark = pytest.mark.requires("compiler")

FILTERED = pytest.mark.parametrize("filtered", [True, False], ids=["filter", "no-filter"])

POOL = """
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
enum { WORKERS = 4, JOBS = 200 };
static sem_t todo[WORKERS], done;
static int asleep(int tid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    FILE *file = fopen(path, "r");
    int there = file && fgets(text, sizeof text, file) && strrchr(text, ')')[2] == 'S';
    if (file)
        fclose(file);
    return there;
}
static volatile int tids[WORKERS];
static void *work(void *mine) {
    long me = (long)mine;
    tids[me] = (int)syscall(SYS_gettid);
    for (;;) {
        sem_wait(&todo[me]);
        sem_post(&done);
    }
    return NULL;
}
int main(void) {
    pthread_t thread;
    sem_init(&done, 0, 0);
    for (long i = 0; i < WORKERS; i++) {
        sem_init(&todo[i], 0, 0);
        if (pthread_create(&thread, NULL, work, (void *)i))
            return 1;
    }
    for (int i = 0; i < JOBS; i++) {
        int one = i % WORKERS;
        while (!tids[one] || !asleep(tids[one]))
            usleep(100);
        sem_post(&todo[one]);
        sem_wait(&done);
    }
    _exit(0);
}
"""


@FILTERED
def test_who_woke_whom(filtered: bool, tmp_path: Path) -> None:
    """Each job wakes one sleeping worker: told once, by the right task, within both calls; no other is."""
    done = record(tmp_path, compiled(POOL), filtered=filtered)
    assert done.outcome.wait_status == 0
    root = done.outcome.root_pid
    wakes = done.events(EventKind.WAKE)
    assert set(wakes["flags"].tolist()) == {EventFlag.SAME_FUTEX}
    to_workers = wakes[wakes["tid"] == root]
    assert len(to_workers) == 200
    workers = {life.tid for life in done.lives if life.kind == EventKind.FORKED}
    woken = [int(chan) & 0xFFFFFFFF for chan in to_workers["chan"]]
    assert set(woken) == workers
    assert all(woken[i] == woken[i % 4] for i in range(200))
    waits = done.events(EventKind.FUTEX_WAIT)
    for wake, tid in zip(to_workers, woken, strict=True):
        mine = waits[(waits["tid"] == tid) & (waits["t0"] < wake["t"]) & (wake["t"] < waits["t"])]
        assert mine["chan"].tolist() == [wake["peer"]]
        assert mine["ret"].tolist() == [0]


GROUP_KILL = """
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void nothing(int sig) { (void)sig; }
int main(void) {
    int ready[2], status;
    char c;
    sigset_t none, some;
    setpgid(0, 0);
    signal(SIGUSR1, nothing);
    sigemptyset(&none);
    sigemptyset(&some);
    sigaddset(&some, SIGUSR1);
    sigprocmask(SIG_BLOCK, &some, NULL);
    if (pipe(ready))
        return 1;
    for (int i = 0; i < 3; i++)
        if (!fork()) {
            if (write(ready[1], "r", 1) == 1)
                sigsuspend(&none);
            _exit(0);
        }
    for (int i = 0; i < 3; i++)
        if (read(ready[0], &c, 1) != 1)
            return 2;
    if (kill(0, SIGUSR1))
        return 3;
    for (int i = 0; i < 3; i++)
        if (wait(&status) < 0 || status)
            return 4;
    return 0;
}
"""


@FILTERED
def test_a_signal_to_a_group_is_told_of_each_receiver(filtered: bool, tmp_path: Path) -> None:
    done = record(tmp_path, compiled(GROUP_KILL), filtered=filtered)
    assert done.outcome.wait_status == 0
    root = done.outcome.root_pid
    children = {life.pid for life in done.lives if life.kind == EventKind.FORKED}
    sent = done.events(EventKind.SIGNAL)
    sent = sent[sent["nr"] == signal.SIGUSR1]
    assert set(sent["pid"].tolist()) == {root}
    assert sorted(int(chan) >> 32 for chan in sent["chan"]) == sorted(children)
    taken = done.events(EventKind.SIGNALLED)
    for pid in children:
        (at,) = taken[(taken["pid"] == pid) & (taken["nr"] == signal.SIGUSR1)]["t"]
        assert all(event["t"] < at for event in sent if int(event["chan"]) >> 32 == pid)


NAMES = """
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
static int stay[2];
static void *work(void *unused) { char c; return read(stay[0], &c, 1) == 1 ? unused : NULL; }
int main(void) {
    pthread_t thread;
    if (pipe(stay) || pthread_create(&thread, NULL, work, NULL))
        return 1;
    prctl(PR_SET_NAME, "by\\nprctl");
    pthread_setname_np(thread, "by-proc");
    prctl(PR_SET_DUMPABLE, 1);
    return write(stay[1], "x", 1) != 1 || pthread_join(thread, NULL);
}
"""


@FILTERED
def test_renamings(filtered: bool, tmp_path: Path) -> None:
    done = record(tmp_path, compiled(NAMES), filtered=filtered)
    assert done.outcome.wait_status == 0
    root = done.outcome.root_pid
    (thread,) = [life.tid for life in done.lives if life.kind == EventKind.FORKED]
    names = {life.tid: life.comm.rstrip(b"\0") for life in done.lives if life.kind == EventKind.RENAMED}
    assert names == {root: b"by\nprctl", thread: b"by-proc"}


@pytest.mark.parametrize("size", [4096, 16384])
def test_what_is_lost_is_counted(size: int, tmp_path: Path) -> None:
    """A buffer far too small: recorded and lost are together what was produced."""
    source = """
#include <unistd.h>
int main(void) {
    int ends[2];
    char c = 1;
    if (pipe(ends))
        return 1;
    for (int i = 0; i < 5000; i++)
        if (write(ends[1], &c, 1) != 1 || read(ends[0], &c, 1) != 1)
            return 2;
    return 0;
}
"""
    done = record(tmp_path, compiled(source), buffer_bytes=size)
    assert done.outcome.wait_status == 0
    lost = done.outcome.lost
    for kind in (EventKind.SEND, EventKind.RECV):
        assert len(done.events(kind)) + lost.get(kind.name.lower(), 0) == 5000
    gaps = done.events(EventKind.GAP)
    # The last gap is told only if a record comes after it.
    assert int(gaps["ret"].sum()) <= sum(lost.values())
    assert np.all(gaps["t0"] <= gaps["t"])


WAITS = """
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    int never[2];
    char path[64], text[512] = "", c, *state = NULL;
    if (pipe(never))
        return 1;
    pid_t child = fork();
    if (!child) {
        alarm(20);
        return read(never[0], &c, 1) != 1;
    }
    snprintf(path, sizeof path, "/proc/%d/stat", child);
    do {
        FILE *file = fopen(path, "r");
        if (file && fgets(text, sizeof text, file))
            state = strrchr(text, ')');
        if (file)
            fclose(file);
    } while (!state || state[2] != 'S');
    return 0;
}
"""


@FILTERED
def test_who_still_waits_at_the_end(filtered: bool, tmp_path: Path) -> None:
    done = record(tmp_path, compiled(WAITS), filtered=filtered)
    assert done.outcome.wait_status == 0
    (child,) = [life.pid for life in done.lives if life.kind == EventKind.FORKED]
    pending = [event for event in done.trace.events if event["flags"] & EventFlag.PENDING]
    assert [(event["pid"], event["kind"]) for event in pending] == [(child, EventKind.RECV)]
    assert pending[0]["ret"] == -errno.EINPROGRESS
    assert pending[0]["channel"] == ChannelType.PIPE
    assert done.trace.stack(int(pending[0]["stack"]))
    os.kill(child, signal.SIGKILL)


NETNS = """
#include <arpa/inet.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    char c = 1;
    if (unshare(CLONE_NEWNET) || system("ip link set lo up"))
        return 77;
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (void *)&at, len) || listen(listener, 1) || getsockname(listener, (void *)&at, &len))
        return 1;
    if (connect(client, (void *)&at, len))
        return 2;
    int server = accept(listener, NULL, NULL);
    return send(client, &c, 1, 0) != 1 || recv(server, &c, 1, 0) != 1;
}
"""


@pytest.mark.requires("root")
def test_tcp_in_a_network_namespace_of_its_own(tmp_path: Path) -> None:
    done = record(tmp_path, compiled(NETNS))
    if done.outcome.wait_status == 77 << 8:
        pytest.skip("no network namespaces, or no ip(8)")
    assert done.outcome.wait_status == 0
    tcp = [
        event for event in done.events(EventKind.SEND, EventKind.RECV) if event["channel"] == ChannelType.TCP
    ]
    assert len(tcp) == 2
    ends = {life.chan: (life.local, life.peer2) for life in done.lives if life.kind == EventKind.SOCKET}
    sent, taken = (ends[int(event["chan"])] for event in tcp)
    assert sent == taken[::-1]
    assert all(sent)
