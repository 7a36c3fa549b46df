"""Holding sessions as commands and the Python API see them, whichever engine is behind one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from clew.engine.choose import bpf_lack
from clew.errors import ClewError, PartRefused, UsageError
from clew.hold.hold import Hold, HoldEvent
from clew.hold.options import HoldOptions
from clew.hold.session import HoldSession
from clew.model.rules.rule import RuleSet


class Session(Protocol):
    """Rules in force from ``start`` to ``close``.  Requests raise HoldError where a hold is not there."""

    tracer: int
    """The process that has to trace whom rules may hold; 0: none has to."""

    def start(self) -> None: ...
    def notes(self) -> list[str]: ...
    def listen(self, listener: Callable[[HoldEvent], None]) -> None: ...
    def set_command(self, pid: int) -> None: ...
    def admit(self) -> None: ...
    def holds(self) -> list[Hold]: ...
    def hold(self, hold_id: str) -> Hold: ...
    def look(self, hold_id: str) -> tuple[Hold, bytes, bytes]: ...
    def hand_over(self, hold_id: str) -> Hold: ...
    def renew(self, hold_id: str, lease_s: float | None = None) -> Hold: ...
    def release(self, hold_id: str, force: bool = False) -> Hold: ...
    def release_all(self) -> list[Hold]: ...
    def close(self, reason: str = "clew hold ended") -> None: ...


def open_session(rules: RuleSet, options: HoldOptions, engine: str, control: bool) -> tuple[Session, str]:
    """A session by the engine called ``engine``, and a sentence to tell if ``auto`` took ptrace ("" if not).

    Raises what the engine lacks, and what arming the rules raises.
    """
    lack: ClewError | None = bpf_lack() if engine != "ptrace" else None
    if engine == "bpf" and lack is not None:
        raise type(lack)(
            lack.cause, f"{lack.remedy} Or use --engine ptrace, which needs no privilege.".lstrip()
        )
    if engine != "ptrace" and lack is None:
        try:
            return HoldSession(rules, options, control=control), ""
        except PartRefused as error:
            if engine == "bpf" or options.serves or not (options.command or options.pids):
                raise
            lack = error
    if options.serves:
        raise UsageError(
            "clew childdbg needs the bpf engine: gdb traces the program already.", "Run gdb as root."
        )
    from clew.hold.remote import RemoteSession

    why = f"Holding with ptrace, in this command's own tree only. {lack.cause}" if lack else ""
    return RemoteSession(rules, replace(options, confirm=None), control), why
