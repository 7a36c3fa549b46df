"""How tasks are kept by the ptrace engine: in the ptrace stop in which a rule took them."""

from __future__ import annotations

from collections.abc import Callable

from clew.engine.ptrace.stops import PtraceStops
from clew.hold.keeping import Kept
from clew.kernel import signals


class TraceKeeper:
    """Keeps the tracees of ``stops``.  What was handed over stands by SIGSTOP, and is traced no more."""

    def __init__(self, stops: PtraceStops) -> None:
        self._stops = stops

    def halt(self, kept: Kept) -> None:
        """Have the siblings stop too."""
        self._stops.halt(kept.task.pid)

    def join(self, kept: Kept) -> None:
        """Have it go on with the others of its process."""
        self._stops.halt(kept.task.pid)
        self._stops.let_go(kept.task.tid, alone=True)

    def hand_over(self, kept: Kept) -> None:
        """Leave its whole process stopped by SIGSTOP.  HoldError if it does not come to that."""
        if kept.by == "ptrace":
            self._stops.give(kept.task.pid)
            kept.by = "signal"

    def let_go(self, kept: Kept, held_again: Callable[[], bool]) -> bool:
        """Let it run on."""
        if kept.by == "ptrace":
            self._stops.let_go(kept.task.tid)
            return True
        return signals.resume(kept.process, kept.task.tid, held_again)

    def has_ended(self, kept: Kept) -> bool:
        """Whether the task is gone, or runs another program now."""
        if kept.process.ended():
            return True
        if kept.by == "ptrace":
            return not self._stops.stands(kept.task.tid, kept.since_ns)
        return not signals.state(kept.task.pid, kept.task.tid)

    def part(self, kept: Kept) -> None:
        """Nothing: the loop waits for whoever ends."""
