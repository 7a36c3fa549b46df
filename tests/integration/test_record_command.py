"""The recorded command is as it would be without us: status, signals, arguments, files."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from clew.model.event import EventKind, LifeFlag
from clew.trace.reader import Trace
from clew.trace.tasks import TaskTable
from tests.support.bounded import until
from tests.support.clew_command import CLEW, clew, complaint, flow_of

GUARD_S = 60


@pytest.fixture
def record(engine: str, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """``record("sh", "-c", …)`` records into tmp_path/trace."""

    def run(*command: str | bytes, **options: object) -> subprocess.CompletedProcess[bytes]:
        assert not options
        return clew("record", "--engine", engine, "-o", tmp_path / "trace", "--", *command)

    return run


Record = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.mark.parametrize("status", [0, 1, 77, 125, 127, 255])
def test_the_status_is_the_command_s(status: int, record: Record) -> None:
    assert record("sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGRTMIN])
def test_death_by_a_signal_is_the_command_s(number: signal.Signals, record: Record) -> None:
    assert record("sh", "-c", f"kill -{int(number)} $$").returncode == -number


def test_stdout_is_the_command_s_alone(engine: str, tmp_path: Path) -> None:
    done = clew("follow", "--engine", engine, "--", "sh", "-c", "echo out; echo err >&2")
    assert done.stdout == b"out\n"
    assert done.stderr.startswith(b"err\n")
    assert b"events recorded" in done.stderr


def test_stdout_is_the_data_alone_when_data_is_asked_for(engine: str) -> None:
    done = clew("follow", "--engine", engine, "--json", "--", "sh", "-c", "echo out; echo err >&2")
    assert flow_of(done)["exit_status"] == 0
    assert done.stderr == b"out\nerr\n"


def test_the_command_reads_our_stdin(engine: str) -> None:
    done = subprocess.run(
        [*CLEW, "record", "--engine", engine, "-q", "-o", "/dev/null/x", "--", "cat"],
        input=b"hello",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 125
    done = subprocess.run(
        [*CLEW, "follow", "--engine", engine, "-q", "--", "cat"],
        input=b"hello",
        capture_output=True,
        timeout=GUARD_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"hello")


def test_the_command_inherits_no_descriptor_of_ours(record: Record) -> None:
    plain = subprocess.run(["ls", "/proc/self/fd"], capture_output=True, check=True, stdin=subprocess.DEVNULL)
    assert record("ls", "/proc/self/fd").stdout == plain.stdout


SIGNALS = "grep -E '^(SigBlk|SigIgn|SigCgt)' /proc/self/status"


def test_dispositions_are_those_that_clew_was_given(record: Record) -> None:
    plain = subprocess.run(["sh", "-c", SIGNALS], capture_output=True, check=True)
    assert record("sh", "-c", SIGNALS).stdout == plain.stdout


@pytest.mark.parametrize("name", ["HUP", "INT", "TERM", "CHLD"])
def test_what_is_ignored_stays_ignored(name: str, engine: str, tmp_path: Path) -> None:
    def ignored(*under: str) -> bytes:
        script = f"trap '' {name}; exec \"$@\""
        command = ["sh", "-c", script, "sh", *under, "sh", "-c", SIGNALS]
        return subprocess.run(command, capture_output=True, check=True, timeout=GUARD_S).stdout

    under = (*CLEW, "record", "--engine", engine, "-q", "-o", str(tmp_path / "trace"), "--")
    assert ignored(*under) == ignored()


def test_arguments_arrive_byte_for_byte(record: Record, tmp_path: Path) -> None:
    odd = [b"\xff\xfe", b"a b", b"", b"-x", b"\xe2\x80\xae", b"\n", b"--"]
    done = record("printf", "%s|", *odd)
    assert done.stdout == b"".join(word + b"|" for word in odd)
    image = TaskTable(Trace(tmp_path / "trace")).root_image
    assert image is not None
    assert image.image.argv == (b"printf", b"%s|", *odd)
    assert not image.image.argv_truncated


def test_ten_thousand_arguments_are_cut_and_said_to_be(record: Record, tmp_path: Path) -> None:
    words = [f"argument-{n}" for n in range(10_000)]
    done = record("sh", "-c", "echo $#", "sh", *words)
    assert done.stdout == b"10000\n"
    image = TaskTable(Trace(tmp_path / "trace")).root_image
    assert image is not None
    assert image.image.argv_truncated
    assert image.image.argv[:6] == (b"sh", b"-c", b"echo $#", b"sh", b"argument-0", b"argument-1")
    shown = clew("show", tmp_path / "trace", "--json")
    assert shown.returncode == 0, complaint(shown)


def test_a_daemon_that_outlives_the_command_lives_on(engine: str, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    daemon = "setsid sh -c 'echo $$ > pid; exec cat fifo > told' > /dev/null 2>&1"
    script = f"({daemon} &); while [ ! -s pid ]; do :; done; exit 4"
    done = subprocess.run(
        [*CLEW, "record", "--engine", engine, "-o", "trace", "--", "sh", "-c", script],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=GUARD_S,
        check=False,
    )
    assert done.returncode == 4, complaint(done)
    fifo.write_text("still here")
    until(lambda: (tmp_path / "told").read_text() == "still here", what="the daemon wrote")
    trace = Trace(tmp_path / "trace")
    assert trace.finished
    root = TaskTable(trace).root
    assert root is not None
    assert root.died > 0


def test_the_root_is_marked_once(record: Record, tmp_path: Path) -> None:
    assert record("sh", "-c", "exec sh -c 'exec true'").returncode == 0
    lives = Trace(tmp_path / "trace").lives
    execs = [life for life in lives if life.kind == EventKind.EXECED and life.t]
    roots = [life for life in execs if life.flags & LifeFlag.ROOT]
    assert roots
    assert TaskTable(Trace(tmp_path / "trace")).root_time == min(life.t for life in roots)


@pytest.mark.parametrize("names", [1, 40, 400])
def test_a_deep_path_is_told_whole(names: int, engine: str, tmp_path: Path) -> None:
    folder = os.path.realpath(tmp_path) + "/d" * names
    Path(folder).mkdir(parents=True)
    program = f"{folder}/true"
    shutil.copy("/bin/true", program)
    assert len(program) < os.pathconf("/", "PC_PATH_MAX")
    command = ["sh", "-c", f"cd {folder} && exec ./true"]
    assert clew("record", "--engine", engine, "-o", tmp_path / "trace", "--", *command).returncode == 0
    images = [span.image for _life, _task, span in TaskTable(Trace(tmp_path / "trace")).execs]
    assert (program.encode(), folder.encode()) in [(image.exe, image.cwd) for image in images]


@pytest.mark.requires("root", "bpf")
def test_of_a_path_that_is_too_long_no_end_is_told_for_the_whole(tmp_path: Path) -> None:
    outside = os.open(".", os.O_PATH)
    os.chdir(tmp_path)
    try:
        for _ in range(80):
            Path("n" * 255).mkdir()
            os.chdir("n" * 255)
        shutil.copy("/bin/true", "true")
        assert clew("record", "--engine", "bpf", "-o", tmp_path / "trace", "--", "./true").returncode == 0
    finally:
        os.fchdir(outside)
        os.close(outside)
    (image,) = [
        span.image
        for _life, _task, span in TaskTable(Trace(tmp_path / "trace")).execs
        if b"true" in span.image.exe
    ]
    assert (image.exe, image.cwd) == (b"./true", b"")


SLEEPER = """
import os, signal, sys
caught = []
signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
print("ready", flush=True)
while not caught:
    signal.pause()
print("interrupted", flush=True)
sys.stdin.read(1)
"""


def _in_a_terminal(*command: object) -> tuple[int, int]:
    """Start a command as the foreground of a terminal of its own: (pid, the terminal's other end)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(str(command[0]), [str(word) for word in command])
    return pid, terminal


def _read_until(terminal: int, word: bytes) -> bytes:
    said = b""
    while word not in said:
        more = os.read(terminal, 4096)
        assert more, said
        said += more
    return said


def _ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_first_interrupt_is_the_command_s_and_the_next_ours(engine: str, tmp_path: Path) -> None:
    under = [*CLEW, "record", "--engine", engine, "-q", "-o", tmp_path / "trace", "--"]
    pid, terminal = _in_a_terminal(*under, sys.executable, "-c", SLEEPER)
    try:
        _read_until(terminal, b"ready")
        os.write(terminal, b"\x03")
        _read_until(terminal, b"interrupted")
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        _press_until_finished(terminal, tmp_path / "trace")
        assert _ended(pid) == 128 + signal.SIGINT
    finally:
        os.close(terminal)
    trace = Trace(tmp_path / "trace")
    assert trace.finished
    assert trace.meta.get("wait_status") is None
    assert any("before the command" in note for note in trace.meta["notes"])


def _press_until_finished(terminal: int, trace: Path) -> None:
    """Interrupt once, or once more: a signal that comes before the last one was taken is no second one."""
    for _ in range(10):
        os.write(terminal, b"\x03")
        with suppress(TimeoutError):
            until(lambda: Trace(trace).finished, timeout=2)
            return


def test_a_command_that_dies_of_the_interrupt_ends_the_recording(engine: str, tmp_path: Path) -> None:
    under = [*CLEW, "record", "--engine", engine, "-q", "-o", tmp_path / "trace", "--"]
    pid, terminal = _in_a_terminal(*under, "sh", "-c", "echo ready; exec cat")
    try:
        _read_until(terminal, b"ready")
        os.write(terminal, b"\x03")
        assert _ended(pid) == -signal.SIGINT
    finally:
        os.close(terminal)
    assert Trace(tmp_path / "trace").finished


def test_being_told_to_end_ends_the_recording_and_not_the_command(engine: str, tmp_path: Path) -> None:
    under = [*CLEW, "record", "--engine", engine, "-o", str(tmp_path / "trace"), "--"]
    with subprocess.Popen(
        [*under, "sh", "-c", "echo $$; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as recorder:
        assert recorder.stdin is not None and recorder.stdout is not None
        command = int(recorder.stdout.readline())
        until(lambda: b"cat" in Path(f"/proc/{command}/cmdline").read_bytes(), what="the command runs")
        recorder.terminate()
        assert recorder.wait(GUARD_S) == 128 + signal.SIGTERM
        recorder.stdin.write(b"hello")
        recorder.stdin.close()
        assert recorder.stdout.read() == b"hello"
    assert Trace(tmp_path / "trace").finished
