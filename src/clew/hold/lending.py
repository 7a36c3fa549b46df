"""Processes that debuggers work on: none of our breakpoints is in their code meanwhile.

gdb keeps the bytes that it puts its own breakpoints over: it would put ours back when we are gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass

from clew.engine.stops import FileId, Stops
from clew.errors import ClewError
from clew.hold.describe import mapped_file
from clew.kernel import procfs, signals
from clew.kernel.pidfd import PidFd


@dataclass(slots=True)
class _Lent:
    """A process that was given away; ``seen``: a debugger has had it."""

    process: PidFd
    seen: bool = False


class Lending:
    """Which processes debuggers have, or soon will.  ``tell(pid, numbers)``: rules hold nobody meanwhile."""

    def __init__(self, stops: Stops, tell: Callable[[int, set[int]], None]) -> None:
        self._stops, self._tell = stops, tell
        self._lent: dict[int, _Lent] = {}
        self._told: set[int] = set()

    def lend(self, pid: int) -> None:
        """A debugger is about to have the process, or has it."""
        if pid in self._lent:
            return
        try:
            self._lent[pid] = _Lent(PidFd(pid))
        except ClewError:
            return
        self._apply(pid)

    def look(self, held: Collection[int]) -> None:
        """Take back what no debugger has any more; ``held`` are processes that one may still come for."""
        if not self._lent:
            return
        for pid, lent in list(self._lent.items()):
            traced = not lent.process.ended() and _is_traced(pid)
            lent.seen |= traced
            if not traced and (lent.seen or pid not in held):
                lent.process.close()
                del self._lent[pid]
        self._apply(next(iter(self._lent), 0))

    def close(self) -> None:
        """Watch nobody more."""
        for lent in self._lent.values():
            lent.process.close()
        self._lent.clear()

    def _apply(self, pid: int) -> None:
        rules = self._stops.set_aside({file for one in self._lent for file in _code_of(one)})
        if rules - self._told:
            self._tell(pid, rules - self._told)
        self._told = rules


def _is_traced(pid: int) -> bool:
    """Whether somebody else traces the process: some thread of it, the first may be gone."""
    return any(signals.tracer(tid) not in (0, os.getpid()) for tid in procfs.threads(pid))


def _code_of(pid: int) -> set[FileId]:
    """The files that are mapped executable into the process."""
    found = set()
    for mapping in procfs.mappings(pid):
        try:
            status = mapped_file(pid, mapping).stat()
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return found
