"""How a task is kept still, and let go: by a signal (its whole process) or by ptrace (this thread alone).

``Keeper`` is what the book asks for; ``SignalKeeper`` is the bpf engine's (``tracing.py`` has the other).

Everything here runs in the session's thread: a tracee belongs to the thread that seized it, and when that
thread ends, however it does, the kernel sets its tracees free.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from clew.errors import ClewError, HoldError
from clew.hold import deadly
from clew.kernel import procfs, ptrace, signals
from clew.kernel.pidfd import PidFd
from clew.model.task import TaskId

_STOP_S = 0.1
_HAND_OVER_S = 2.0


@dataclass(slots=True)
class Kept:
    """A task that stands still.  ``by`` says by what; ``process`` is its process's descriptor;
    ``since_ns`` when it was noted.

    ``deadly`` is the signal that will end it when it goes on, 0: none.
    """

    task: TaskId
    process: PidFd
    by: Literal["ptrace", "signal"] = "signal"
    since_ns: int = 0
    deadly: int = 0


def seize(kept: Kept) -> None:
    """Trace the stopped thread, so that it stays when its process is continued.

    Raises HoldError if it cannot be traced or does not stand still.
    """
    tid = kept.task.tid
    try:
        ptrace.seize(tid)
        if signals.state(kept.task.pid, tid) not in (signals.STOPPED, signals.TRACED):
            ptrace.interrupt(tid)
        found = ptrace.wait(tid)
    except ClewError as error:
        raise HoldError(f"Thread {tid} cannot be held alone: {error.cause}", error.remedy) from error
    if found is None or not found.stopped:
        raise HoldError(f"Thread {tid} ended.")
    kept.by = "ptrace"


def let_siblings_run(kept: Kept) -> None:
    """Continue the process of seized threads: they stay."""
    kept.process.send(signal.SIGCONT)


class Keeper(Protocol):
    """Keeps tasks that the engine has stopped, and lets them go."""

    def halt(self, kept: Kept) -> None:
        """Have the whole process of a task stand still, where its stop was this thread's alone."""

    def join(self, kept: Kept) -> None:
        """Another hold keeps the whole process of a task: it is let go with that one."""

    def hand_over(self, kept: Kept) -> None:
        """Leave the task plainly stopped, with its whole process, so that a debugger can attach to it.

        Raises HoldError if the process does not come to a stop.
        """

    def let_go(self, kept: Kept, held_again: Callable[[], bool]) -> bool:
        """Let the task run; False if it may not follow yet.  One that ended meanwhile has been let go."""

    def has_ended(self, kept: Kept) -> bool:
        """Whether the task is gone, by whatever means."""

    def part(self, kept: Kept) -> None:
        """The hold is over, however it ended."""


class SignalKeeper:
    """The bpf engine's: tasks stand by SIGSTOP, single threads in a ptrace stop of ours besides.

    ``let_pass(tid, start_ns)`` is told of a thread whose next deadly signal is the one it was held for.
    """

    def __init__(self, let_pass: Callable[[int, int], None]) -> None:
        self._let_pass = let_pass

    def halt(self, kept: Kept) -> None:
        """Nothing: SIGSTOP stops all of it."""

    def join(self, kept: Kept) -> None:
        """Nothing, as ``halt``."""

    def hand_over(self, kept: Kept) -> None:
        """See ``Keeper``."""
        if kept.by == "signal":
            return
        kept.process.send(signal.SIGSTOP)
        # Our own tracee stands in its ptrace stop; the others must be in the group-stop first.
        signals.wait_all_stopped(kept.task.pid, _STOP_S)
        if kept.deadly:
            self._let_pass(kept.task.tid, kept.task.start_ns)
            deadly.stop_instead(kept.task, kept.deadly)
        elif _group_is_stopped(kept.task):
            ptrace.detach(kept.task.tid)
        else:
            _stop_in_its_place(kept.task)
        kept.by, kept.deadly = "signal", 0
        if not signals.wait_stopped(kept.task.pid, kept.task.tid, _HAND_OVER_S):
            raise HoldError(f"Task {kept.task.tid} did not stop again for the hand-over.", "Try once more.")

    def let_go(self, kept: Kept, held_again: Callable[[], bool]) -> bool:
        """See ``Keeper``."""
        try:
            if kept.by == "ptrace":
                if kept.deadly:
                    self._let_pass(kept.task.tid, kept.task.start_ns)
                    # Siblings may be stopped; and a SIGSTOP still to come would come first.
                    kept.process.send(signal.SIGCONT)
                ptrace.detach(kept.task.tid)
                return True
            if signals.tracer(kept.task.tid):
                return False  # It is let go when its debugger has left it.
            return signals.resume(kept.process, kept.task.tid, held_again)
        except ClewError:
            return True

    def has_ended(self, kept: Kept) -> bool:
        """See ``Keeper``."""
        if kept.process.ended():
            return True
        if kept.by == "ptrace":
            return ptrace.has_ended(kept.task.tid)
        return not signals.state(kept.task.pid, kept.task.tid)

    def part(self, kept: Kept) -> None:
        """Let the parent of a seized task that ended learn of it: it is told when the tracer has waited.

        A child of our own is left to whoever started it: one wait is all there is.
        """
        task = kept.task
        found = procfs.stat(task.pid) if task.pid == task.tid else None
        if kept.by == "ptrace" and (found is None or found.parent != os.getpid()):
            ptrace.wait(task.tid, hang=False)


def _group_is_stopped(task: TaskId) -> bool:
    """Whether a sibling has taken the SIGSTOP: a thread that is left then joins it, before any signal."""
    others = (tid for tid in procfs.threads(task.pid) if tid != task.tid)
    return any(signals.state(task.pid, tid) == signals.STOPPED for tid in others)


def _stop_in_its_place(task: TaskId) -> None:
    """Have our tracee take the SIGSTOP that was sent to its process before any other signal.

    Those are put off, or their handlers would take it elsewhere.  Raises HoldError if it ends.
    """
    put_off: list[int] = []
    while True:
        ptrace.cont(task.tid)
        found = ptrace.wait(task.tid)
        if found is None or not found.stopped:
            raise HoldError(f"Thread {task.tid} ended.")
        if found.event or found.signal == signal.SIGSTOP:
            break
        put_off.append(found.signal)
    ptrace.detach(task.tid, 0 if found.event else signal.SIGSTOP)
    for number in put_off:
        ptrace.send_signal(task.pid, task.tid, number)


def runs(kept: Kept) -> bool:
    """Whether somebody else set it going: it should stand still, and nobody traces it."""
    if kept.by == "ptrace":
        return False
    task = kept.task
    if signals.is_stopped(task.pid, task.tid) or signals.tracer(task.tid):
        return False
    # Between a debugger's detach and the SIGSTOP that it left there is a moment in which the task runs.
    return not signals.wait_stopped(task.pid, task.tid, 0.005)
