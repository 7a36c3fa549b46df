"""Whoever lets a task go, the session or its guardian: the task runs, whatever state it was in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import clew
from clew.kernel import signals
from clew.kernel.procfs import status
from tests.support.bounded import until

pytestmark = [pytest.mark.requires("root", "bpf"), pytest.mark.usefixtures("runtime")]

# Writes by an instruction of its own, where no probe stands before the call.
SUBJECT = r"""
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (argc > 2) {
        int file = open(argv[2], O_CREAT | O_WRONLY, 0600);
        long done;
        write(1, "open\n", 5);
        char byte;
        if (read(0, &byte, 1) != 1) return 1;
        register long at asm("r10") = 0;
        asm volatile("syscall" : "=a"(done)
                     : "a"(SYS_pwrite64), "D"(file), "S"("x"), "d"(1), "r"(at) : "rcx", "r11", "memory");
        return done == 1 ? 7 : 2;
    }
    return 5;
}
"""


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("subject")
    source = folder / "subject.c"
    source.write_text(SUBJECT)
    program = folder / f"clew-test-l{os.getpid()}"
    subprocess.run(["cc", "-O1", source, "-o", program], check=True)
    return program


class Frozen:
    """A file system whose writers wait uninterruptibly while it is frozen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "mounted"
        self.folder.mkdir()
        image = folder / "image"
        image.write_bytes(b"")
        os.truncate(image, 32 << 20)
        _run("mkfs.ext4", "-q", image)
        _run("mount", "-o", "loop", image, self.folder)

    def freeze(self) -> None:
        _run("fsfreeze", "-f", self.folder)

    def thaw(self) -> None:
        _run("fsfreeze", "-u", self.folder)

    def close(self) -> None:
        with suppress(subprocess.CalledProcessError):
            self.thaw()
        until(lambda: not subprocess.run(["umount", self.folder], check=False).returncode, what="umount")


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Frozen]:
    made = Frozen(tmp_path)
    yield made
    made.close()


def _run(*words: str | Path) -> None:
    subprocess.run(words, check=True, capture_output=True)


def clew_says(*words: str) -> str:
    code = "from clew.cli.main import run; run()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, env=environment, timeout=60, check=False
    )
    return (done.stdout + done.stderr).decode()


class Keeper:
    """A process of its own that holds."""

    def __init__(self, *rules: str) -> None:
        code = (
            "import sys, clew\n"
            "with clew.holding(*sys.argv[1:], engine='bpf') as holds:\n"
            "    print(holds.session.backing.guardian.pid, flush=True)\n"
            "    for event in holds.events(): print(event.event, event.reason, flush=True)\n"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *rules], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        self.guardian = int(self.process.stdout.readline())

    def hears(self, word: str) -> None:
        assert self.process.stdout is not None
        assert any(word in line for line in self.process.stdout)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def _writer(subject: Path, frozen: Frozen) -> subprocess.Popen[bytes]:
    """A process that is about to write to the frozen file system, which waits for a byte before."""
    words: list[str | Path] = [subject, "write", frozen.folder / "file"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    return process


def _begin_to_write(process: subprocess.Popen[bytes], frozen: Frozen) -> None:
    frozen.freeze()
    assert process.stdin is not None
    process.stdin.write(b"x")
    process.stdin.flush()
    until(lambda: signals.state(process.pid, process.pid) == "D", what="it waits uninterruptibly")


@pytest.mark.requires("loop")
def test_who_waits_in_the_kernel_is_held_as_soon_as_it_can_be(subject: Path, frozen: Frozen) -> None:
    writer = _writer(subject, frozen)
    with clew.holding(f"syscall:pwrite64,comm={subject.name[:15]}", engine="bpf") as holds:
        _begin_to_write(writer, frozen)
        event = next(holds.events(timeout=20))
        assert event.event == "warning" and "state D" in event.reason
        frozen.thaw()
        held = holds.wait(timeout=10)
        assert held.hold.exact == "after-syscall"
        held.release()
        assert writer.wait(10) == 7


@pytest.mark.requires("loop")
@pytest.mark.parametrize("how", ["close", "release", "kill"])
def test_who_waits_in_the_kernel_is_let_go(subject: Path, frozen: Frozen, how: str) -> None:
    writer = _writer(subject, frozen)
    keeper = Keeper(f"syscall:pwrite64,comm={subject.name[:15]}")
    _begin_to_write(writer, frozen)
    keeper.hears("warning")
    if how == "release":
        assert "Nothing" not in clew_says("release", "--all")
    keeper.process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGINT)
    keeper.process.wait(20)
    keeper.kill()
    frozen.thaw()
    assert writer.wait(10) == 7


@pytest.mark.requires("gdb")
def test_what_a_debugger_has_runs_on_when_it_has_left(subject: Path, tmp_path: Path) -> None:
    """Killed while gdb has the task: gdb's leaving brings the stop back, and somebody must end that."""
    keeper = Keeper(f"exec:{subject.name}")
    process = subprocess.Popen([subject])
    keeper.hears("held")
    script = tmp_path / "script"
    script.write_text("print 1\nshell echo attached; read line\n")
    gdb = subprocess.Popen(
        ["gdb", "-nx", "-q", "-p", str(process.pid), "-x", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    until(lambda: signals.tracer(process.pid), timeout=30, what="gdb has it")
    keeper.kill()
    assert gdb.stdin is not None
    pins = list(Path("/sys/fs/bpf").glob(f"clew-hold-{keeper.process.pid}-*"))
    assert pins
    gdb.stdin.write(b"\n")
    gdb.communicate(b"detach\nquit\n", timeout=60)
    assert process.wait(10) == 5
    until(lambda: not pins[0].exists(), what="the notes are dropped")


def test_what_nobody_watches_over_is_named(subject: Path) -> None:
    keeper = Keeper(f"exec:{subject.name}")
    process = subprocess.Popen([subject])
    keeper.hears("held")
    keeper.process.send_signal(signal.SIGSTOP)
    os.kill(keeper.guardian, signal.SIGKILL)
    keeper.kill()
    assert signals.state(process.pid, process.pid) == "T"
    said = clew_says("ps")
    assert str(process.pid) in said and "clew release --all" in said
    assert "1 task of a session that was killed: let go" in clew_says("release", "--all")
    assert process.wait(10) == 5
    assert str(process.pid) not in clew_says("ps")


def test_a_stop_that_is_still_to_come_is_taken_back(subject: Path) -> None:
    """A SIGSTOP that nobody has taken yet, as that of a parent in vfork(2), is undone by the guardian too."""
    from clew.hold.guardian import Parting, read_stat

    parent = subprocess.Popen(
        [sys.executable, "-c", "import os, subprocess; subprocess.run(['sleep', '1000'])"],
    )
    parent.send_signal(signal.SIGSTOP)
    until(lambda: signals.state(parent.pid, parent.pid) == "T", what="it is stopped")
    found = read_stat(parent.pid, parent.pid)
    assert found
    parting = Parting((parent.pid, parent.pid, found[1]))
    assert parting.stands()
    until(parting.step, what="it runs")
    parting.close()
    assert signals.state(parent.pid, parent.pid) != "T"
    assert not int(status(parent.pid)[b"ShdPnd"], 16) >> (signal.SIGSTOP - 1) & 1
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    for child in until(lambda: children.read_text().split()):
        os.kill(int(child), signal.SIGKILL)
    parent.kill()
    parent.wait()
