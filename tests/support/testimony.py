"""What a program of ``tests/programs`` says it did.  The format is told in ``testimony.h`` there."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


@dataclass(frozen=True, slots=True, order=True)
class Task:
    """A thread as it named itself: process id and thread id."""

    pid: int
    tid: int


@dataclass(frozen=True, slots=True)
class TestifiedHop:
    """One edge between two tasks.

    ``kind`` is a ``HopKind``; ``by`` is, for a message, the channel's type, otherwise how it was done
    (fork, vfork, thread, posix_spawn; exec; futex; a signal's name; wait).  ``bytes`` is what the one
    sending and the one receiving call have in common; 0 where nothing is carried.  ``exe`` is set on exec.
    """

    __test__: ClassVar[bool] = False  # no test, whatever pytest makes of the name
    kind: str
    by: str
    source: Task
    target: Task
    size: int
    exe: bytes


@dataclass(frozen=True, slots=True)
class Handover:
    """Work that one task gave another in memory, which was awake already: no system call shows it."""

    source: Task
    target: Task


@dataclass(frozen=True, slots=True)
class Frames:
    """The functions, innermost first, under which ``task`` sent its last message of the program so far."""

    task: Task
    functions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """What ``task`` is called (its comm) from here on."""

    task: Task
    comm: bytes


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the process ``pid`` was executed with."""

    pid: int
    argv: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What ``task`` may do from here on; ``capabilities`` is the effective set as a mask."""

    task: Task
    uid: int
    gid: int
    capabilities: int


Statement = TestifiedHop | Handover | Frames | Named | Arguments | Credentials


@dataclass(frozen=True, slots=True)
class Testimony:
    """Every statement of one run, in the order they were made."""

    __test__: ClassVar[bool] = False  # no test, whatever pytest makes of the name
    statements: tuple[Statement, ...]

    @property
    def hops(self) -> tuple[TestifiedHop, ...]:
        """The hops among the statements."""
        return tuple(s for s in self.statements if isinstance(s, TestifiedHop))

    def counts(self) -> Counter[str]:
        """How many hops of each kind."""
        return Counter(hop.kind for hop in self.hops)

    def tasks(self, root: int) -> frozenset[Task]:
        """The root process's first thread and every task that a hop began."""
        born = {hop.target for hop in self.hops if hop.kind in ("spawn", "exec")}
        return frozenset(born | {Task(root, root)})


def read_testimony(path: Path) -> Testimony:
    """Read the file a program testified to.  Raises ValueError with the line that is not a statement."""
    return Testimony(tuple(_statement(line) for line in path.read_bytes().splitlines()))


def _statement(line: bytes) -> Statement:
    word, *fields = line.split(b"\t")
    match word:
        case b"hop":
            return _hop(fields)
        case b"handover":
            return Handover(_task(fields[0:2]), _task(fields[2:4]))
        case b"frames":
            return Frames(_task(fields[:2]), tuple(_plain(field).decode() for field in fields[2:]))
        case b"name":
            return Named(_task(fields[:2]), _plain(fields[2]))
        case b"argv":
            return Arguments(int(fields[0]), tuple(_plain(field) for field in fields[1:]))
        case b"creds":
            uid, gid, capabilities = fields[2:]
            return Credentials(_task(fields[:2]), int(uid), int(gid), int(capabilities, 16))
    raise ValueError(f"not a statement: {line!r}")


def _hop(fields: list[bytes]) -> TestifiedHop:
    kind, by, *rest = fields
    exe = b"" if rest[5] == b"-" else _plain(rest[5])
    return TestifiedHop(kind.decode(), by.decode(), _task(rest[0:2]), _task(rest[2:4]), int(rest[4]), exe)


def _task(fields: list[bytes]) -> Task:
    return Task(int(fields[0]), int(fields[1]))


def _plain(field: bytes) -> bytes:
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), field)
