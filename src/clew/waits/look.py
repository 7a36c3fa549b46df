"""One look at who waits for whom."""

from __future__ import annotations

from collections.abc import Collection

from clew.kernel import procfs
from clew.kernel.blocked import blocked_call, wchan
from clew.model.waits import Awaited, Ender, Snapshot, Wait, WaitingTask, WaitKind
from clew.waits import calls
from clew.waits.machine import Machine
from clew.waits.rings import rings

_RUNNING, _STOPPED, _TRACED, _DISK, _DEAD = "R", "T", "t", "D", "ZX"


def look(pids: Collection[int] = ()) -> Snapshot:
    """Who waits for whom now.

    ``pids``: these processes, and whom they wait for, and so on; without any, every process that may be read.
    """
    machine = Machine()
    waits: dict[int, Wait | None] = {}
    todo = list(pids) or list(machine.tasks)
    seen: set[int] = set()
    while todo:
        pid = todo.pop()
        if pid in seen or pid not in machine.tasks:
            continue
        seen.add(pid)
        for task in machine.tasks[pid]:
            wait = waits[task.tid] = _wait(machine, task)
            if wait and pids:
                todo += [ender.pid for one in wait.on for ender in one.enders]
    found = [wait for wait in waits.values() if wait]
    runnable = frozenset(task.pid for pid in seen for task in machine.tasks[pid] if _goes_on(task, waits))
    leaders = {pid: leader for pid in machine.tasks if (leader := machine.leader(pid))}
    return Snapshot(tuple(found), tuple(rings(found, runnable)), leaders, len(machine.hidden), tuple(pids))


def _goes_on(task: WaitingTask, waits: dict[int, Wait | None]) -> bool:
    return waits.get(task.tid) is None and task.state not in _DEAD


def _wait(machine: Machine, task: WaitingTask) -> Wait | None:
    """What the task waits for; None if it runs or has ended."""
    if task.state in (_STOPPED, _TRACED):
        return _stopped(machine, task)
    if task.state == _RUNNING or task.state in _DEAD:
        return None
    call = blocked_call(task.pid, task.tid)
    if call is None:
        return _unreadable(machine, task)
    on = calls.awaited(machine, task, call)
    note = f"it sleeps in {sleeps}" if task.state == _DISK and (sleeps := wchan(task.pid, task.tid)) else ""
    return Wait(task, call.name, on, note)


def _stopped(machine: Machine, task: WaitingTask) -> Wait:
    tracer = int(procfs.status(task.tid).get(b"TracerPid", b"0"))
    if tracer:
        one = Awaited(WaitKind.TRACER, b"", "its tracer to continue it", (Ender(tracer, 0, "traces it"),))
    else:
        why = f"kill -CONT {task.pid} ends it"
        one = Awaited(WaitKind.STOPPED, b"", "SIGCONT", outside=True, why=why)
    call = blocked_call(task.pid, task.tid)
    return Wait(task, call.name if call else "", (one,))


def _unreadable(machine: Machine, task: WaitingTask) -> Wait | None:
    """Asleep, and the kernel does not say in what: another user's, or not in a system call."""
    now = procfs.stat(task.pid, task.tid)
    if now is None or now.state == _RUNNING:
        return None
    sleeps = wchan(task.pid, task.tid)
    hidden = procfs.read(f"/proc/{task.pid}/task/{task.tid}/syscall") is None
    why = (
        "another user's process: run clew as root to see what it waits for"
        if hidden
        else "the kernel ends it"
    )
    one = Awaited(WaitKind.UNKNOWN, b"", "something", outside=True, why=why)
    return Wait(task, "", (one,), f"it sleeps in {sleeps}" if sleeps else "")
