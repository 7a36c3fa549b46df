"""What a hold is: a stopped task as others see it, and what is told when one begins or ends."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any, Literal

from clew.model.frame import Frame
from clew.model.task import TaskId

Scope = Literal["thread", "process"]

DEFAULT_LEASE_S = 600.0
DEFAULT_MOST = 64


@dataclass(frozen=True, slots=True)
class Hold:
    """A task that stands still and can be let go.

    ``id`` is ``H1``, ``H2``, ...; ``rule`` the rule's text; ``exact`` one of
    ``clew.engine.bpf.hold_probes.EXACT``.  ``since_ns`` is when the event happened (CLOCK_MONOTONIC),
    ``lease_s`` how many seconds are left before it is let go by itself.  ``debugger`` is the process id
    of whoever traces it, 0 if nobody but us does.  ``kept`` says by what it stands still: our "ptrace"
    (only this thread), or a "signal" (SIGSTOP: its whole process, as any debugger can take it over).
    """

    id: str
    rule: str
    task: TaskId
    comm: bytes
    exe: bytes
    argv: tuple[bytes, ...]
    parent: int
    uid: int
    scope: Scope
    exact: str
    at: Frame
    since_ns: int
    lease_s: float
    debugger: int = 0
    kept: Literal["ptrace", "signal"] = "signal"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.task.pid

    @property
    def tid(self) -> int:
        """Its thread id."""
        return self.task.tid

    def as_wire(self) -> dict[str, Any]:
        """Plain values for the control socket; bytes as ``os.fsdecode`` has them, so nothing is lost."""
        wire = asdict(self)
        wire |= {"comm": os.fsdecode(self.comm), "exe": os.fsdecode(self.exe)}
        wire["argv"] = [os.fsdecode(argument) for argument in self.argv]
        wire["at"]["module"] = os.fsdecode(self.at.module)
        return wire

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Hold:
        """The opposite of ``as_wire``."""
        values = dict(wire)
        values["task"] = TaskId(**wire["task"])
        values["at"] = Frame(**{**wire["at"], "module": os.fsencode(wire["at"]["module"])})
        values |= {"comm": os.fsencode(wire["comm"]), "exe": os.fsencode(wire["exe"])}
        values["argv"] = tuple(os.fsencode(argument) for argument in wire["argv"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class HoldEvent:
    """Something to tell: a hold began ("held"), ended ("released"), or a "warning".

    ``reason`` is why it ended, or the warning's text.
    """

    event: Literal["held", "released", "warning"]
    hold: Hold | None = None
    reason: str = ""

    def as_wire(self) -> dict[str, Any]:
        """Plain values for the control socket."""
        return {
            "event": self.event,
            "hold": self.hold.as_wire() if self.hold else None,
            "reason": self.reason,
        }

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> HoldEvent:
        """The opposite of ``as_wire``."""
        hold = Hold.from_wire(wire["hold"]) if wire["hold"] else None
        return cls(wire["event"], hold, wire["reason"])
