"""Holding without root: the stops only a tracer can make, and that no program is hurt by it."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import clew
from clew.errors import HoldError, PermissionMissing
from clew.hold.hold import HoldEvent
from clew.kernel import signals
from tests.support.bounded import until
from tests.support.nobody import as_nobody, shared_folder

pytestmark = pytest.mark.requires("ptrace", "compiler")

SUBJECT = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
__attribute__((noipa)) int clew_test_hot(int n) { return n + 1; }
__attribute__((noipa, naked)) int clew_test_jump(int n) { __asm__("jmp 1f\n nop\n1: mov %edi,%eax\n ret"); }
static void say(const char *text) { dprintf(1, "%s\n", text); }
static void *work(void *count) {
    for (long i = 0; i < (long)count; i++) { clew_test_hot(i); clew_test_jump(i); }
    return NULL;
}
static void on_term(int number) { (void)number; say("handled"); }
static void *exec_it(void *argv) { execv(((char **)argv)[0], argv); return NULL; }
static void ended(pid_t child) {
    int status;
    if (waitpid(child, &status, 0) != child || status) { say("a child was hurt"); _exit(9); }
}
static void crowd(long count) {
    pthread_t one[3];
    for (int i = 0; i < 3; i++) pthread_create(one + i, NULL, work, (void *)count);
    for (int i = 0; i < 4; i++) {
        pid_t child = i & 1 ? vfork() : fork();
        if (!child) { if (!(i & 1)) work((void *)count); _exit(0); }
        ended(child);
    }
    for (int i = 0; i < 3; i++) pthread_join(one[i], NULL);
}
int main(int argc, char **argv) {
    const char *act = argv[1];
    if (!strcmp(act, "crowd")) crowd(atol(argv[2]));
    if (!strcmp(act, "segv")) { say("going"); *(volatile int *)8 = 1; }
    if (!strcmp(act, "term")) { signal(SIGTERM, on_term); kill(getpid(), SIGTERM); }
    if (!strcmp(act, "die")) kill(getpid(), SIGTERM);
    if (!strcmp(act, "raw")) syscall(SYS_getppid);
    if (!strcmp(act, "fork")) { pid_t child = fork(); if (!child) _exit(0); ended(child); }
    if (!strcmp(act, "exec")) {
        pthread_t one;
        pthread_create(&one, NULL, work, (void *)1);
        char byte;
        read(0, &byte, 1);
        execv(argv[2], argv + 2);
    }
    if (!strcmp(act, "ptrace")) {
        pid_t child = fork();
        if (!child) _exit(ptrace(PTRACE_TRACEME, 0, 0, 0) && errno == EPERM ? 0 : 1);
        ended(child);
    }
    if (!strcmp(act, "blocks")) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        work((void *)3);
        ended(fork() ?: (_exit(0), 0));
    }
    if (!strcmp(act, "serve")) {
        pthread_t one;
        pthread_create(&one, NULL, work, (void *)0);
        char byte;
        say("ready");
        while (read(0, &byte, 1) == 1) {
            work((void *)1);
            pid_t child = fork();
            if (!child) _exit(0);
            ended(child);
            say("served");
        }
    }
    say("fine");
    return 5;
}
"""


def build(folder: Path, *flags: str, name: str = "") -> Path:
    source = folder / "subject.c"
    source.write_text(SUBJECT)
    program = folder / (name or f"clew-test-p{os.getpid()}")
    subprocess.run(["cc", "-g", "-O1", "-pthread", *flags, source, "-o", program], check=True)
    return program


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("subject"))


def holding(*rules: str, **options: object) -> clew.Holding:
    return clew.holding(*rules, engine="ptrace", control=False, **options)  # type: ignore[arg-type]


def start(holds: clew.Holding, *words: str | Path) -> subprocess.Popen[bytes]:
    return holds.start(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def heard(holds: clew.Holding) -> list[HoldEvent]:
    return list(holds.events(timeout=0.2))


def test_no_thread_or_child_runs_through_a_breakpoint_unseen(subject: Path) -> None:
    count = 12
    hits = count * (3 + 2)
    rules = [
        f"call:{subject}!{name},n={hits + more}"
        for name in ("clew_test_hot", "clew_test_jump")
        for more in (0, 1)
    ]
    with holding(*rules) as holds:
        process = start(holds, subject, "crowd", str(count))
        found = set()
        for _ in range(2):
            held = holds.wait(timeout=30)
            found.add(held.hold.rule)
            held.release()
        assert found == {rules[0], rules[2]}
        assert process.communicate(timeout=30)[0] == b"fine\n"
        assert process.returncode == 5


def test_a_deadly_signal_is_held_where_it_struck(subject: Path) -> None:
    with holding("signal:SEGV", "signal:TERM") as holds:
        process = start(holds, subject, "segv")
        held = holds.wait(timeout=10)
        assert (held.hold.exact, held.hold.at.function, held.hold.scope) == ("delivery", "main", "thread")
        held.release()
        assert process.wait(10) == -signal.SIGSEGV
        process = start(holds, subject, "term")
        holds.wait(timeout=10).release()
        assert process.communicate(timeout=10)[0] == b"handled\nfine\n"
        process = start(holds, subject, "die")
        held = holds.wait(timeout=10)
        assert held.hand_over().kept == "signal"
        held.release()
        assert process.wait(10) == -signal.SIGTERM


def test_an_end_by_a_signal_is_held(subject: Path) -> None:
    with holding(f"exit:{subject.name}") as holds:
        process = start(holds, subject, "die")
        held = holds.wait(timeout=10)
        assert held.hold.exact == "gone"
        with pytest.raises(HoldError, match="about to be gone"):
            held.hand_over()
        assert "kill" in [frame.function for frame in held.backtrace()]
        held.release()
        assert process.wait(10) == -signal.SIGTERM


def test_every_system_call_is_held_before_it_runs(subject: Path) -> None:
    with holding(f"syscall:getppid,exe={subject.name}") as holds:
        process = start(holds, subject, "raw")
        held = holds.wait(timeout=10)
        assert (held.hold.exact, held.backtrace(lines=False)[0].function) == ("before-syscall", "syscall")
        before = held.registers()
        assert held.hand_over().kept == "signal"
        # A debugger sees the call still to be made: one instruction back, its number in rax.
        after = held.registers()
        ip, rax = slice(128, 136), slice(80, 88)
        assert int.from_bytes(after[ip], "little") == int.from_bytes(before[ip], "little") - 2
        assert int.from_bytes(after[rax], "little") == 110
        held.release()
        assert process.communicate(timeout=10)[0] == b"fine\n"


def test_an_exec_ends_the_hold_on_a_thread(subject: Path) -> None:
    with holding(f"call:{subject}!clew_test_hot", "exec:true") as holds:
        process = start(holds, subject, "exec", "/bin/true")
        first = holds.wait(timeout=10)
        assert first.tid != first.pid
        assert process.stdin is not None
        process.stdin.write(b"x")
        process.stdin.flush()
        events = {}
        while "H2" not in events:
            event = next(holds.events(timeout=10))
            assert event.hold is not None
            events[event.hold.id] = (event.event, event.reason)
        assert events == {"H1": ("released", "it ended"), "H2": ("held", "")}
        holds.release_all()
        assert process.wait(10) == 0


@pytest.mark.parametrize("act", ["ptrace", "blocks", "fork"])
def test_strange_programs_go_on(subject: Path, act: str) -> None:
    with holding(f"call:{subject}!clew_test_hot", f"fork:{subject.name}") as holds:
        process = start(holds, subject, act)
        until(lambda: holds.release_all() == [] and process.poll() is not None)
        assert process.communicate(timeout=10)[0] == b"fine\n"


def test_who_dies_while_held_is_no_longer_held(subject: Path) -> None:
    with holding(f"call:{subject}!clew_test_hot") as holds:
        process = start(holds, subject, "blocks")
        holds.wait(timeout=10)
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
        until(lambda: not holds.held(), what="no hold")
        assert {event.reason for event in heard(holds) if event.event == "released"} == {"it ended"}


def test_a_static_program(tmp_path: Path) -> None:
    program = build(tmp_path, "-static", name="clew-test-static")
    with holding(f"exec:{program}", f"call:{program}!clew_test_hot,n=2") as holds:
        process = start(holds, program, "crowd", "1")
        held = holds.wait(timeout=10)
        assert (held.hold.exact, held.hold.at.function) == ("entry", "_start")
        held.release()
        held = holds.wait(timeout=10)
        assert held.hold.at.function == "clew_test_hot"
        held.release()
        assert process.communicate(timeout=20)[0] == b"fine\n"


# exit(7) by int 0x80, as an ELF file of one page: no 32-bit compiler is needed.
_CODE_32 = bytes.fromhex("b801000000bb07000000cd80")


def _elf_32() -> bytes:
    base, head = 0x8048000, 52 + 32
    size = head + len(_CODE_32)
    numbers = (2, 3, 1, base + head, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    ident = b"\x7fELF\1\1\1" + bytes(9)
    program = struct.pack("<8I", 1, 0, base, base, size, size, 5, 0x1000)
    return ident + struct.pack("<HHIIIIIHHHHHH", *numbers) + program + _CODE_32


def test_a_32_bit_program(tmp_path: Path) -> None:
    program = tmp_path / "clew-test-narrow"
    program.write_bytes(_elf_32())
    program.chmod(0o755)
    try:
        assert subprocess.run([program], check=False).returncode == 7
    except OSError:
        pytest.skip("the kernel refuses: it runs no 32-bit programs")
    with holding(f"exec:{program.name}", f"exit:{program.name}", "syscall:read") as holds:
        process = start(holds, program)
        held = holds.wait(timeout=10)
        assert (held.hold.exact, held.hold.at.module) == ("entry", os.fsencode(program))
        held.release()
        held = holds.wait(timeout=10)
        assert held.hold.exact == "gone"
        held.release()
        assert process.wait(10) == 7


def test_a_running_process_is_held_and_let_go_as_it_was(subject: Path) -> None:
    process = subprocess.Popen([subject, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    def ask() -> None:
        assert process.stdin is not None
        process.stdin.write(b"x")
        process.stdin.flush()

    with holding(f"call:{subject}!clew_test_hot", f"fork:{subject.name}", pids=[process.pid]) as holds:
        ask()
        held = holds.wait(timeout=10)
        assert (held.tid, held.hold.exact) == (process.pid, "function")
        with pytest.raises(PermissionMissing, match="traced already"), holding("exec:x", pids=[process.pid]):
            pass
        held.release()
        child = holds.wait(timeout=10)
        assert child.hold.parent == process.pid
        child.release()
        assert process.stdout.readline() == b"served\n"
    assert signals.tracer(process.pid) == 0
    ask()
    assert process.stdout.readline() == b"served\n"
    process.send_signal(signal.SIGSTOP)
    until(lambda: signals.state(process.pid, process.pid) == "T")
    with holding(f"fork:{subject.name}", pids=[process.pid]) as holds:
        ask()
        assert heard(holds) == []
        process.send_signal(signal.SIGCONT)
        holds.wait(timeout=10).release()
        assert process.stdout.readline() == b"served\n"
    process.stdin.close()
    assert process.wait(10) == 5


def _owner(rules: list[str], words: list[str]) -> subprocess.Popen[bytes]:
    """A process of its own that holds, starts the program, and tells both pids."""
    code = (
        "import sys, clew\n"
        f"with clew.holding(*{rules!r}, engine='ptrace', control=False) as holds:\n"
        f"    process = holds.start({words!r})\n"
        "    print(process.pid, holds.session.tracer, flush=True)\n"
        "    process.wait()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )


def test_kill_9_of_the_owner_at_any_moment_leaves_the_program_as_it_was(subject: Path) -> None:
    rules = [f"call:{subject}!clew_test_hot,n=100", f"call:{subject}!clew_test_jump,n=1000000"]
    chance = random.Random(1)
    owners = [_owner(rules, [str(subject), "crowd", "60"]) for _ in range(3)]
    for owner in owners:
        assert owner.stdout is not None
        owner.stdout.readline()
        try:
            owner.wait(chance.random() * 0.6)
        except subprocess.TimeoutExpired:
            owner.kill()
        # The program has its output, and ends when it has come to its end by itself.
        assert owner.communicate(timeout=60)[0] == b"fine\n"


@pytest.mark.requires("root")
def test_an_ordinary_user_holds_and_hands_over() -> None:
    def act(work: Path) -> None:
        os.chdir(work)
        program = build(work)
        with clew.holding(f"call:{program}!clew_test_hot", engine="ptrace", control=True) as holds:
            process = start(holds, program, "blocks")
            held = holds.wait(timeout=20)
            assert held.backtrace(lines=False)[0].function == "clew_test_hot"
            assert held.hand_over().kept == "signal"
            assert signals.state(held.pid, held.tid) == "T"
            held.release()
            assert process.wait(20) == 5

    with shared_folder() as folder:
        as_nobody(folder, act)
