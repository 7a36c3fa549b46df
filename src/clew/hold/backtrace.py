"""The backtrace of a held task: its registers, a copy of its stack, unwound and named."""

from __future__ import annotations

from dataclasses import dataclass
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
    return look_at(hold, registers, stack).backtrace(lines)


@dataclass(frozen=True, slots=True)
class Looked:
    """What a backtrace is made of: taking it needs rights over the task, unwinding it does not."""

    sample: StackSample
    mappings: tuple[Mapping, ...]
    files: dict[Mapping, Path]

    def backtrace(self, lines: bool = True) -> Backtrace:
        """See the function of this name."""
        session = UnwindSession(self.files.get, lines=lines)
        return Unwinder(list(self.mappings), session).unwind(self.sample)


def look_at(hold: Hold, registers: bytes, stack: bytes = b"") -> Looked:
    """The first half of ``backtrace``."""
    sp = stack_pointer(registers)
    sample = StackSample(1, hold.pid, hold.since_ns, sp, registers, stack or stack_at(hold.pid, sp))
    mappings = tuple(procfs.mappings(hold.pid))
    files = {each: mapped_file(hold.pid, each) for each in mappings if each.path.startswith(b"/")}
    return Looked(sample, mappings, files)
