"""The backtrace of a held task: its registers, a copy of its stack, unwound and named."""

from __future__ import annotations

import os
from pathlib import Path

from clew.errors import ClewError
from clew.hold.describe import mapped_file, stack_pointer
from clew.hold.hold import Hold
from clew.kernel import procfs, ptrace
from clew.model.frame import Backtrace, Mapping, StackSample
from clew.stack.session import Unwinder, UnwindSession

_MOST_STACK = 1 << 20
_PAGE = os.sysconf("SC_PAGESIZE")


def backtrace(hold: Hold, registers: bytes, stack: bytes = b"", lines: bool = True) -> Backtrace:
    """The frames of the held task, innermost first.  ``lines`` False: without files and lines (quicker).

    ``stack`` is a copy of its stack from the stack pointer on; without one it is read.

    Raises TaskGone or PermissionMissing if its memory cannot be read.
    """
    sp = stack_pointer(registers)
    sample = StackSample(1, hold.pid, hold.since_ns, sp, registers, stack or _stack(hold.pid, sp))

    def find(mapping: Mapping) -> Path | None:
        return mapped_file(hold.pid, mapping) if mapping.path.startswith(b"/") else None

    session = UnwindSession(find, lines=lines)
    return Unwinder(list(procfs.mappings(hold.pid)), session).unwind(sample)


def stack_of(pid: int, registers: bytes) -> bytes:
    """A copy of the stack of a task with these registers, at most 1 MiB.  Raises as ``backtrace`` does."""
    return _stack(pid, stack_pointer(registers))


def _stack(pid: int, sp: int) -> bytes:
    """The stack from ``sp`` to the end of its mapping, or as much of it as can be read."""
    end = next((end for start, end in _ranges(pid) if start <= sp < end), sp)
    try:
        return ptrace.read_memory(pid, sp, min(end - sp, _MOST_STACK)) if end > sp else b""
    except ClewError:
        return ptrace.read_memory(pid, sp, -sp % _PAGE or _PAGE)


def _ranges(pid: int) -> list[tuple[int, int]]:
    found = []
    for line in (procfs.read(f"/proc/{pid}/maps") or b"").splitlines():
        low, _, high = line.split(b" ", 1)[0].partition(b"-")
        found.append((int(low, 16), int(high, 16)))
    return found
