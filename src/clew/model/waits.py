"""Who waits for whom at one moment: tasks, what each waits on, and who can end that."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class WaitKind(StrEnum):
    """What a task waits on."""

    PIPE = "pipe"
    FIFO = "fifo"
    UNIX = "unix"
    TCP = "tcp"
    UDP = "udp"
    SOCKET = "socket"
    EVENTFD = "eventfd"
    TERMINAL = "terminal"
    LOCK = "lock"
    FUTEX = "futex"
    THREAD = "thread"
    FILE_LOCK = "file-lock"
    CHILD = "child"
    PROCESS = "process"
    TRACER = "tracer"
    STOPPED = "stopped"
    SIGNAL = "signal"
    TIME = "time"
    QUEUE = "queue"
    SEMAPHORE = "semaphore"
    DEVICE = "device"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class WaitingTask:
    """A task as it was when it was looked at.  ``state`` is the letter of proc(5).

    ``start_ns`` (CLOCK_BOOTTIME) tells it from a later one of the same number.
    """

    pid: int
    tid: int
    comm: bytes
    state: str
    start_ns: int


@dataclass(frozen=True, slots=True)
class Ender:
    """Who can end a wait: a process (``tid`` 0: any thread of it) or one thread.  ``how``: by what it can."""

    pid: int
    tid: int = 0
    how: str = ""


@dataclass(frozen=True, slots=True)
class Awaited:
    """One thing a task waits on.

    ``name`` is what a person knows it by (it may come from the program); ``wants`` says what must happen
    to it.  ``enders`` are the tasks that can do that.  ``outside``: something else can too, which is no
    task that was looked at (time, the network, a person, a process that may not be read), as ``why`` says.
    ``evidence`` says from what the enders are known where the kernel itself does not tell.
    """

    kind: WaitKind
    name: bytes
    wants: str
    enders: tuple[Ender, ...] = ()
    outside: bool = False
    why: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """A blocked task: the system call it is in ("" if that is not known), and what would end it.

    Any one of ``on`` ends it.
    """

    task: WaitingTask
    call: str
    on: tuple[Awaited, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ring:
    """Tasks that wait for each other in a circle.

    ``certain``: nobody outside the tasks that wait here can end it, as far as everybody who could was
    looked at.  Otherwise each waits for the next, but somebody else could help.
    """

    waits: tuple[Wait, ...]
    through: tuple[Awaited, ...]
    """``through[i]`` is what ``waits[i]`` waits on that the next one (the first after the last) can end."""
    certain: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that was found.  ``rings`` come first in every view; ``hidden`` counts what we may not read."""

    waits: tuple[Wait, ...]
    rings: tuple[Ring, ...]
    processes: dict[int, WaitingTask] = field(default_factory=dict)
    hidden: int = 0
    asked: tuple[int, ...] = ()
