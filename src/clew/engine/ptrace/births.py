"""Children of traced tasks: from the two reports of a birth, which come in either order, to one tracee.

The parent stops at its fork, vfork or clone and tells the child's id; the child, traced from birth, stops
before its first instruction.  Whichever comes first waits for the other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from clew.engine.ptrace.heir_log import HeirLog
from clew.engine.ptrace.space import Space
from clew.engine.ptrace.tracee import Process, Tracee
from clew.kernel import procfs
from clew.kernel.ptrace import Event, Wait, share_memory

_ORPHAN_S = 0.2


class Family(Protocol):
    """What is asked of the loop that the tracees belong to."""

    @property
    def tracees(self) -> Mapping[int, Tracee]:
        """By thread id."""

    @property
    def processes(self) -> Mapping[int, Process]:
        """By process id."""

    @property
    def log(self) -> HeirLog:
        """What the heir is told."""

    def add(self, tracee: Tracee) -> None:
        """Trace it from now on."""

    def again(self, found: Wait) -> None:
        """Deal with a stop that came too early."""

    def arm(self, process: Process) -> None:
        """Give a process the breakpoints that it lacks."""


class Births:
    """``fresh``: children that were told of and whose first stop is yet to be dealt with."""

    def __init__(self, loop: Family) -> None:
        self._loop = loop
        self._early: dict[int, tuple[Wait, float]] = {}
        self._dead: set[int] = set()
        self.fresh: set[int] = set()

    def early(self, found: Wait) -> None:
        """A child that nobody has told of has stopped."""
        self._early[found.tid] = (found, time.monotonic())

    def dead(self, tid: int) -> None:
        """A task has ended: perhaps before it was told of."""
        self.fresh.discard(tid)
        if self._early.pop(tid, None) is not None:
            self._dead.add(tid)

    def told(self, parent: Tracee, how: int, tid: int) -> None:
        """The parent tells of a child."""
        if tid in self._dead:
            self._dead.discard(tid)
            return
        if tid in self._loop.tracees:
            return  # It was taken on as an orphan.
        self._take_on(parent, how, tid)
        found = self._early.pop(tid, None)
        if found is not None:
            self._loop.again(found[0])

    def orphans(self, after_s: float = _ORPHAN_S) -> list[Wait]:
        """First stops of children whose parent died before it told; they are traced from now on."""
        due = time.monotonic() - after_s
        found = [wait for wait, since in self._early.values() if since <= due]
        for wait in found:
            del self._early[wait.tid]
            stat = procfs.stat(wait.tid)
            parent = self._loop.processes.get(stat.parent) if stat else None
            process = Process(wait.tid, Space(self._loop.log), bool(parent and parent.of_command))
            self._add(wait.tid, process)
            self._loop.arm(process)
        return found

    def _take_on(self, parent: Tracee, how: int, tid: int) -> None:
        pid = procfs.process_of(tid) or tid
        if pid == parent.process.pid:
            self._add(tid, parent.process)
            return
        shares = share_memory(parent.tid, tid)
        if how == Event.VFORK if shares is None else shares:
            space = parent.process.space
        else:
            space = parent.process.space.copied_to(tid)
        self._add(tid, Process(tid, space, parent.process.of_command))

    def _add(self, tid: int, process: Process) -> None:
        self._loop.add(Tracee(tid, process))
        self.fresh.add(tid)
