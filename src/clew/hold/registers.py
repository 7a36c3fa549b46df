"""The registers of a task that stands still."""

from __future__ import annotations

from clew.errors import HoldError
from clew.hold.hold import Hold
from clew.kernel import ptrace


def registers_of(hold: Hold) -> bytes:
    """A ``struct pt_regs`` of the held task.  To be called in the thread that holds it.

    Raises HoldError if a debugger has it, TaskGone if it is gone, EngineError for 32-bit code.
    """
    if hold.kept == "ptrace":
        return ptrace.get_registers(hold.tid).pt_regs
    if hold.debugger:
        raise HoldError(
            f"{hold.id} is in a debugger (process {hold.debugger}), which alone can read its registers.",
            "Ask there, or quit the debugger and keep the hold.",
        )
    ptrace.seize(hold.tid)
    try:
        # In a group-stop the seized task reports that stop at once, and goes back to it when it is left.
        ptrace.wait(hold.tid)
        return ptrace.get_registers(hold.tid).pt_regs
    finally:
        ptrace.detach(hold.tid)
