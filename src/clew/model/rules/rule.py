"""What a rule is, once it is understood: the point it names, its conditions, and which hits it takes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from clew.model.rules.glob import Glob


class RuleKind(StrEnum):
    """The points at which a task can be stopped."""

    EXEC = "exec"
    FORK = "fork"
    CALL = "call"
    AT = "at"
    SYSCALL = "syscall"
    SIGNAL = "signal"
    EXIT = "exit"
    HOP = "hop"


class Field(StrEnum):
    """What a condition looks at, as it is written in a rule."""

    EXE = "exe"
    ARGV = "argv"
    COMM = "comm"
    UID = "uid"
    PID = "pid"
    PARENT = "parent"
    LINEAGE = "lineage"
    TREE = "tree"


class TreeRoot(StrEnum):
    """A root of a process tree that has no number yet."""

    COMMAND = "cmd"


@dataclass(frozen=True, slots=True)
class Condition:
    """One ``field=value`` or ``field!=value``.

    ``value`` is a Glob for exe, argv, comm, parent and lineage; a number for uid, pid, and for parent
    and tree by process id; ``TreeRoot.COMMAND`` for ``tree=cmd``.
    """

    field: Field
    value: Glob | int | TreeRoot
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """The subject of a call rule; ``file`` is None where any mapped file will do."""

    name: Glob
    file: Glob | None = None


@dataclass(frozen=True, slots=True)
class SourceLine:
    """The subject of an at rule: ``file`` is a path or the end of one, cut at a ``/``."""

    file: bytes
    line: int

    def matches(self, file: bytes, line: int) -> bool:
        """Whether ``file:line``, as debug information spells it, is this line."""
        return line == self.line and (b"/" + file).endswith(b"/" + self.file.lstrip(b"/"))


@dataclass(frozen=True, slots=True)
class Syscalls:
    """The subject of a syscall rule: numbers differ by machine, so it stays a pattern over names."""

    name: Glob


@dataclass(frozen=True, slots=True)
class Signals:
    """The subject of a signal rule: the numbers that ``name`` stands for."""

    name: str
    numbers: frozenset[int]


@dataclass(frozen=True, slots=True)
class RecordedHop:
    """The subject of a hop rule: hop ``number`` (from 1) of the trace at ``trace``."""

    trace: bytes
    number: int


Subject = Glob | Function | SourceLine | Syscalls | Signals | RecordedHop


@dataclass(frozen=True, slots=True)
class Rule:
    """A point to stop at, or to reach.

    ``subject`` is a Glob for exec, fork and exit, else the type named after the kind.  Of the events
    that meet all ``conditions``, the hits, the first one taken is number ``first`` (from 1), and at most
    ``limit`` are taken; None: no limit.  ``text`` is how the rule was written.
    """

    text: str
    kind: RuleKind
    subject: Subject
    conditions: tuple[Condition, ...] = ()
    first: int = 1
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Processes that no rule holds: those that run a matching program, or also all below them.

    ``subject`` is a Glob over the program; for ``scope`` "tree" also a process id or the command.
    """

    text: str
    scope: Literal["process", "tree"]
    subject: Glob | int | TreeRoot
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules that are in force together: an event is taken if a rule matches and no exclusion does."""

    rules: tuple[Rule, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()

    def __add__(self, other: RuleSet) -> RuleSet:
        return RuleSet(self.rules + other.rules, self.exclusions + other.exclusions)
