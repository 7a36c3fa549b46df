"""Beginning to trace processes that run already."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from clew.engine.ptrace.refusal import refused
from clew.engine.ptrace.space import Space
from clew.engine.ptrace.tracee import Process, Tracee
from clew.errors import PermissionMissing, TaskGone
from clew.kernel import procfs, ptrace, signals
from clew.kernel.ptrace import Option

if TYPE_CHECKING:
    from clew.engine.ptrace.loop import Loop

OPTIONS = (
    Option.TRACESYSGOOD
    | Option.TRACEFORK
    | Option.TRACEVFORK
    | Option.TRACECLONE
    | Option.TRACEEXEC
    | Option.TRACEEXIT
)
"""Never EXITKILL: our death must not be the program's."""


def seize_process(loop: Loop, pid: int, of_command: bool) -> None:
    """Trace all threads of a process; none of them is stopped for it, unless system calls are wanted.

    Raises TaskGone and PermissionMissing.
    """
    process = Process(pid, Space(loop.log), of_command)
    # A thread that is born of one not yet traced shows in the next look.
    tried: set[int] = set()
    while new := set(procfs.threads(pid)) - tried:
        for tid in new:
            _seize(loop, process, tid)
        tried |= new
    if not process.tids:
        raise refused(pid, errno.ESRCH, 0)
    loop.arm(process)


def _seize(loop: Loop, process: Process, tid: int) -> None:
    try:
        ptrace.seize(tid, OPTIONS)
    except TaskGone:
        return
    except PermissionMissing:
        # A main thread may have ended before the others: a zombie, which nobody can trace.
        if tid in loop.tracees or signals.state(process.pid, tid) in signals.DEAD:
            return
        raise refused(process.pid, errno.EPERM, signals.tracer(tid)) from None
    loop.add(Tracee(tid, process))
    if loop.every_call:
        ptrace.interrupt(tid)
