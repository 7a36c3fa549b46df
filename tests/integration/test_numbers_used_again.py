"""A process that has the number of one that is gone is a stranger, to every probe."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import clew
from clew.engine.bpf import hold_probes, recorder
from clew.engine.bpf.epolls import note_watched
from clew.engine.bpf.hold_probes import HoldProbes
from clew.engine.bpf.parts import RECORDING
from clew.engine.bpf.ring import Ring
from clew.engine.bpf.selection import select
from clew.engine.engine import RecordRequest
from clew.kernel.syscalls import numbers
from clew.model.event import ChannelType, EventKind
from clew.model.rules import parse_rules
from clew.model.rules.kernel import compile_rule
from clew.trace.layout import FRAMED_EVENT
from tests.support.bounded import until
from tests.support.reused import end, ended_at_last, sleeper, spawn_as
from tests.support.tracing import compiled

pytestmark = pytest.mark.requires("root", "bpf", "compiler")

SUBJECT = r"""
#define _GNU_SOURCE
#include <string.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (!strcmp(argv[1], "fork")) {
        pid_t child = fork();
        if (!child) for (;;) ;
        printf("%d\n", child);
        fflush(stdout);
        wait(NULL);
    }
    if (!strcmp(argv[1], "libc")) getppid();
    if (!strcmp(argv[1], "raw")) {
        long r;
        __asm__ volatile("syscall" : "=a"(r) : "a"(SYS_getppid) : "rcx", "r11", "memory");
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("subject")
    (folder / "subject.c").write_text(SUBJECT)
    program = folder / f"clew-test-n{os.getpid()}"
    subprocess.run(["cc", "-O1", folder / "subject.c", "-o", program], check=True)
    return program


@pytest.fixture
def probes() -> Iterator[HoldProbes]:
    with closing(HoldProbes(8)) as made:
        yield made


def _arm(probes: HoldProbes, rule: str) -> None:
    probes.arm(compile_rule(parse_rules([rule]).rules[0], numbers()))
    probes.enable()


def _ends_by_itself(pid: int) -> bool:
    """False if it is stopped first."""
    return os.WIFEXITED(os.waitpid(pid, os.WUNTRACED)[1])


def test_one_with_the_number_of_a_spared_process_is_held(probes: HoldProbes, subject: Path) -> None:
    old = sleeper()
    probes.spare(old, tree=True)
    end(old)
    _arm(probes, f"exec:{subject.name}")
    with ended_at_last(spawn_as(old, str(subject), "none")):
        until(lambda: old in {held.pid for held in probes.all_held()})


@pytest.mark.parametrize("condition", ["pid", "tree"])
def test_a_rule_about_a_process_is_not_about_the_next_of_its_number(
    probes: HoldProbes, subject: Path, condition: str
) -> None:
    old = sleeper()
    _arm(probes, f"exec:{subject.name},{condition}={old}")
    end(old)
    assert _ends_by_itself(spawn_as(old, str(subject), "none"))


def test_the_command_is_not_the_next_of_its_number(probes: HoldProbes, subject: Path) -> None:
    old = sleeper()
    probes.set_command(old)
    _arm(probes, f"exec:{subject.name},tree=cmd")
    end(old)
    assert _ends_by_itself(spawn_as(old, str(subject), "none"))


def test_one_with_the_number_of_a_kept_process_runs(probes: HoldProbes) -> None:
    old = sleeper()
    probes.keep(old)
    end(old)
    assert _ends_by_itself(spawn_as(old, "true"))


def test_one_with_the_number_of_a_child_to_be_held_later_runs(
    probes: HoldProbes, subject: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold_probes, "can_signal_child", lambda: False)
    _arm(probes, f"fork:{subject.name}")
    parent = subprocess.Popen([subject, "fork"], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(child, 9)
    parent.communicate()
    assert _ends_by_itself(spawn_as(child, "true"))


def test_a_thread_that_was_never_asked_is_asked(subject: Path, tmp_path: Path) -> None:
    """The one that was died just before its system call."""
    with clew.holding(f"syscall:getppid,exe={subject.name}", control=False) as holds:
        process = subprocess.Popen([subject, "libc"])
        assert holds.wait(timeout=10).hold.exact == "before-syscall"
        process.kill()
        process.wait()
        with ended_at_last(spawn_as(process.pid, str(subject), "raw")) as pid:
            held = holds.wait(timeout=10)
            assert held.pid == pid
            held.release()
            assert _ends_by_itself(pid)


@pytest.mark.parametrize("again", [False, True])
def test_only_the_process_that_was_named_is_recorded(again: bool) -> None:
    """``-p``, and its process ends before the probes are on."""
    to_cat, ours, from_cat, theirs = *os.pipe(), *os.pipe()
    with RECORDING.open() as probe:
        named = sleeper() if again else spawn_cat(to_cat, theirs)
        request = RecordRequest(pids=(named,), scope="tree")
        recorder._configure(probe, request)
        probe.load()
        select(probe, request)
        if again:
            end(named)
            spawn_as(named, "cat", stdin=to_cat, stdout=theirs)
        with ended_at_last(named), closing(Ring(probe.map("events"))) as ring:
            for program in probe.programs():
                if program not in (recorder._AT_THE_END, *recorder._OF_QUEUES):
                    probe.attach(program)
            os.write(ours, b"x")
            assert os.read(from_cat, 1) == b"x"
            probe.detach()
            found: list[int] = []
            ring.drain(lambda data: found.extend(_pids(data)))
    for fd in (to_cat, ours, from_cat, theirs):
        os.close(fd)
    assert (named in found) is not again


def spawn_cat(stdin: int, stdout: int) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1)]
    return os.posix_spawnp("cat", ["cat"], os.environ, file_actions=actions)


def _pids(data: memoryview) -> Iterator[int]:
    return (int(event["pid"]) for event in np.frombuffer(data, FRAMED_EVENT))


# Watches descriptor 60 or 61 by an epoll that is descriptor 50; a child of the given number then waits there.
WATCHES = """
#include <linux/sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv) {
    pid_t number = argc > 1 ? atoi(argv[1]) : 0;
    struct epoll_event event = {EPOLLIN, {.u64 = 77}};
    int ends[2];
    char byte = 0;
    for (int fd = 60; fd < 62; fd++)
        if (pipe(ends) || dup2(ends[0], fd) < 0 || write(ends[1], &byte, 1) != 1)
            return 1;
    if (dup2(epoll_create1(0), 50) < 0 || epoll_ctl(50, EPOLL_CTL_ADD, number ? 60 : 61, &event))
        return 2;
    if (write(1, &byte, 1) != 1 || read(0, &byte, 1) != 1)
        return 3;
    struct clone_args like = {.exit_signal = 17, .set_tid = (uintptr_t)&number, .set_tid_size = 1};
    pid_t child = syscall(SYS_clone3, &like, sizeof like);
    if (!child)
        _exit(epoll_wait(50, &event, 1, -1) != 1);
    int status = 0;
    return child != number || waitpid(child, &status, 0) != child || status;
}
"""


def test_what_was_armed_before_was_armed_by_no_later_process_of_that_number() -> None:
    def started(*words: str) -> subprocess.Popen[bytes]:
        made = subprocess.Popen([compiled(WATCHES), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert made.stdout is not None
        assert made.stdout.read(1) == b"\0"
        return made

    with RECORDING.open() as probe, started() as old, started(str(old.pid)) as parent:
        recorder._configure(probe, RecordRequest(pids=(parent.pid,), scope="tree"))
        probe.load()
        select(probe, RecordRequest(pids=(parent.pid,), scope="tree"))
        note_watched(probe.map("armed_before"), [old.pid, parent.pid])
        with closing(Ring(probe.map("events"))) as ring:
            for program in probe.programs():
                if program not in (recorder._AT_THE_END, *recorder._OF_QUEUES):
                    probe.attach(program)
            old.kill()
            old.wait()
            parent.communicate(b"x", timeout=30)
            assert parent.returncode == 0
            probe.detach()
            found: list[bytes] = []
            ring.drain(lambda data: found.append(bytes(data)))
    events = np.concatenate([np.frombuffer(data, FRAMED_EVENT) for data in found])
    (ready,) = events[(events["kind"] == EventKind.READY) & (events["pid"] == old.pid)]
    assert ready["channel"] == ChannelType.EPOLL
