"""kill -9 of the ptrace engine's holder: its heir leaves the program as if it had never been held."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import clew
from clew.kernel import procfs, ptrace, signals
from clew.kernel.pidfd import PidFd
from tests.support.bounded import until

pytestmark = pytest.mark.requires("ptrace", "compiler")

SUBJECT = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile int over, handled;
#define BARE __attribute__((naked, noinline)) int
BARE clew_test_pushes(void) { __asm__("push %rbp\n mov $7,%eax\n pop %rbp\n ret"); }
BARE clew_test_xors(void) { __asm__("xor %eax,%eax\n add $7,%eax\n ret"); }
BARE clew_test_returns(int n) { __asm__("ret"); }
static int each(void) {
    return clew_test_pushes() == 7 && clew_test_xors() == 7 ? clew_test_returns(1), 5 : 9;
}
static void *hot(void *unused) {
    (void)unused;
    while (!over) {
        if (clew_test_pushes() != 7 || clew_test_xors() != 7) _exit(9);
        clew_test_returns(1);
    }
    return NULL;
}
static void on_term(int number) { (void)number; handled++; }
int main(int argc, char **argv) {
    pthread_t one[2];
    char byte;
    (void)argc;
    signal(SIGTERM, on_term);
    if (!strcmp(argv[1], "each")) return each();
    if (!strcmp(argv[1], "forks")) {
        int status;
        pid_t child = (each(), fork());
        if (child) dprintf(1, "%d\n", child);
        while (read(0, &byte, 1) < 0) ;
        if (!child) _exit(each());
        return waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5 ? each() : 9;
    }
    if (!strcmp(argv[1], "once")) { clew_test_xors(); return handled ? 6 : 5; }
    if (!strcmp(argv[1], "term")) { kill(getpid(), SIGTERM); return handled ? 6 : 5; }
    for (int i = 0; i < 2; i++) pthread_create(one + i, NULL, hot, NULL);
    while (read(0, &byte, 1) < 0) ;
    over = 1;
    for (int i = 0; i < 2; i++) pthread_join(one[i], NULL);
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    return sigismember(&blocked, SIGUSR1) ? 8 : 5;
}
"""
NAMES = ("pushes", "xors", "returns")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("subject")
    source = folder / "subject.c"
    source.write_text(SUBJECT)
    program = folder / f"clew-test-k{os.getpid()}"
    subprocess.run(["cc", "-g", "-O1", "-w", "-pthread", source, "-o", program], check=True)
    return program


def holding(*rules: str) -> clew.Holding:
    return clew.holding(*rules, engine="ptrace", control=False)


def holder_of(holds: clew.Holding) -> int:
    """The process that traces; the session knows its heir."""
    heir = holds.session.tracer
    children = procfs.read(f"/proc/{heir}/task/{heir}/children") or b""
    return int(children.split()[0])


def kill_holder(holds: clew.Holding) -> None:
    os.kill(holder_of(holds), signal.SIGKILL)


def kill_holder_and_await_heir(holds: clew.Holding) -> None:
    """Return when the heir has done all it will do."""
    heir = PidFd(holds.session.tracer)
    kill_holder(holds)
    assert heir.ended(10)
    heir.close()


def is_free(pid: int) -> bool:
    """Whether no thread of the process is traced or stopped."""
    return all(
        not signals.tracer(tid) and not signals.is_stopped(pid, tid) for tid in procfs.threads(pid)
    ) and bool(procfs.threads(pid))


def code_of(pid: int, program: Path) -> Iterator[tuple[bytes, bytes]]:
    """The program's code, as it is in memory and in the file."""
    for mapping in procfs.mappings(pid):
        if mapping.path == os.fsencode(program):
            with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory, program.open("rb") as file:
                memory.seek(mapping.start)
                file.seek(mapping.file_offset)
                there = memory.read(mapping.end - mapping.start)
                known = file.read(len(there))
                yield there[: len(known)], known


def is_as_in_the_file(pid: int, program: Path) -> bool:
    """Whether there is no breakpoint in the process's code."""
    return all(there == known for there, known in code_of(pid, program))


def test_breakpoints_are_gone_from_parent_and_child(subject: Path) -> None:
    rules = [f"call:{subject}!clew_test_{name},n=1000" for name in NAMES]
    with holding(*rules) as holds:
        process = holds.start([subject, "forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdin is not None
        child = int(process.stdout.readline())
        for pid in (process.pid, child):
            assert [a == b for a, b in code_of(pid, subject)] == [False]
        kill_holder_and_await_heir(holds)
        for pid in (process.pid, child):
            # Between the holder's end and the heir's beginning nobody traces it, and all is as it was.
            until(lambda pid=pid: is_free(pid) and is_as_in_the_file(pid, subject), what="free")  # type: ignore[misc]
        process.stdin.close()
        assert process.wait(10) == 5


@pytest.mark.parametrize("name", NAMES)
def test_who_was_held_at_any_instruction_runs_on(subject: Path, name: str) -> None:
    with holding(f"call:{subject}!clew_test_{name}") as holds:
        process = holds.start([subject, "each"])
        holds.wait(timeout=10)
        kill_holder(holds)
        assert process.wait(10) == 5


def test_who_was_held_runs_on(subject: Path) -> None:
    with holding(f"call:{subject}!clew_test_xors") as holds:
        process = holds.start([subject, "once"])
        holds.wait(timeout=10)
        kill_holder(holds)
        assert process.wait(10) == 5


def test_a_signal_that_was_held_is_delivered(subject: Path) -> None:
    with holding("signal:TERM", f"call:{subject}!clew_test_xors") as holds:
        process = holds.start([subject, "term"])
        holds.wait(timeout=10)
        kill_holder(holds)
        assert process.wait(10) == 6


def test_who_was_handed_over_runs_on(subject: Path) -> None:
    with holding(f"call:{subject}!clew_test_xors") as holds:
        process = holds.start([subject, "once"])
        holds.wait(timeout=10).hand_over()
        assert signals.state(process.pid, process.pid) == "T"
        kill_holder(holds)
        assert process.wait(10) == 5


def test_who_is_in_a_debugger_runs_on_when_that_leaves(subject: Path) -> None:
    with holding(f"call:{subject}!clew_test_xors") as holds:
        process = holds.start([subject, "once"])
        holds.wait(timeout=10).hand_over()
        ptrace.seize(process.pid)
        stop = ptrace.wait(process.pid)
        assert stop is not None and stop.group_stopped
        holder = holder_of(holds)
        os.kill(holder, signal.SIGKILL)
        until(lambda: not procfs.stat(holder), what="the holder's end")
        ptrace.detach(process.pid)
        assert process.wait(10) == 5


def test_who_was_stopped_by_others_stays_so(subject: Path) -> None:
    with holding(f"call:{subject}!clew_test_xors,n=1000") as holds:
        process = holds.start([subject, "forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        for _ in range(2):
            holds.held()  # The holder has seen to that stop by the second answer.
        kill_holder_and_await_heir(holds)
        # A task that is detached is awake for a moment before it falls back into its stop.
        until(lambda: signals.state(process.pid, process.pid) == "T", what="stopped")
        process.send_signal(signal.SIGCONT)
        process.stdin.close()
        assert process.wait(10) == 5


def test_who_is_just_being_stopped_by_others_stays_so(subject: Path) -> None:
    """The holder is killed with the SIGSTOP under way: sent, taken, passed on, or obeyed."""
    for looks in range(4):
        with holding(f"call:{subject}!clew_test_xors,n=1000") as holds:
            process = holds.start([subject, "forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert process.stdout is not None and process.stdin is not None
            process.stdout.readline()
            process.send_signal(signal.SIGSTOP)
            for _ in range(looks):
                signals.state(process.pid, process.pid)
            kill_holder_and_await_heir(holds)
            until(lambda pid=process.pid: signals.state(pid, pid) == "T", what="stopped")  # type: ignore[misc]
            process.send_signal(signal.SIGCONT)
            process.stdin.close()
            assert process.wait(10) == 5
