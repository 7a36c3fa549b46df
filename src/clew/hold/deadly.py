"""A task that a signal is about to end: seized in the moment that the kernel gives us.

The task waits in the kernel for its tracer, and no longer than 0.2 s (hold_fatal.bpf.h): what must happen in
that time is here.  Once it is traced and interrupted, it stops before it takes any signal.
"""

from __future__ import annotations

import os
import signal
import time

from clew.errors import ClewError, HoldError
from clew.kernel import ptrace
from clew.model.task import TaskId

_CATCH_S = 0.2
_POLL_S = 0.0002
_REPEATED_BY_THE_CODE = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
"""Of these a fault's instruction is run again, and faults again."""


def ask(tid: int) -> None:
    """Seize a task and have it stop: before its next user instruction, and before any signal.

    Raises what ``ptrace.seize`` and ``ptrace.interrupt`` raise.
    """
    ptrace.seize(tid)
    ptrace.interrupt(tid)


def catch(task: TaskId) -> bool:
    """Seize and interrupt the task; False if the signal was quicker."""
    try:
        ask(task.tid)
    except ClewError:
        return False
    until = time.monotonic() + _CATCH_S
    while (found := ptrace.wait(task.tid, hang=False)) is None:
        if time.monotonic() >= until:
            return False  # It dumps core by now.  ``reap`` it.
        time.sleep(_POLL_S)
    return found.stopped


def reap(tid: int) -> bool:
    """Whether a task that was seized too late has ended: its parent learns of it after its tracer only."""
    found = ptrace.wait(tid, hang=False)
    if found is None:
        return not os.path.exists(f"/proc/{tid}")  # noqa: PTH110
    if found.stopped:
        ptrace.detach(tid)
    return True


def stop_instead(task: TaskId, number: int) -> None:
    """Have the seized task take a SIGSTOP in the place of its deadly signal, and leave it in that stop.

    The signal then comes again when the task is continued: a fault by itself, any other because it is sent
    anew.  Raises HoldError if the task ended.
    """
    ptrace.cont(task.tid)
    found = ptrace.wait(task.tid)
    if found is None or not found.stopped:
        raise HoldError(f"Thread {task.tid} ended.")
    if found.event:
        # A group-stop by its siblings came first: the signal is still to be taken.
        ptrace.detach(task.tid)
        return
    _number, code, _pid = ptrace.signal_info(task.tid)
    ptrace.detach(task.tid, signal.SIGSTOP)
    if code <= 0 or number not in _REPEATED_BY_THE_CODE:
        ptrace.send_signal(task.pid, task.tid, number)
