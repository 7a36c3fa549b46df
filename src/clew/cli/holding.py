"""What the commands about holds share: how a hold is shown, as text and as JSON."""

from __future__ import annotations

import time
from typing import Any

from clew.hold.hold import Hold, HoldEvent
from clew.model.frame import Frame
from clew.view.escape import json_text, visible

EXACTNESS = {
    "entry": "before its first instruction",
    "clone": "before it returns from clone",
    "first-syscall": "at its first system call",
    "function": "at the function's entry",
    "line": "at the line",
    "before-syscall": "before the system call runs",
    "after-syscall": "after the system call",
    "handler": "at the handler's entry",
    "exit": "before it is gone",
    "fatal": "before the signal ends it",
    "delivery": "before the signal is delivered",
}


def hold_json(hold: Hold) -> dict[str, Any]:
    """The object of ``clew ps --json``; docs/hold.md describes it."""
    return {
        "hold": hold.id,
        "rule": json_text(hold.rule),
        "pid": hold.pid,
        "tid": hold.tid,
        "comm": json_text(hold.comm),
        "exe": json_text(hold.exe),
        "argv": [json_text(argument) for argument in hold.argv],
        "parent": hold.parent,
        "uid": hold.uid,
        "scope": hold.scope,
        "exact": hold.exact,
        "at": frame_json(hold.at),
        "held_s": round(held_s(hold), 3),
        "lease_s": round(hold.lease_s, 3),
        "debugger": hold.debugger or None,
    }


def event_json(event: HoldEvent) -> dict[str, Any]:
    """The object of one line of ``clew hold --json``."""
    told: dict[str, Any] = {"event": event.event}
    if event.hold is not None:
        told |= hold_json(event.hold)
    if event.event != "held":
        told["reason"] = json_text(event.reason)
    return told


def frame_json(frame: Frame) -> dict[str, Any]:
    """A place in the code."""
    return {
        "function": json_text(frame.function),
        "module": json_text(frame.module),
        "offset": frame.offset,
        "file": json_text(frame.file),
        "line": frame.line,
    }


def held_s(hold: Hold) -> float:
    """For how many seconds it has been held."""
    return max(time.monotonic() - hold.since_ns / 1e9, 0.0)


def place(frame: Frame) -> str:
    """Where a frame stands, on one line."""
    name = visible(frame.function) or "?"
    where = visible(frame.module.rpartition(b"/")[2] or b"anonymous code") + f"+{frame.offset:#x}"
    if frame.file:
        where = f"{visible(frame.file.rpartition('/')[2])}:{frame.line}"
    return f"{name} ({where})"


def task(hold: Hold) -> str:
    """Who is held: name, process and thread."""
    name = visible(hold.comm)
    return f"{name} {hold.pid}" if hold.pid == hold.tid else f"{name} {hold.pid}/{hold.tid}"


def span(seconds: float) -> str:
    """A length of time, short."""
    if seconds < 120:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 7200 else f"{seconds / 3600:.1f}h"


def seconds(text: str) -> float:
    """A length of time from the command line: 90, 90s, 10m, 2h.  Raises ValueError."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    unit = units.get(text[-1:])
    value = float(text[:-1]) * unit if unit else float(text)
    if not 0 < value < 1e9:
        raise ValueError(text)
    return value
