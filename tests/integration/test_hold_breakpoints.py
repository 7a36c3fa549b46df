"""Breakpoints of a debugger's and of ours, in the same code: neither undoes the other's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import clew
from clew.code.elf import ElfFile
from clew.kernel import signals
from tests.support.bounded import until

pytestmark = [pytest.mark.requires("root", "bpf", "gdb"), pytest.mark.usefixtures("runtime")]

SUBJECT = r"""
#include <stdio.h>
#include <unistd.h>
__attribute__((noipa)) int clew_test_round(int number) { __asm__ volatile("nop; nop"); return number + 1; }
int main(void) {
    char byte;
    for (int i = 0; read(0, &byte, 1) == 1; i++) dprintf(1, "round %d\n", clew_test_round(i));
    return 5;
}
"""


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python processes that tests start find clew where this one did."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("subject")
    source = folder / "subject.c"
    source.write_text(SUBJECT)
    program = folder / f"clew-test-b{os.getpid()}"
    subprocess.run(["cc", "-g", "-O1", "-no-pie", source, "-o", program], check=True)
    return program


Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(subject: Path) -> Iterator[Start]:
    running = []

    def begin() -> subprocess.Popen[bytes]:
        running.append(subprocess.Popen([subject], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def _round(process: subprocess.Popen[bytes], count: int = 1) -> None:
    assert process.stdin is not None
    process.stdin.write(b"x" * count)
    process.stdin.flush()


def _address(subject: Path) -> int:
    with ElfFile.open(subject) as elf:
        return next(iter(elf.symtab.named(b"clew_test_round"))).value


def _byte(pid: int, address: int) -> int:
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        memory.seek(address)
        return memory.read(1)[0]


def _file_byte(subject: Path) -> int:
    with ElfFile.open(subject) as elf:
        offset = elf.file_offset(_address(subject))
        assert offset is not None
        return subject.read_bytes()[offset]


INT3 = 0xCC


def _gdb(pid: int, *commands: str) -> subprocess.CompletedProcess[str]:
    words = [word for command in commands for word in ("-ex", command)]
    return subprocess.run(
        ["gdb", "-nx", "-q", "-batch", "-p", str(pid), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_process_in_a_debugger_has_its_own_code(subject: Path, start: Start) -> None:
    process = start()
    with clew.holding(f"call:{subject}!clew_test_round", engine="bpf") as holds:
        assert _byte(process.pid, _address(subject)) == INT3
        _round(process, 3)
        held = holds.wait(timeout=10)
        held.hand_over()
        assert _byte(process.pid, _address(subject)) == _file_byte(subject)
        told = next(holds.events(timeout=10))
        assert "no breakpoints in its files" in told.reason
        # Its next call: gdb's breakpoint at the very address of ours.
        said = _gdb(process.pid, "handle SIGSTOP nostop nopass", "break *clew_test_round", "continue").stdout
        assert "Breakpoint 1, " in said
        # gdb has left: what stands behind a rule is there again.
        until(lambda: _byte(process.pid, _address(subject)) == INT3, what="the rule is in force again")
        holds.release_all()


def test_clew_ends_while_a_debugger_has_breakpoints(subject: Path, start: Start) -> None:
    code = (
        "import sys, clew\n"
        "with clew.holding(sys.argv[1], engine='bpf') as holds:\n"
        "    print('ready', flush=True)\n"
        "    held = holds.wait(); held.hand_over(); print(held.id, flush=True)\n"
        "    holds.session.join()\n"
    )
    rule = f"call:{subject}!clew_test_round"
    keeper = subprocess.Popen([sys.executable, "-c", code, rule], stdout=subprocess.PIPE)
    process = start()
    assert keeper.stdout is not None
    # Its breakpoints are there before it holds anybody.
    assert keeper.stdout.readline() == b"ready\n"
    _round(process, 2)
    assert keeper.stdout.readline() == b"H1\n"
    commands = (
        "handle SIGSTOP nostop nopass",
        "set breakpoint always-inserted on",
        "break *clew_test_round",
        f"shell kill -9 {keeper.pid}; while kill -0 {keeper.pid} 2>/dev/null; do :; done",
        "continue",
        "detach",
    )
    gdb = subprocess.Popen(
        ["gdb", "-nx", "-q", "-batch", "-p", str(process.pid)]
        + [word for command in commands for word in ("-ex", command)],
        stdout=subprocess.PIPE,
        text=True,
    )
    keeper.wait(60)
    said, _ = gdb.communicate(timeout=60)
    assert "Breakpoint 1, " in said
    keeper.communicate()
    until(lambda: signals.state(process.pid, process.pid) == "S", what="it runs on")
    assert _byte(process.pid, _address(subject)) == _file_byte(subject)
    out, _ = process.communicate(timeout=10)
    assert (out, process.returncode) == (b"round 1\nround 2\n", 5)


def test_a_rule_that_goes_leaves_a_debuggers_breakpoint(subject: Path, start: Start) -> None:
    process = start()
    with clew.holding(f"call:{subject}!clew_test_round", engine="bpf") as holds:
        _round(process, 2)
        held = holds.wait(timeout=10)
        held.hand_over()
        session = holds.session
        (number,) = session.arming.armed  # type: ignore[attr-defined]
        gdb = subprocess.Popen(
            ["gdb", "-nx", "-q", "-p", str(process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert gdb.stdin is not None and gdb.stdout is not None
        gdb.stdin.write(
            "set confirm off\nhandle SIGSTOP nostop nopass\n"
            "set breakpoint always-inserted on\nbreak *clew_test_round\n"
        )
        gdb.stdin.flush()
        until(lambda: _byte(process.pid, _address(subject)) == INT3, 30, what="gdb's breakpoint is there")
        session.call(lambda: session.arming.disarm(number))  # type: ignore[attr-defined]
        assert _byte(process.pid, _address(subject)) == INT3
        said, _ = gdb.communicate("continue\ndetach\nquit\n", timeout=60)
        assert "Breakpoint 1, " in said
        holds.release_all()
        out, _ = process.communicate(timeout=10)
    assert (out, process.returncode) == (b"round 1\nround 2\n", 5)


def test_a_rule_that_is_used_up_leaves_the_code(subject: Path, start: Start) -> None:
    process = start()
    with clew.holding(f"call:{subject}!clew_test_round,n=1,max=1", engine="bpf") as holds:
        _round(process)
        held = holds.wait(timeout=10)
        until(lambda: _byte(process.pid, _address(subject)) == _file_byte(subject), what="it is out")
        held.release()


def test_a_signal_ends_nobody_for_a_breakpoint_of_ours(subject: Path, start: Start) -> None:
    """The session is killed while its breakpoints are in the code of a process that runs."""
    process = start()
    code = (
        f"import clew, time\nwith clew.holding('call:{subject}!clew_test_round,uid=4242'): time.sleep(1000)"
    )
    keeper = subprocess.Popen([sys.executable, "-c", code])
    until(lambda: _byte(process.pid, _address(subject)) == INT3, what="the rule is in force")
    os.kill(keeper.pid, signal.SIGKILL)
    keeper.wait()
    until(lambda: _byte(process.pid, _address(subject)) == _file_byte(subject), what="it is out")
    _round(process)
    out, _ = process.communicate(timeout=10)
    assert (out, process.returncode) == (b"round 1\n", 5)
