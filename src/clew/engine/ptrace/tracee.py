"""Traced tasks and their processes, as the holder knows them."""

from __future__ import annotations

from dataclasses import dataclass, field

from clew.engine.ptrace.space import Space
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

    ``stop`` is the stop it is in, None while it runs.  ``signal`` is to be delivered when it runs on.
    ``at`` is the breakpoint whose instruction it has yet to run, 0: none.  ``silent``: in a group-stop,
    listened to.
    """

    tid: int
    process: Process
    stop: Wait | None = None
    held: bool = False
    signal: int = 0
    at: int = 0
    silent: bool = False

    @property
    def kept(self) -> bool:
        """Whether it must not run now."""
        return self.held or self.process.halted
