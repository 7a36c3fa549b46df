"""What a traced process is, for rules to be asked about, and which of them are spared."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from clew.kernel import procfs
from clew.model.rules.facts import Ancestor, Facts
from clew.model.rules.rule import RuleKind

_MOST_ANCESTORS = 40


def facts(kind: RuleKind, pid: int, tid: int, of_command: bool, filename: bytes = b"") -> Facts:
    """The facts of an event, read now: its task is stopped."""
    found = procfs.stat(pid, tid)
    return Facts(
        kind=kind,
        pid=pid,
        tid=tid,
        exe=procfs.exe(pid),
        filename=filename,
        argv=procfs.argv(pid),
        comm=found.comm if found else b"",
        uid=_real_uid(pid),
        ancestors=_ancestors(pid),
        of_command=of_command,
    )


class Spared(Enum):
    """Whether a process is never held, whatever rules say."""

    NOT = 0
    UNDER_DEBUGGER = 1
    ALWAYS = 2


def spared(pid: int, pids: Collection[int], own: int, debuggers: Collection[bytes]) -> Spared:
    """Whether the process is one of ``pids`` (with descendants), or a debugger or below one.

    The search for debuggers ends at ``own``, ourselves: what started us does not count.
    """
    found = procfs.stat(pid)
    if pid <= 1 or pid in pids or (found is not None and found.comm in debuggers):
        return Spared.ALWAYS
    for _ in range(_MOST_ANCESTORS):
        if found is None or found.parent in (0, own):
            break
        if found.parent in pids:
            return Spared.ALWAYS
        found = procfs.stat(found.parent)
        if found is not None and found.comm in debuggers:
            return Spared.UNDER_DEBUGGER
    return Spared.NOT


def _real_uid(pid: int) -> int:
    owners = procfs.status(pid).get(b"Uid")
    return int(owners.split()[0]) if owners else -1


def _ancestors(pid: int) -> tuple[Ancestor, ...]:
    found: list[Ancestor] = []
    at = procfs.stat(pid)
    while at is not None and at.parent > 0 and len(found) < _MOST_ANCESTORS:
        parent = at.parent
        at = procfs.stat(parent)
        exe = procfs.exe(parent)
        found.append(Ancestor(parent, exe, at.comm if at else b""))
    return tuple(found)


def handles(tid: int, number: int) -> bool:
    """Whether signal ``number`` would do something to the task: run a handler, or end it."""
    fields = procfs.status(tid)
    ignored, caught = (int(fields.get(name, b"0"), 16) for name in (b"SigIgn", b"SigCgt"))
    bit = 1 << (number - 1)
    if caught & bit:
        return True
    return not ignored & bit and number not in _IGNORED_BY_DEFAULT


# signal(7): CHLD, CONT, URG, WINCH; the stop signals stop by default.
_IGNORED_BY_DEFAULT = frozenset({17, 18, 19, 20, 21, 22, 23, 28})
