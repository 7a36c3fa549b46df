"""Every failure a user can meet: what happened, then what to do about it.

One base class, one class per condition.  A message is one clear paragraph; the command line prints it
and the remedy, and never a traceback.  Data a caller may want (a position, an errno) is in attributes.
"""

from __future__ import annotations


class ClewError(Exception):
    """A condition that ends a command.

    ``cause`` says what happened, ``remedy`` what the user can do; ``exit_code`` is what the process
    exits with.  125: clew itself failed, 126: found but not permitted, 127: the command was not found
    (the codes of env(1), so that the traced command's own status is never mistaken for ours).
    """

    exit_code = 125

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(cause if not remedy else f"{cause} {remedy}")
        self.cause = cause
        self.remedy = remedy


class UsageError(ClewError):
    """The command line, or a rule in it, cannot be understood."""


class RuleError(UsageError):
    """A rule that does not parse.  ``position`` is the 0-based offset of the fault in ``rule``."""

    def __init__(self, rule: str, position: int, cause: str, remedy: str = "") -> None:
        super().__init__(cause, remedy)
        self.rule = rule
        self.position = position


class PermissionMissing(ClewError):
    """The kernel refuses something clew needs (BPF, ptrace, a file)."""

    exit_code = 126


class CommandNotFound(ClewError):
    """The command to run does not exist or cannot be executed."""

    exit_code = 127


class EngineError(ClewError):
    """A probe could not be loaded or attached.  ``log`` is what the kernel's verifier said, if it did."""

    def __init__(self, cause: str, remedy: str = "", log: str = "") -> None:
        super().__init__(cause, remedy)
        self.log = log


class PartRefused(EngineError):
    """The kernel does not take a part of the bpf engine; the other parts may work, and the other engine."""


class TraceError(ClewError):
    """A trace cannot be written or read: missing, cut short, newer than this clew, not a trace at all."""


class TaskGone(ClewError):
    """A task that was named, or held, exists no more.  ``pid`` is its process id."""

    def __init__(self, pid: int, cause: str, remedy: str = "") -> None:
        super().__init__(cause, remedy)
        self.pid = pid


class SymbolNotFound(ClewError):
    """A function or line that is in no binary looked at.  ``near`` holds names that may have been meant."""

    def __init__(self, cause: str, remedy: str = "", near: tuple[str, ...] = ()) -> None:
        super().__init__(cause, remedy)
        self.near = near


class HoldError(ClewError):
    """A hold that cannot be made, found or released."""
