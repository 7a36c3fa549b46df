"""Processes that debuggers work on: none of our breakpoints is in their code meanwhile.

gdb keeps the bytes that it puts its own breakpoints over: it would put ours back when we are gone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from clew.engine.stops import FileId, Stops
from clew.errors import ClewError
from clew.hold.describe import mapped_file
from clew.kernel import procfs, signals
from clew.kernel.pidfd import PidFd

_SWITCHES = (b"voluntary_ctxt_switches", b"nonvoluntary_ctxt_switches")
_LOOKS, _LOOK_S = 100, 0.0002


@dataclass(slots=True)
class _Lent:
    """A process that was given away; ``seen``: a debugger has had it.

    ``switches``: how often its threads had left a processor when it stood still, None: it does not yet.
    """

    process: PidFd
    seen: bool = False
    switches: int | None = None


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

    def stands(self, pid: int) -> None:
        """The process that was lent stands still now, for whoever comes."""
        lent = self._lent.get(pid)
        if lent is not None and not lent.seen:
            lent.switches = _switches(pid)

    def look(self, held: Collection[int]) -> None:
        """Take back what no debugger has any more; ``held`` are processes that one may still come for."""
        if not self._lent:
            return
        for pid, lent in list(self._lent.items()):
            # Between two looks one may have come and left: whom it traces wakes and stops again for that.
            # Asked before who traces it: of one that comes just now we see that it is there.
            woken = lent.switches is not None and _switches(pid) not in (None, lent.switches)
            traced = not lent.process.ended() and _is_traced(pid)
            lent.seen |= traced or woken
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


def _switches(pid: int) -> int | None:
    """How often the threads of a process that stands still have left a processor; None if one is about to."""
    total = 0
    for tid in procfs.threads(pid):
        # A task is in state T a moment before it is off its processor; this file says "running" until then.
        if not _is_off_processor(tid):
            return None
        fields = procfs.status(tid)
        total += sum(int(fields.get(name, 0)) for name in _SWITCHES)
    return total


def _is_off_processor(tid: int) -> bool:
    for _ in range(_LOOKS):
        where = procfs.read(f"/proc/{tid}/syscall")
        if where != b"running\n":
            return where is not None
        time.sleep(_LOOK_S)
    return False


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
