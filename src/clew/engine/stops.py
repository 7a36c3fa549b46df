"""What both engines tell of a task they stopped, and what a holding session asks of an engine."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from clew.errors import HoldError
from clew.model.rules.kernel import KernelPlan
from clew.model.rules.rule import Exclusion

FileId = tuple[int, int]
"""Device and inode of a file."""

MAX_RULES = 64
"""How many rules, and how many exclusions, can be in force."""


def too_many(what: str) -> HoldError:
    """The error for one of ``what`` ("rules") more than MAX_RULES."""
    return HoldError(f"More than {MAX_RULES} {what} were given.", "Put a glob in place of several.")


@dataclass(frozen=True, slots=True)
class Held:
    """A task that was stopped for a rule, as it was noted then.

    ``start_ns`` and ``group_start_ns`` are on CLOCK_BOOTTIME, ``t_ns`` on CLOCK_MONOTONIC; ``registers`` is
    a ``struct pt_regs``; ``detail`` the number of the system call or signal.  ``by`` is what it stands
    still by: a SIGSTOP, or its tracer.  ``waits``: it does not yet, and waits in the kernel to be traced.
    """

    pid: int
    tid: int
    start_ns: int
    group_start_ns: int
    t_ns: int
    rule: int
    exact: str
    detail: int
    comm: bytes
    registers: bytes
    by: Literal["ptrace", "signal"] = "signal"
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """Since the start: tasks held; those not held because as many as allowed were; those that failed.

    ``fatal`` signals matched a rule and ended their process, which had no handler for them, before it was
    stopped.
    """

    taken: int
    over: int
    failed: int
    fatal: int


class Stops(Protocol):
    """Rules in force, and notes of whom they stopped.  Nothing is stopped before ``enable``.

    Numbers of rules are given out by ``arm`` and never used again for another rule.  Used in one thread.
    """

    every_syscall: bool
    """Whether it stops before any system call by itself; else places in C libraries are attached to."""

    @property
    def deadly_signals(self) -> frozenset[int]:
        """Signals that it stops a process before which has no handler for them."""

    @property
    def news_fd(self) -> int:
        """Readable when ``take_news`` should be called."""

    def take_news(self) -> list[int]:
        """Ids of threads held since the last call."""

    def held(self, tid: int) -> Held | None:
        """The note on thread ``tid``."""

    def all_held(self) -> list[Held]:
        """Every note."""

    def forget(self, tid: int) -> None:
        """Drop the note on a task that is about to be let go, or is gone."""

    def counts(self) -> Counts:
        """How it went so far."""

    def enable(self, on: bool = True) -> None:
        """From now on hold what rules take, or (off) nothing more."""

    def set_command(self, pid: int) -> None:
        """The process that ``tree=cmd`` means."""

    def arm(self, plan: KernelPlan, under_debugger: bool = False, alone: bool = False) -> int:
        """Make a rule known; its number.  ``alone``: it holds the thread that hit, if the engine can."""

    def exclude(self, exclusion: Exclusion) -> None:
        """Hold nobody whom it means."""

    def attach(
        self,
        number: int,
        file: bytes,
        offsets: Iterable[int],
        exact: str = "function",
        any_call: bool = False,
    ) -> None:
        """Hold for rule ``number`` at these offsets of ``file``.

        ``any_call``: only if the register says that a system call of the rule comes next.
        """

    def disarm(self, number: int) -> None:
        """Hold nothing for rule ``number`` any more."""

    def detach(self, number: int, file: FileId) -> None:
        """Take out the places of a rule in a file that was written anew."""

    def set_aside(self, files: Collection[FileId]) -> set[int]:
        """Have no breakpoints in these files, and in all others those of the rules.

        The numbers of the rules that hold nobody in these files meanwhile.
        """

    def drop_used_up(self) -> None:
        """Take out the breakpoints of rules that have held as many as they may."""

    def spare(self, pid: int, tree: bool = False) -> None:
        """Never hold process ``pid``; nor, with ``tree``, what descends from it."""

    def unspare(self, pid: int) -> None:
        """Take ``spare`` back."""

    def keep(self, pid: int) -> None:
        """Its debugger is about to leave: see that the process stops again."""

    def keep_no_more(self, pid: int) -> None:
        """Take ``keep`` back."""

    def close(self) -> None:
        """Stop nobody any more, and leave nothing attached."""
