"""What the holder's heir must know, in memory that both share: it is written before the thing is done.

Places of breakpoints and whom rules hold only grow, in a file without a name; what each task and each step
over a breakpoint is about has a place in a table, written with every resume.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from clew.model.task import TaskId

COMPARED = 16
_TASKS, _STEPS = 4096, 256
_TASK = struct.Struct("<QQQ")  # tid and flags, place, signal
# at, scratch, register, mask, behind, tid, goes, calls, size, the register's name, before
_STEP = struct.Struct("<QQQQQIBBB5x8s16s")
_RUNS, _LISTENS = 1, 2
_ROOT = re.compile(rb"^/proc/\d+/root")


@dataclass(frozen=True, slots=True)
class Place:
    """Byte ``offset`` of ``file`` (its name in /proc/PID/maps) may have a breakpoint; ``code`` is there."""

    file: bytes
    offset: int
    code: bytes


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task as the holder left it.

    ``runs``: its last stop, if it is in one, was not dealt with; it was resumed at ``passed``, 0: not behind
    a breakpoint.  ``listens``: in a group-stop.  ``signal`` was taken from the kernel and not delivered yet.
    """

    runs: bool
    listens: bool
    passed: int
    signal: int


@dataclass(frozen=True, slots=True)
class StepState:
    """A step that was under way; ``before`` are the scratch place's own bytes.  See ``stepping.Step``."""

    tid: int
    goes: bool
    calls: bool
    at: int
    scratch: int
    behind: int
    register: str
    value: int
    mask: int
    before: bytes


class HeirLog:
    """Written by the holder, read by its heir when it is dead.  To be made before they part (fork)."""

    def __init__(self) -> None:
        self._file = os.memfd_create("clew-heir-log", os.MFD_CLOEXEC)
        self._tasks = mmap.mmap(-1, _TASKS * _TASK.size)
        self._steps = mmap.mmap(-1, _STEPS * _STEP.size)
        # How many tasks there are, and then which: what the heir needs first, and at once.
        self._live = memoryview(mmap.mmap(-1, 8 * (_TASKS + 1))).cast("Q")
        self._place_of: dict[int, int] = {}
        self._places: set[tuple[bytes, int]] = set()
        self._rows: dict[int, int] = {}
        self._free_rows = [row * _TASK.size for row in reversed(range(_TASKS))]
        self._free = list(range(_STEPS))
        self._of: dict[int, int] = {}

    def fileno(self) -> int:
        """The file's descriptor."""
        return self._file

    def place(self, file: bytes, offset: int, code: bytes) -> None:
        """A breakpoint is about to be put there."""
        place = Place(_ROOT.sub(b"", file), offset, code)
        if (place.file, offset) not in self._places:
            self._places.add((place.file, offset))
            self._write(b"P %d %s %s" % (offset, code.hex().encode(), place.file.hex().encode()))

    def knows(self, file: bytes, offset: int) -> bool:
        """Whether a breakpoint was ever put there, in whichever process."""
        return (_ROOT.sub(b"", file), offset) in self._places

    def holds(self, task: TaskId) -> None:
        """The task is held from now on, handed over or not."""
        self._write(b"+ %d %d %d" % (task.pid, task.tid, task.start_ns))

    def let_go(self, task: TaskId) -> None:
        """It is not."""
        self._write(b"- %d %d %d" % (task.pid, task.tid, task.start_ns))

    def _write(self, line: bytes) -> None:
        os.write(self._file, line + b"\n")

    def runs(self, pid: int, tid: int, passed: int = 0) -> None:
        """The task is about to be resumed, at ``passed`` if that is behind a breakpoint."""
        self._note(pid, tid, _RUNS, passed, 0)

    def listens(self, pid: int, tid: int) -> None:
        """The task stays in its group-stop."""
        self._note(pid, tid, _LISTENS, 0, 0)

    def stands(self, pid: int, tid: int, signal: int = 0) -> None:
        """The task's stop was seen to; ``signal`` is yet to be delivered."""
        self._note(pid, tid, 0, 0, signal)

    def _note(self, pid: int, tid: int, flags: int, passed: int, signal: int) -> None:
        row = self._rows.get(tid)
        if row is None:
            if not self._free_rows:
                return
            row = self._rows[tid] = self._free_rows.pop()
            self._place_of[tid] = len(self._place_of) + 1
            self._live[self._place_of[tid]] = pid << 32 | tid
            self._live[0] = len(self._place_of)
        _TASK.pack_into(self._tasks, row, tid << 2 | flags, passed, signal)

    def gone(self, tid: int) -> None:
        """The task is traced no more."""
        row = self._rows.pop(tid, None)
        if row is not None:
            _TASK.pack_into(self._tasks, row, 0, 0, 0)
            self._free_rows.append(row)
            self._move_last_to(self._place_of.pop(tid))

    def _move_last_to(self, place: int) -> None:
        last = len(self._place_of) + 1
        if place != last:
            self._live[place] = self._live[last]
            self._place_of[self._live[place] & 0xFFFFFFFF] = place
        self._live[0] = last - 1

    def live(self) -> list[tuple[int, int]]:
        """(process, thread) of nearly all tracees, in no time; one may be there twice."""
        return [(found >> 32, found & 0xFFFFFFFF) for found in self._live[1 : self._live[0] + 1]]

    def tasks(self) -> dict[int, TaskState]:
        """Every task by its thread id, as the holder left it."""
        return {
            found >> 2: TaskState(bool(found & _RUNS), bool(found & _LISTENS), passed, signal)
            for found, passed, signal in _TASK.iter_unpack(self._tasks[:])
            if found
        }

    def step_begins(self, step: StepState) -> None:
        """The task is about to run an instruction at the scratch place."""
        if self._free:
            self._of[step.tid] = self._free.pop()
            _STEP.pack_into(
                self._steps, self._of[step.tid] * _STEP.size,
                step.at, step.scratch, step.value, step.mask, step.behind, step.tid, step.goes, step.calls,
                len(step.before), step.register.encode(), step.before,
            )  # fmt: skip

    def step_ends(self, tid: int) -> None:
        """It has, and everything is as it was."""
        number = self._of.pop(tid, None)
        if number is not None:
            _STEP.pack_into(self._steps, number * _STEP.size, 0, 0, 0, 0, 0, 0, 0, 0, 0, b"", b"")
            self._free.append(number)

    def has_places(self) -> bool:
        """Whether there was a breakpoint."""
        return os.fstat(self._file).st_size > 0

    def places(self) -> list[Place]:
        """Every place there was."""
        lines = (line.split() for line in self._lines() if line[:1] == b"P")
        return [Place(bytes.fromhex(f.decode()), int(o), bytes.fromhex(c.decode())) for _, o, c, f in lines]

    def held(self) -> list[TaskId]:
        """Whom rules hold."""
        found: dict[TaskId, None] = {}
        for line in self._lines():
            if line[:1] in (b"+", b"-"):
                task = TaskId(*map(int, line.split()[1:]))
                found.pop(task, None)
                if line[:1] == b"+":
                    found[task] = None
        return list(found)

    def _lines(self) -> Iterator[bytes]:
        data = os.pread(self._file, os.fstat(self._file).st_size, 0)
        yield from data[: data.rfind(b"\n") + 1].splitlines()

    def task(self, tid: int) -> TaskState:
        """One of ``tasks``; as if dealt with, where the holder made nothing of it."""
        return self.tasks().get(tid, TaskState(False, False, 0, 0))

    def steps(self) -> list[StepState]:
        """Steps that were under way."""
        found = []
        for number in range(_STEPS):
            at, scratch, value, mask, behind, tid, goes, calls, size, name, before = _STEP.unpack_from(
                self._steps, number * _STEP.size
            )
            if tid:
                register = name.rstrip(b"\0").decode()
                found.append(
                    StepState(
                        tid,
                        bool(goes),
                        bool(calls),
                        at,
                        scratch,
                        behind,
                        register,
                        value,
                        mask,
                        before[:size],
                    )
                )
        return found
