"""The backtrace of a held task: its registers, a copy of its stack, unwound and named."""

from __future__ import annotations

from pathlib import Path

from clew.hold.describe import mapped_file, stack_at, stack_pointer
from clew.hold.hold import Hold
from clew.kernel import procfs
from clew.model.frame import Backtrace, Mapping, StackSample
from clew.stack.session import Unwinder, UnwindSession


def backtrace(hold: Hold, registers: bytes, stack: bytes = b"", lines: bool = True) -> Backtrace:
    """The frames of the held task, innermost first.  ``lines`` False: without files and lines (quicker).

    ``stack`` is a copy of its stack from the stack pointer on; without one it is read.

    Raises TaskGone or PermissionMissing if its memory cannot be read.
    """
    sp = stack_pointer(registers)
    sample = StackSample(1, hold.pid, hold.since_ns, sp, registers, stack or stack_at(hold.pid, sp))

    def find(mapping: Mapping) -> Path | None:
        return mapped_file(hold.pid, mapping) if mapping.path.startswith(b"/") else None

    session = UnwindSession(find, lines=lines)
    return Unwinder(list(procfs.mappings(hold.pid)), session).unwind(sample)
