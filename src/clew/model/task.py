"""Who does things: tasks, and the images (programs) their processes run."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TaskId:
    """One thread of one boot, never mistaken for a later one with the same number.

    ``pid`` is the thread group, ``tid`` the thread; ``start_ns`` its start on CLOCK_BOOTTIME, in
    nanoseconds (``task_struct.start_boottime``; field 22 of /proc/TID/stat is the same in ticks).
    """

    pid: int
    tid: int
    start_ns: int


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Inode numbers of the namespaces a process is in, as /proc/PID/ns shows them; 0 where unknown."""

    mnt: int = 0
    pid: int = 0
    net: int = 0
    user: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """The program a process runs between two execs.

    Paths and arguments are the bytes the kernel holds: they are escaped where they are shown, never
    here.  ``since_ns`` is when the image began, on the trace's clock (CLOCK_MONOTONIC); 0 when it was
    running before the recording.
    """

    exe: bytes
    argv: tuple[bytes, ...] = ()
    argv_truncated: bool = False
    cwd: bytes = b""
    uid: int = 0
    gid: int = 0
    since_ns: int = 0
    namespaces: Namespaces = field(default_factory=Namespaces)


@dataclass(frozen=True, slots=True)
class Party:
    """A task as it was at one moment: one end of a hop."""

    id: TaskId
    comm: bytes
    exe: bytes

    @property
    def pid(self) -> int:
        """The process (thread group) id."""
        return self.id.pid

    @property
    def tid(self) -> int:
        """The thread id."""
        return self.id.tid
