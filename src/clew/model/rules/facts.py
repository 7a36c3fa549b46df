"""What is known of one event, as far as a rule can ask: what the engines and the trace both can tell."""

from __future__ import annotations

from dataclasses import dataclass

from clew.model.frame import Backtrace
from clew.model.rules.rule import RuleKind


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A process above the one an event is about, as it was at that moment."""

    pid: int
    exe: bytes
    comm: bytes


@dataclass(frozen=True, slots=True)
class Facts:
    """One event.

    ``kind`` is what happened (SYSCALL for messages and waits too); of a fork, the task is the child.
    ``exe`` is the program that runs (after an exec: the new one), ``filename`` what was given to exec.
    ``uid`` is the real user id.  ``ancestors``: the parent first, then its parent, and so on.
    ``of_command``: whether it descends from the command clew started, or is it.  ``frames`` is the
    backtrace, for a call only the function entered; ``syscall`` "" and ``signal`` 0 where there is none.
    """

    kind: RuleKind
    pid: int
    exe: bytes
    tid: int = 0
    filename: bytes = b""
    argv: tuple[bytes, ...] = ()
    comm: bytes = b""
    uid: int = 0
    ancestors: tuple[Ancestor, ...] = ()
    of_command: bool = False
    frames: Backtrace = ()
    syscall: str = ""
    signal: int = 0
    t_ns: int = 0
