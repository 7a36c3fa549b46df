"""Traced tasks and their processes, as the holder knows them."""

from __future__ import annotations

from dataclasses import dataclass, field

from clew.engine.ptrace.space import Space
from clew.engine.ptrace.stepping import Step
from clew.engine.ptrace.who import Spared
from clew.kernel.ptrace import Wait


@dataclass(slots=True)
class Process:
    """A traced process.

    ``of_command``: clew's command, or descended from it, whoever has adopted it since.  ``halted``: all of
    it is held, so none of its threads is let run.  ``leaving``: its end was asked about already.
    ``spared``: what was found of that, since the last exec; None: nothing yet.
    """

    pid: int
    space: Space
    of_command: bool = False
    halted: bool = False
    leaving: bool = False
    spared: Spared | None = None
    tids: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Tracee:
    """A traced task.

    ``stop`` is the stop it is in, None while it runs.  ``signal`` is to be delivered when it runs on;
    ``info`` is that signal's siginfo_t, where another stop has come since.  ``at`` is the breakpoint whose
    instruction it has yet to run, 0: none; ``step`` the one that it runs now; ``passed`` where that left it.
    ``owed``: a SIGTRAP of ours is still to come.  ``ended``: it will not stop again, and has no memory any
    more, but its death is yet to be told (a main thread that left before others).
    """

    tid: int
    process: Process
    stop: Wait | None = None
    held: bool = False
    signal: int = 0
    info: bytes = b""
    at: int = 0
    passed: int = 0
    step: Step | None = None
    owed: bool = False
    ended: bool = False

    @property
    def kept(self) -> bool:
        """Whether it must not run now."""
        return self.held or self.process.halted
