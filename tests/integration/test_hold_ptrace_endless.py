"""No program, whatever it does at a breakpoint, keeps the ptrace engine from its other work."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

import clew
from clew.kernel import procfs, signals
from tests.support.bounded import until

pytestmark = pytest.mark.requires("ptrace", "compiler")

SUBJECT = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
static volatile long table[4] = {1, 2, 3, 4};
/* An instruction of each kind at the very entry. */
#define BARE __attribute__((naked, noinline)) long
BARE clew_test_push(void) { __asm__("push %rbx\n mov $7,%eax\n pop %rbx\n ret"); }
BARE clew_test_plain(void) { __asm__("xor %eax,%eax\n add $7,%eax\n ret"); }
BARE clew_test_rip(void) { __asm__("mov table+8(%rip),%rax\n add $5,%eax\n ret"); }
BARE clew_test_ret(void) { __asm__("ret"); }
BARE clew_test_rep(void) {
    __asm__("rep stosb\n mov $7,%eax\n ret");
}
BARE clew_test_call(void) { __asm__("call clew_test_plain\n ret"); }
static long (*volatile through)(void) = clew_test_plain;
BARE clew_test_indirect(void) { __asm__("call *through(%rip)\n ret"); }
BARE clew_test_tail(void) { __asm__("jmp *through(%rip)"); }
BARE clew_test_branch(void) {
    __asm__("loop 1f\n ud2\n1: mov $7,%eax\n ret");
}
__attribute__((noipa)) int clew_test_hot(int n) { return n + 1; }
static volatile int got[65], over, wait_for_end;
static void on_signal(int number) { got[number]++; }
static void *hot(void *unused) { (void)unused; while (!over) clew_test_hot(1); return NULL; }
static void *outlive(void *main_thread) {
    pthread_join(*(pthread_t *)main_thread, NULL);
    char byte;
    while (wait_for_end && read(0, &byte, 1) == 1) ;
    for (int i = 0; i < 40; i++) clew_test_hot(i);
    exit(5);
}
static int each(void) {
    char space[64];
    long bad = 0;
    register long eax __asm__("rax") = 7;
    bad |= clew_test_push() != 7;
    bad |= clew_test_plain() != 7;
    bad |= clew_test_rip() != 7;
    __asm__ volatile("call clew_test_ret" : "+r"(eax));
    bad |= eax != 7;
    char *to = space;
    long count = 64;
    __asm__ volatile("call clew_test_rep" : "+D"(to), "+c"(count), "+a"(eax) : : "memory");
    bad |= space[63] != 7;
    bad |= clew_test_call() != 7;
    bad |= clew_test_indirect() != 7;
    bad |= clew_test_tail() != 7;
    count = 2;
    __asm__ volatile("call clew_test_branch" : "=a"(eax), "+c"(count));
    bad |= eax != 7;
    return bad ? 9 : 5;
}
int main(int argc, char **argv) {
    (void)argc;
    const char *act = argv[1];
    pthread_t self = pthread_self(), one;
    signal(SIGUSR1, on_signal);
    signal(SIGUSR2, on_signal);
    signal(SIGALRM, on_signal);
    wait_for_end = !strcmp(act, "gone");
    if (!strcmp(act, "leader") || wait_for_end) {
        pthread_create(&one, NULL, outlive, &self);
        pthread_exit(NULL);
    }
    if (!strcmp(act, "each")) return each();
    if (!strcmp(act, "signals")) { clew_test_plain(); return got[SIGUSR1] == 1 && got[SIGUSR2] == 1 ? 5 : 9; }
    if (!strcmp(act, "timer")) {
        struct itimerval often = {{0, 2000}, {0, 2000}};
        setitimer(ITIMER_REAL, &often, NULL);
        for (int i = 0; i < 300; i++) { clew_test_hot(i); clew_test_plain(); clew_test_rip(); }
        return got[SIGALRM] ? 5 : 9;
    }
    if (!strcmp(act, "hot")) {
        char byte;
        for (int i = 0; i < 2; i++) pthread_create(&one, NULL, hot, NULL);
        while (read(0, &byte, 1) == 1) ;
        over = 1;
    }
    return 5;
}
"""
KINDS = ("push", "plain", "rip", "ret", "rep", "call", "indirect", "tail", "branch")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("subject")
    source = folder / "subject.c"
    source.write_text(SUBJECT)
    program = folder / f"clew-test-e{os.getpid()}"
    subprocess.run(["cc", "-g", "-O1", "-fcf-protection=none", "-pthread", source, "-o", program], check=True)
    return program


def holding(*rules: str, **options: object) -> clew.Holding:
    return clew.holding(*rules, engine="ptrace", control=False, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_an_instruction_of_each_kind_is_passed(subject: Path, kind: str) -> None:
    with holding(f"call:{subject}!clew_test_{kind}") as holds:
        process = holds.start([subject, "each"])
        until(lambda: holds.release_all() == [] and process.poll() is not None, timeout=30)
        assert process.returncode == 5


def test_who_met_a_breakpoint_and_was_held_goes_on_the_same_way(subject: Path) -> None:
    rules = [f"call:{subject}!clew_test_{kind}" for kind in KINDS]
    with holding(*rules) as holds:
        process = holds.start([subject, "each"])
        met = set()
        while process.poll() is None:
            for held in holds.held():
                met.add(held.hold.at.function)
                held.release()
        assert process.returncode == 5
        assert met == {f"clew_test_{kind}" for kind in KINDS}


def test_a_program_whose_main_thread_left(subject: Path) -> None:
    with holding(f"call:{subject}!clew_test_hot,n=8") as holds:
        process = holds.start([subject, "leader"])
        held = holds.wait(timeout=10)
        assert held.tid != held.pid == process.pid
        assert signals.state(process.pid, process.pid) == "Z"
        assert held.hold.exe == os.fsencode(subject)
        assert held.backtrace(lines=False)[0].function == "clew_test_hot"
        held.release()
        assert process.wait(10) == 5


def test_the_end_of_a_program_whose_main_thread_left(subject: Path) -> None:
    with holding(f"exit:{subject.name}") as holds:
        process = holds.start([subject, "leader"])
        held = holds.wait(timeout=10)
        assert held.tid != held.pid == process.pid
        held.release()
        assert process.wait(10) == 5


def test_a_running_program_whose_main_thread_left(subject: Path) -> None:
    process = subprocess.Popen([subject, "gone"], stdin=subprocess.PIPE)
    until(lambda: signals.state(process.pid, process.pid) == "Z")
    with holding(f"call:{subject}!clew_test_hot", f"exit:{subject.name}", pids=[process.pid]) as holds:
        assert process.stdin is not None
        process.stdin.close()
        held = holds.wait(timeout=10)
        assert held.hand_over().kept == "signal"
        assert held.backtrace(lines=False)[0].function == "clew_test_hot"
        held.release()
        assert process.wait(10) == 5


def test_a_program_whose_file_was_deleted(subject: Path, tmp_path: Path) -> None:
    program = Path(shutil.copy(subject, tmp_path / subject.name))
    process = subprocess.Popen([program, "gone"], stdin=subprocess.PIPE)
    until(lambda: signals.state(process.pid, process.pid) == "Z")
    program.unlink()
    with holding(f"call:{subject.name}!clew_test_hot,n=3", pids=[process.pid]) as holds:
        assert process.stdin is not None
        process.stdin.close()
        held = holds.wait(timeout=10)
        assert held.pid == process.pid
        held.release()
        assert process.wait(10) == 5


@pytest.mark.parametrize("kind", ["plain", "hot"])
def test_signals_wait_while_a_thread_is_held_and_come_on_release(subject: Path, kind: str) -> None:
    with holding(f"call:{subject}!clew_test_plain") as holds:
        process = holds.start([subject, "signals"])
        held = holds.wait(timeout=10)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            os.kill(process.pid, number)
        assert held.backtrace(lines=False)[0].function == "clew_test_plain"
        if kind == "hot":
            held.hand_over()
            assert held.backtrace(lines=False)[0].function == "clew_test_plain"
        held.release()
        assert process.wait(10) == 5


def test_a_timer_that_is_quicker_than_we_are(subject: Path) -> None:
    rules = [f"call:{subject}!clew_test_{kind},n=1000" for kind in ("hot", "plain", "rip")]
    with holding(*rules) as holds:
        assert holds.start([subject, "timer"]).wait(60) == 5


def test_what_is_met_without_end_keeps_nobody_waiting(subject: Path) -> None:
    with holding(f"call:{subject}!clew_test_hot,n=1000000", "exec:true", lease=0.2) as holds:
        process = holds.start([subject, "hot"], stdin=subprocess.PIPE)
        other = holds.start(["/bin/true"])
        holds.wait(timeout=10)
        assert other.wait(10) == 0  # Its lease ran out.
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 5


@pytest.mark.parametrize("times", ["n=3", "max=2"])
def test_breakpoints_go_when_their_rule_is_used_up(subject: Path, times: str) -> None:
    with holding(f"call:{subject}!clew_test_hot,{times}") as holds:
        process = holds.start([subject, "hot"], stdin=subprocess.PIPE)
        for _ in range(2 if times == "max=2" else 1):
            held = holds.wait(timeout=10)
        until(lambda: _code(held) == _in_file(held))
        holds.release_all()
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 5


def _code(held: clew.Held) -> bytes:
    at = int.from_bytes(held.registers()[128:136], "little")
    with Path(f"/proc/{held.pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(at)
        return memory.read(8)


def _in_file(held: clew.Held) -> bytes:
    at = int.from_bytes(held.registers()[128:136], "little")
    mapping = next(one for one in procfs.mappings(held.pid) if one.start <= at < one.end)
    with open(mapping.path, "rb") as file:  # noqa: PTH123 (bytes)
        file.seek(at - mapping.start + mapping.file_offset)
        return file.read(8)
