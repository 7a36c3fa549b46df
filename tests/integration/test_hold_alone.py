"""A thread that is held alone: its siblings, its parent and its signals know nothing of it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import clew
from clew.errors import HoldError
from clew.kernel import procfs, signals
from tests.support.bounded import until

pytestmark = pytest.mark.requires("root", "bpf", "task-work")

SUBJECT = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
static pthread_t first;
static volatile int handled, over, rounds;
static void on_signal(int number) { (void)number; handled++; }
__attribute__((noipa)) int clew_test_alone(int number) { __asm__ volatile("nop; nop"); return number + 1; }
static void *wait_for_ever(void *at) {
    struct epoll_event event;
    int result = epoll_wait(*(int *)at, &event, 1, -1);
    dprintf(1, "epoll_wait %d %s\n", result, strerror(errno));
    _exit(9);
}
static void *shoot(void *unused) { while (!over) pthread_kill(first, SIGUSR1); return unused; }
int main(int argc, char **argv) {
    pthread_t other;
    int epoll = epoll_create1(0);
    first = pthread_self();
    signal(SIGUSR1, on_signal);
    signal(SIGALRM, on_signal);
    if (!strcmp(argv[1], "epoll")) pthread_create(&other, NULL, wait_for_ever, &epoll);
    if (!strcmp(argv[1], "shot")) pthread_create(&other, NULL, shoot, NULL);
    dprintf(1, "ready\n");
    char byte;
    if (argc > 2) while (read(0, &byte, 1) < 0) {}
    for (int i = 0; i < 4; i++) rounds = clew_test_alone(i);
    over = 1;
    dprintf(1, "handled %d\n", handled);
    return 5;
}
"""


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("subject")
    source = folder / "subject.c"
    source.write_text(SUBJECT)
    program = folder / f"clew-test-a{os.getpid()}"
    subprocess.run(["cc", "-g", "-O1", "-pthread", source, "-o", program], check=True)
    return program


@contextmanager
def holding(*rules: str) -> Iterator[clew.Holding]:
    with clew.holding(*rules, engine="bpf", control=False) as holds:
        yield holds


def _started(subject: Path, act: str) -> subprocess.Popen[bytes]:
    words: list[str | Path] = [subject, act, "waits"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def _go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"x")
    process.stdin.flush()


def test_siblings_that_wait_are_not_disturbed(subject: Path) -> None:
    process = _started(subject, "epoll")
    with holding(f"call:{subject}!clew_test_alone,n=2,max=1") as holds:
        _go(process)
        held = holds.wait(timeout=10)
        assert (held.hold.scope, held.hold.kept, held.tid) == ("thread", "ptrace", process.pid)
        (sibling,) = set(procfs.threads(process.pid)) - {process.pid}
        assert signals.state(process.pid, sibling) == "S"
        held.release()
        out, _ = process.communicate(timeout=10)
    assert (out, process.returncode) == (b"handled 0\n", 5)


def test_whoever_watches_the_process_sees_no_stop(subject: Path) -> None:
    process = _started(subject, "epoll")
    with holding(f"call:{subject}!clew_test_alone,max=1") as holds:
        _go(process)
        held = holds.wait(timeout=10)
        # Of a child that was stopped, and of one that was continued, waitid(2) would tell.
        seen = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WCONTINUED | os.WNOHANG | os.WNOWAIT)
        assert seen is None
        held.release()
        assert process.wait(10) == 5


@pytest.mark.parametrize("how", ["held", "handed over"])
def test_signals_wait_while_a_thread_is_held(subject: Path, how: str) -> None:
    process = _started(subject, "shot")
    with holding(f"call:{subject}!clew_test_alone") as holds:
        _go(process)
        for _ in range(4):
            held = holds.wait(timeout=10)
            assert held.backtrace()[0].function == "clew_test_alone"
            if how == "handed over":
                held.hand_over()
                assert signals.state(process.pid, process.pid) == "T"
                assert held.backtrace()[0].function == "clew_test_alone"
            held.release()
        assert process.wait(10) == 5
        assert not holds.held()
    assert process.stdout is not None
    assert int(process.stdout.read().split()[1]) > 0


def test_a_single_thread_is_handed_over_in_its_place(subject: Path) -> None:
    """Nobody else is there to take the SIGSTOP, and signals of lower numbers are taken first."""
    process = _started(subject, "plain")
    with holding(f"call:{subject}!clew_test_alone,max=1") as holds:
        _go(process)
        held = holds.wait(timeout=10)
        os.kill(process.pid, signal.SIGUSR1)
        os.kill(process.pid, signal.SIGALRM)
        held.hand_over()
        assert signals.state(process.pid, process.pid) == "T"
        assert held.backtrace()[0].function == "clew_test_alone"
        held.release()
        assert process.wait(10) == 5
    assert process.stdout is not None
    assert process.stdout.read() == b"handled 2\n"


def test_a_system_call_that_waits_is_made_again(subject: Path) -> None:
    process = _started(subject, "plain")
    until(lambda: signals.state(process.pid, process.pid) == "S")
    with holding(f"syscall:write,comm={subject.name[:15]},max=1") as holds:
        _go(process)
        held = holds.wait(timeout=10)
        assert held.hold.kept == "ptrace"
        held.release()
        out, _ = process.communicate(timeout=10)
    assert (out, process.returncode) == (b"handled 0\n", 5)


def test_nobody_comes_and_the_process_is_stopped(subject: Path) -> None:
    """The session is busy: the process is stopped as where no task can wait, and the hold begins then."""
    process = _started(subject, "epoll")
    with holding(f"call:{subject}!clew_test_alone,max=1") as holds:
        session = holds.session

        def busy() -> None:
            _go(process)
            until(lambda: signals.state(process.pid, process.pid) == "T", what="the kernel stopped it")

        session.call(busy)  # type: ignore[attr-defined]
        held = holds.wait(timeout=10)
        assert held.hold.scope == "thread"
        with suppress(HoldError):  # its sibling's wait was cut short, and it has ended
            held.release()
        assert process.wait(10) in (5, 9)  # 9: its sibling's wait was cut short, as on kernels before 6.18
