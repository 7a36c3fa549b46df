"""Locks on files: who waits, and whose the lock is (/proc/locks, proc(5))."""

from __future__ import annotations

from clew.kernel import procfs
from clew.model.waits import Awaited, Ender, WaitKind
from clew.waits.machine import Machine, target

_OPEN_FILE = -1  # the pid that the kernel prints for locks of an open file description


def awaited(machine: Machine, pid: int, tid: int, fd: int) -> Awaited:
    """Who holds the lock that this process, blocked in flock or fcntl, waits for on ``fd``."""
    name = target(pid, tid, fd) or b"descriptor %d" % fd
    owners = _owners_before(pid)
    if not owners:
        return Awaited(
            WaitKind.FILE_LOCK, name, "the lock", outside=True, why="/proc/locks does not tell whose it is"
        )
    enders = tuple(Ender(owner, 0, "took the lock") for owner in owners if owner in machine.tasks)
    gone = [owner for owner in owners if owner not in machine.tasks]
    if not gone:
        return Awaited(WaitKind.FILE_LOCK, name, "the lock", enders)
    # A flock belongs to the open file: a child that inherited it keeps it after its maker has ended.
    holders = tuple(
        Ender(one.pid, 0, f"has the file open (fd {one.fd})")
        for one in machine.holders(name)
        if one.pid != pid
    )
    why = "" if holders else "who took it has ended"
    return Awaited(WaitKind.FILE_LOCK, name, "the lock", enders + holders, not holders, why)


def _owners_before(pid: int) -> list[int]:
    """Owners of the locks that this process is blocked by: a line ``N: -> …`` stands below its lock's."""
    owner, found = 0, []
    for line in (procfs.read("/proc/locks") or b"").splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[1] == b"->":
            if int(fields[5]) == pid:
                found.append(owner)
        elif len(fields) > 4:
            owner = int(fields[4])
    return found
