"""Whose a futex is: the owner of a mutex, the thread that is joined, or anybody who shares the memory."""

from __future__ import annotations

from clew.kernel import procfs
from clew.kernel.blocked import words
from clew.model.waits import Awaited, Ender, WaitingTask, WaitKind
from clew.waits.machine import Machine, counts_as_we_do

_COMMAND, _PRIVATE = 0x7F, 128
_WAIT, _LOCK_PI, _WAIT_BITSET, _WAIT_REQUEUE_PI, _LOCK_PI2 = 0, 6, 9, 11, 13
_TID, _WAITERS = 0x3FFFFFFF, 0x80000000  # include/uapi/linux/futex.h
# nptl/lowlevellock.h: 2 is "locked, and somebody waits"; nptl/bits/struct_mutex.h: lock, count, owner, …
_GLIBC_CONTENDED, _GLIBC_OWNER = 2, 2


def awaited(machine: Machine, task: WaitingTask, address: int, op: int) -> Awaited:
    """What the futex at ``address`` waits for, FUTEX_WAIT or another ``op`` (futex(2))."""
    command = op & _COMMAND
    seen = words(task.pid, address, 3) or words(task.pid, address, 1)
    name = b"futex at 0x%x" % address
    if not seen:
        return Awaited(WaitKind.FUTEX, name, "a wake-up", outside=True, why="its memory may not be read")
    word, owner = seen[0], seen[_GLIBC_OWNER] if len(seen) > _GLIBC_OWNER else 0
    if command in (_LOCK_PI, _LOCK_PI2, _WAIT_REQUEUE_PI) and word & _TID:
        return _owned(machine, task, address, word & _TID, "the futex word itself names the owner (futex(2))")
    if word & _WAITERS and _thread(machine, task, word & _TID):
        return _owned(machine, task, address, word & _TID, "the word of a robust mutex names the owner")
    if command == _WAIT and word == _GLIBC_CONTENDED and _thread(machine, task, owner):
        return _owned(machine, task, address, owner, "glibc's mutex names the owner behind its lock")
    joined = _joined(machine, task, word) if command in (_WAIT, _WAIT_BITSET) else None
    if joined is not None:
        return _join(joined)
    return _anybody(machine, task, address, bool(op & _PRIVATE))


def _thread(machine: Machine, waiter: WaitingTask, number: int) -> WaitingTask | None:
    """The thread that the waiter calls ``number``: its pid namespace may count otherwise than ours."""
    if not 0 < number <= _TID:
        return None
    if counts_as_we_do(waiter.pid):
        return machine.task(number)
    return next((task for task in machine.tasks.get(waiter.pid, ()) if _inner(task) == number), None)


def _inner(task: WaitingTask) -> int:
    numbers = procfs.status(task.tid).get(b"NSpid", b"0").split()
    return int(numbers[-1])


def _owned(machine: Machine, task: WaitingTask, address: int, owner: int, evidence: str) -> Awaited:
    found = _thread(machine, task, owner)
    name = b"mutex at 0x%x" % address
    if found is None:
        why = f"its owner, thread {owner}, is gone: nobody is left to unlock it"
        return Awaited(WaitKind.LOCK, name, "the lock", outside=True, why=why, evidence=evidence)
    return Awaited(
        WaitKind.LOCK, name, "the lock", (Ender(found.pid, found.tid, "owns it"),), evidence=evidence
    )


def _joined(machine: Machine, task: WaitingTask, word: int) -> WaitingTask | None:
    """The thread whose number the word is, in its control block, which the kernel clears at its end."""
    found = _thread(machine, task, word) if word > _GLIBC_CONTENDED else None
    return found if found is not None and found.pid == task.pid and found.tid != task.tid else None


def _join(found: WaitingTask) -> Awaited:
    ender = Ender(found.pid, found.tid, "is the thread that is joined")
    evidence = "the word holds that thread's number, as pthread_join(3) waits for it"
    return Awaited(WaitKind.THREAD, b"thread %d" % found.tid, "the end", (ender,), evidence=evidence)


def _anybody(machine: Machine, task: WaitingTask, address: int, private: bool) -> Awaited:
    """A condition variable, a semaphore, a musl mutex…: whoever shares the memory can wake it."""
    name = b"futex at 0x%x" % address
    shared = [] if private else _sharers(machine, task.pid, address)
    if shared is None:
        why = "its memory may be shared with processes that are not ours to see"
        return Awaited(
            WaitKind.FUTEX, name, "a wake-up", (Ender(task.pid, 0, "shares its memory"),), True, why
        )
    others = tuple(Ender(pid, 0, "shares its memory") for pid in {task.pid, *shared})
    return Awaited(WaitKind.FUTEX, name, "a wake-up", others)


def _sharers(machine: Machine, pid: int, address: int) -> list[int] | None:
    """Processes that map the same shared memory; None where not all could be looked at."""
    own = _mapping(pid, address)
    if own is None:
        return None
    shared, inode = own
    if not shared:
        return []
    found = []
    for other in machine.tasks:
        maps = procfs.read(f"/proc/{other}/maps")
        if maps is None and other in machine.hidden:
            return None
        if inode in (maps or b""):
            found.append(other)
    return found


def _mapping(pid: int, address: int) -> tuple[bool, bytes] | None:
    """Whether the memory at ``address`` is shared, and " device inode " as maps writes them."""
    for line in (procfs.read(f"/proc/{pid}/maps") or b"").splitlines():
        bounds, rights, _, device, inode = line.split(None, 5)[:5]
        low, _, high = bounds.partition(b"-")
        if int(low, 16) <= address < int(high, 16):
            return rights.endswith(b"s"), b" " + device + b" " + inode + b" "
    return None
