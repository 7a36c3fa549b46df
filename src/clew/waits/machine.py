"""The tasks of this machine and their descriptors, read once for one look."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

from clew.kernel import procfs
from clew.kernel.unix_diag import UnixSocket, unix_sockets
from clew.model.waits import WaitingTask

_ACCESS_MODE = 3
_CAN_READ, _CAN_WRITE = (os.O_RDONLY, os.O_RDWR), (os.O_WRONLY, os.O_RDWR)


@dataclass(frozen=True, slots=True)
class Holder:
    """A descriptor that a process has open."""

    pid: int
    fd: int


class Machine:
    """What /proc shows at one moment.  Processes that end meanwhile are just not there."""

    def __init__(self) -> None:
        self.tasks: dict[int, list[WaitingTask]] = {}
        self.parents: dict[int, int] = {}
        self.children: dict[int, list[int]] = defaultdict(list)
        for pid in procfs.pids():
            self._read(pid)

    def _read(self, pid: int) -> None:
        leader = procfs.stat(pid)
        if leader is None or leader.parent == _KTHREADD or pid == _KTHREADD:
            return
        found = [(tid, procfs.stat(pid, tid)) for tid in procfs.threads(pid)]
        tasks = [WaitingTask(pid, tid, one.comm, one.state, one.start_ns) for tid, one in found if one]
        if tasks:
            self.tasks[pid] = sorted(tasks, key=lambda task: task.tid)
            self.parents[pid] = leader.parent
            self.children[leader.parent].append(pid)

    def leader(self, pid: int) -> WaitingTask | None:
        """The process's main thread, or the first of its threads that is there."""
        tasks = self.tasks.get(pid)
        return tasks[0] if tasks else None

    def task(self, tid: int) -> WaitingTask | None:
        """The task of that number."""
        return self._by_tid.get(tid)

    @cached_property
    def _by_tid(self) -> dict[int, WaitingTask]:
        return {task.tid: task for tasks in self.tasks.values() for task in tasks}

    @cached_property
    def _descriptors(self) -> dict[bytes, list[Holder]]:
        """Every descriptor of every process that may be read, by what /proc/PID/fd says it is."""
        found: dict[bytes, list[Holder]] = defaultdict(list)
        self._hidden: set[int] = set()
        for pid in self.tasks:
            try:
                names = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 (twice as fast)
            except PermissionError:
                self._hidden.add(pid)
                continue
            except OSError:
                continue  # it has ended, and holds nothing
            for name in names:
                target = procfs.link(f"/proc/{pid}/fd/{name}")
                if target:
                    found[target].append(Holder(pid, int(name)))
        return found

    @property
    def hidden(self) -> set[int]:
        """Processes whose descriptors we may not see."""
        _ = self._descriptors
        return self._hidden

    def holders(self, target: bytes) -> list[Holder]:
        """Who holds what /proc/PID/fd calls ``target`` (``pipe:[123]``, a path)."""
        return self._descriptors.get(target, [])

    def targets(self, prefix: bytes) -> list[bytes]:
        """Everything that is held and begins so."""
        return [target for target in self._descriptors if target.startswith(prefix)]

    @cached_property
    def unix(self) -> dict[int, UnixSocket]:
        """The unix sockets of our network namespace by inode."""
        return unix_sockets()

    @cached_property
    def accepts_for(self) -> dict[int, int]:
        """Client's inode → inode of the listener that has not accepted it yet."""
        return {client: listener.inode for listener in self.unix.values() for client in listener.queue}


_KTHREADD = 2


def counts_as_we_do(pid: int) -> bool:
    """Whether the process is in our pid namespace, so that its numbers of tasks are ours."""
    return procfs.link(f"/proc/{pid}/ns/pid") == procfs.link("/proc/self/ns/pid")


def target(pid: int, tid: int, fd: int) -> bytes:
    """What descriptor ``fd`` of that task is, as /proc calls it; b"" if it is not open or may not be seen."""
    return procfs.link(f"/proc/{pid}/task/{tid}/fd/{fd}")


def info(pid: int, fd: int, tid: int = 0) -> dict[bytes, bytes]:
    """The fields of the descriptor's fdinfo that appear once (proc(5))."""
    path = f"/proc/{pid}/task/{tid}/fdinfo/{fd}" if tid else f"/proc/{pid}/fdinfo/{fd}"
    return procfs.fields(path)


def can(holder: Holder, read: bool) -> bool:
    """Whether the descriptor is open for reading (or writing)."""
    flags = info(holder.pid, holder.fd).get(b"flags", b"")
    return bool(flags) and int(flags, 8) & _ACCESS_MODE in (_CAN_READ if read else _CAN_WRITE)
