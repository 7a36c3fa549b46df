"""A recorder that is killed: the command goes on unharmed, and what was recorded is kept."""

from __future__ import annotations

import ctypes as C
import os
import random
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from clew.trace.reader import Trace
from clew.trace.tasks import TaskTable
from tests.support.bounded import until
from tests.support.clew_command import CLEW, clew, complaint, flow_of
from tests.support.prerequisites import require

ROUNDS = 200
SCRIPT = f"""
echo > started
i=0
while [ $i -lt {ROUNDS} ]; do echo $i | cat; i=$((i + 1)); done
echo $i > ended.new
mv ended.new ended
"""
KEPT_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Killed:
    """A recording cut off at ``at_ns`` (CLOCK_MONOTONIC), in ``folder``; ``lines`` were written by then.

    ``too_late``: it had ended in order by then.
    """

    folder: Path
    at_ns: int
    lines: int
    too_late: bool

    @property
    def trace(self) -> Path:
        """Where it was recorded."""
        return self.folder / "trace"

    @property
    def started(self) -> bool:
        """Whether the command had been let go."""
        return (self.folder / "started").exists()


Recorder = subprocess.Popen[bytes]
Wait = Callable[[Recorder], list[bytes]]


def _kill(folder: Path, engine: str, wait: Wait) -> Killed:
    """Record the script, kill the recorder after ``wait``, and see that the script does all its work."""
    command = [*CLEW, "record", "--engine", engine, "-o", "trace", "--", "sh", "-c", SCRIPT]
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as recorder:
        assert recorder.stdout is not None
        lines = wait(recorder)
        recorder.kill()
        at_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        killed = Killed(folder, at_ns, len(lines), recorder.wait() == 0)
        lines += recorder.stdout.read().splitlines()  # to its end: nobody writes any more
    if killed.started:
        assert [int(line) for line in lines] == list(range(ROUNDS))
        assert until((folder / "ended").read_text, what="the script's end") == f"{ROUNDS}\n"
    else:
        assert lines == []
    return killed


def _some_lines(count: int) -> Wait:
    def wait(recorder: Recorder) -> list[bytes]:
        assert recorder.stdout is not None
        return [recorder.stdout.readline() for _ in range(count)]

    return wait


def _some_time(seconds: float) -> Wait:
    def wait(recorder: Recorder) -> list[bytes]:
        with suppress(subprocess.TimeoutExpired):
            recorder.wait(seconds)
        return []

    return wait


def _some_moment(seed: int) -> Wait:
    """At a line of the script, or (two times of five) at a time that may be before it starts."""
    chance = random.Random(seed)
    if seed % 5 < 2:
        return _some_time(chance.uniform(0, 0.5))
    return _some_lines(chance.randrange(1, ROUNDS))


def _shows_or_says_why(killed: Killed) -> None:
    shown = clew("show", "--json", killed.trace)
    if shown.returncode:
        assert shown.returncode == 125
        assert complaint(shown).count("\n") <= 3
    else:
        noted = any("did not end in order" in note for note in flow_of(shown)["notes"])
        assert noted != killed.too_late


def _recovers(killed: Killed) -> None:
    done = clew("recover", killed.trace)
    if not killed.trace.exists():
        assert done.returncode == 125
        assert "holds nothing of a recording" in complaint(done)
        return
    assert done.returncode == 0, complaint(done)
    trace = Trace(killed.trace)
    assert trace.finished
    if killed.lines:
        assert TaskTable(trace).root is not None
        shown = clew("show", "--json", killed.trace)
        assert shown.returncode == 0, complaint(shown)
        assert killed.too_late or any("Recovered" in note for note in flow_of(shown)["notes"])
        assert int(trace.events["t"].max()) > killed.at_ns - KEPT_NS


@pytest.mark.parametrize(
    ("engine", "seed"), [("bpf", n) for n in range(20)] + [("ptrace", n) for n in range(5)]
)
def test_a_killed_recorder_harms_nothing_and_keeps_what_it_had(
    engine: str, seed: int, tmp_path: Path
) -> None:
    require(*(("root", "bpf") if engine == "bpf" else ("ptrace",)))
    killed = _kill(tmp_path, engine, _some_moment(seed))
    if killed.trace.exists():
        _shows_or_says_why(killed)
    _recovers(killed)


@pytest.mark.requires("root", "bpf")
def test_recovering_twice_changes_nothing(tmp_path: Path) -> None:
    killed = _kill(tmp_path, "bpf", _some_lines(20))
    clew("recover", killed.trace)
    first = {path.name: path.read_bytes() for path in killed.trace.iterdir()}
    assert clew("recover", killed.trace).returncode == 0
    assert {path.name: path.read_bytes() for path in killed.trace.iterdir()} == first


@pytest.mark.requires("root", "bpf")
def test_no_probe_stays_when_the_recorder_is_killed(tmp_path: Path) -> None:
    loaded: set[int] = set()

    def wait(recorder: Recorder) -> list[bytes]:
        lines = _some_lines(1)(recorder)
        loaded.update(_programs_of(recorder.pid))
        return lines

    _kill(tmp_path, "bpf", wait)
    assert loaded
    until(lambda: not any(map(_is_loaded, loaded)), what="the kernel unloads the programs")


def _programs_of(pid: int) -> set[int]:
    """Ids of the BPF programs that a process has open."""
    told = [path.read_text() for path in Path(f"/proc/{pid}/fdinfo").iterdir()]
    return {int(number) for text in told for number in re.findall(r"^prog_id:\s*(\d+)", text, re.MULTILINE)}


def _is_loaded(program: int) -> bool:
    # bpf(2): BPF_PROG_GET_FD_BY_ID is 13, the call 321 on x86-64.
    attributes = (C.c_uint32 * 32)(program)
    fd: int = C.CDLL(None, use_errno=True).syscall(321, 13, attributes, C.sizeof(attributes))
    if fd >= 0:
        os.close(fd)
    return fd >= 0
