"""What whoever holds may choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from clew.hold.hold import DEFAULT_LEASE_S, DEFAULT_MOST
from clew.hold.reach import Reach


@dataclass(frozen=True, slots=True)
class HoldOptions:
    """How to hold.

    ``scope`` "auto": the thread for call, at, syscall and signal rules, the process for the others.
    ``lease_s`` is how long a hold lasts if nobody cares for it; ``most`` how many there are at once.
    ``command`` is what clew will start (its files are looked through for functions).  ``pids`` are processes
    to which rules are narrowed, with what descends from them; the ptrace engine traces them.  ``spare`` are
    processes that are not held, nor what they start.  ``serves`` is a process with whose end the session
    ends, 0: none.  ``confirm`` is asked before a rule with places in code is armed; it raises to say no.
    """

    scope: Literal["auto", "thread", "process"] = "auto"
    lease_s: float = DEFAULT_LEASE_S
    most: int = DEFAULT_MOST
    command: tuple[bytes, ...] = ()
    pids: tuple[int, ...] = ()
    under_debugger: bool = False
    spare: tuple[int, ...] = field(default=())
    serves: int = 0
    confirm: Callable[[Reach], None] | None = None
