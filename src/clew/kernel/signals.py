"""Stopping and continuing processes, and looking whether they did: /proc's one-letter states (proc(5))."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from clew.kernel import procfs
from clew.kernel.pidfd import PidFd

STOPPED, TRACED, WAITING, DEAD = "T", "t", "D", "ZX"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0001, 0.005


def state(pid: int, tid: int) -> str:
    """The state's letter; "" if the task is gone."""
    found = procfs.stat(pid, tid)
    return found.state if found else ""


def tracer(tid: int) -> int:
    """The process id of the task's tracer, 0 if nobody traces it or it is gone."""
    return int(procfs.status(tid).get(b"TracerPid", 0))


def is_stopped(pid: int, tid: int) -> bool:
    """Whether the task stands still, by SIGSTOP or for its tracer."""
    return state(pid, tid) in (STOPPED, TRACED)


def wait_stopped(pid: int, tid: int, timeout_s: float) -> bool:
    """Wait until the task stands still; False if it does not within ``timeout_s``, or ends."""
    return _wait(lambda: state(pid, tid), lambda found: found in (STOPPED, TRACED), timeout_s)


def wait_all_stopped(pid: int, timeout_s: float) -> bool:
    """Wait until no thread of the process can run user instructions.

    A thread in an uninterruptible wait (a parent in vfork(2)) does not stop before that ends; it cannot
    run meanwhile either.
    """

    def moving() -> str:
        return "".join(found for tid in procfs.threads(pid) if (found := state(pid, tid)) in ("R", "S"))

    return _wait(lambda: moving() or STOPPED, lambda found: found == STOPPED, timeout_s)


def resume(process: PidFd, tid: int, held_again: Callable[[], bool], timeout_s: float = 0.25) -> bool:
    """Send SIGCONT until the task runs; False if it may not yet after ``timeout_s`` (it waits in the kernel).

    A SIGCONT that comes before the stop it is meant to end does nothing, so once is not enough.
    ``held_again`` says whether it is a new hold that stops it now.
    """
    until = time.monotonic() + timeout_s
    pause = _FIRST_PAUSE_S
    process.send(signal.SIGCONT)
    while state(process.pid, tid) == STOPPED and not held_again():
        if time.monotonic() >= until:
            return False
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
        process.send(signal.SIGCONT)
    return state(process.pid, tid) not in (WAITING, TRACED)


def _wait(look: Callable[[], str], done: Callable[[str], bool], timeout_s: float) -> bool:
    until = time.monotonic() + timeout_s
    pause = _FIRST_PAUSE_S
    while True:
        found = look()
        if done(found):
            return True
        if not found or found in DEAD or time.monotonic() >= until:
            return False
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
