"""Processes that a signal is about to end: held before it does, and ended by it when they are let go."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import clew
from clew.engine.bpf import hold_probes
from clew.kernel import signals

pytestmark = pytest.mark.requires("root", "bpf", "task-work")

SUBJECT = r"""
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void *rest(void *unused) { for (;;) pause(); return unused; }
__attribute__((noipa)) void fall(int *at) { __asm__ volatile("nop"); *at = 1; }
int main(int argc, char **argv) {
    pthread_t one;
    if (argc > 2) pthread_create(&one, NULL, rest, NULL);
    if (!strcmp(argv[1], "fall")) fall((int *)8);
    if (!strcmp(argv[1], "abort")) abort();
    if (!strcmp(argv[1], "trap")) __asm__ volatile("int3");
    if (!strcmp(argv[1], "raise")) raise(SIGQUIT);
    if (!strcmp(argv[1], "wait")) { write(1, "\n", 1); pause(); }
    return 5;
}
"""


@pytest.fixture(scope="module", autouse=True)
def no_cores() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("subject")
    source = folder / "subject.c"
    source.write_text(SUBJECT)
    program = folder / f"clew-test-f{os.getpid()}"
    subprocess.run(["cc", "-g", "-O1", "-pthread", source, "-o", program], check=True)
    return program


@pytest.fixture
def other(subject: Path) -> Path:
    """The subject by another name, which the session of all tests has no rule for."""
    program = subject.with_name(f"clew-test-g{os.getpid()}")
    program.unlink(missing_ok=True)
    program.hardlink_to(subject)
    return program


@pytest.fixture(scope="module")
def holds(subject: Path) -> Iterator[clew.Holding]:
    """One session for all tests: each lets go what it held, and reads what is told of it."""
    rules = [f"signal:{name},exe={subject.name}" for name in ("SEGV", "ABRT", "QUIT")]
    with clew.holding(*rules, f"exit:{subject.name}", control=False) as held:
        yield held


@pytest.mark.parametrize(
    ("act", "number", "function", "scope", "threads"),
    [
        ("fall", signal.SIGSEGV, "fall", "thread", []),
        ("fall", signal.SIGSEGV, "fall", "thread", ["threads"]),
        ("abort", signal.SIGABRT, "abort", "thread", ["threads"]),
        ("trap", signal.SIGTRAP, "main", "process", ["threads"]),  # by the exit rule
        ("raise", signal.SIGQUIT, "raise", "thread", []),
    ],
)
def test_a_process_is_held_before_the_signal_ends_it(
    subject: Path,
    holds: clew.Holding,
    act: str,
    number: signal.Signals,
    function: str,
    scope: str,
    threads: list[str],
) -> None:
    process = subprocess.Popen([subject, act, *threads], stdout=subprocess.PIPE)
    held = holds.wait(timeout=10)
    assert (held.pid, held.hold.exact, held.hold.scope) == (process.pid, "fatal", scope)
    assert function in [frame.function for frame in held.backtrace()]
    assert process.poll() is None
    held.release()
    assert process.wait(10) == -number
    process.communicate()


def test_a_signal_from_outside_is_held_or_told_of(subject: Path, holds: clew.Holding) -> None:
    """It can be taken while its sender is still about to tell of it."""
    process = subprocess.Popen([subject, "wait"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGQUIT)
    event = next(event for event in holds.events(timeout=10) if event.event != "released")
    if event.hold is not None:
        assert (event.event, event.hold.exact) == ("held", "fatal")
        holds.session.release(event.hold.id)
    else:
        assert "died of the signal" in event.reason
    assert process.wait(10) == -signal.SIGQUIT
    process.communicate()


def test_others_are_not_held(holds: clew.Holding, tmp_path: Path) -> None:
    done = subprocess.run(["sh", "-c", "kill -SEGV $$"], check=False)
    assert done.returncode == -signal.SIGSEGV
    assert holds.held() == []


@pytest.mark.parametrize(("act", "number"), [("fall", signal.SIGSEGV), ("abort", signal.SIGABRT)])
def test_handed_over_it_stands_plainly_and_the_signal_comes_again(
    subject: Path, holds: clew.Holding, act: str, number: signal.Signals
) -> None:
    process = subprocess.Popen([subject, act])
    held = holds.wait(timeout=10)
    held.hand_over()
    assert signals.state(held.pid, held.tid) == "T"
    assert signals.tracer(held.tid) == 0
    held.release()
    assert process.wait(10) == -number
    assert holds.held() == []


def test_killed_by_others_its_parent_learns_of_it_at_once(subject: Path, holds: clew.Holding) -> None:
    shell = subprocess.Popen(["sh", "-c", f"{subject} fall; exit 3"], stderr=subprocess.DEVNULL)
    held = holds.wait(timeout=10)
    os.kill(held.pid, signal.SIGKILL)
    assert shell.wait(10) == 3


def test_the_session_killed_it_ends_as_it_would_have(other: Path) -> None:
    code = (
        "import clew\n"
        f"with clew.holding('signal:SEGV,exe={other.name}', control=False) as holds:\n"
        "    print('armed', flush=True)\n"
        "    print(holds.wait().id, flush=True)\n"
        "    holds.wait()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    keeper = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert keeper.stdout is not None
    assert keeper.stdout.readline() == b"armed\n"
    process = subprocess.Popen([other, "fall"])
    assert keeper.stdout.readline() == b"H1\n"
    keeper.kill()
    keeper.communicate()
    assert process.wait(10) == -signal.SIGSEGV


def test_without_the_kernels_help_a_death_is_told_of(other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_probes, "can_give_work", lambda: False)
    with clew.holding(f"signal:QUIT,exe={other.name}", control=False) as holds:
        process = subprocess.Popen([other, "wait"], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGQUIT)
        assert process.wait(10) == -signal.SIGQUIT
        assert "died of the signal" in next(holds.events(timeout=5)).reason
        process.communicate()
