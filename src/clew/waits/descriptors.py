"""What a task waits for that reads, writes or polls a descriptor, and who can give it."""

from __future__ import annotations

import re
import stat as modes
from pathlib import Path

from clew.model.waits import Awaited, Ender, WaitKind
from clew.waits import sockets
from clew.waits.machine import Holder, Machine, can, info, target

_NUMBERED = re.compile(rb"(pipe|socket):\[(\d+)\]")
_PTMX = (b"/dev/ptmx", b"/dev/pts/ptmx")
_TIMERFD, _SIGNALFD, _EVENTFD, _PIDFD = (
    b"anon_inode:[timerfd]",
    b"anon_inode:[signalfd]",
    b"anon_inode:[eventfd]",
    b"anon_inode:[pidfd]",
)
_SEEN_TOO = "processes that are not ours to see may hold it too"


def awaited(machine: Machine, pid: int, tid: int, fd: int, wants: str) -> Awaited:
    """What a wait for ``wants`` ("data", "room", "a connection", "a lock") on descriptor ``fd`` waits on."""
    name = target(pid, tid, fd)
    numbered = _NUMBERED.fullmatch(name)
    if numbered and numbered[1] == b"socket":
        return sockets.awaited(machine, pid, int(numbered[2]), wants)
    if numbered:
        return _pipe(machine, WaitKind.PIPE, name, machine.holders(name), wants)
    if name.startswith(b"anon_inode:"):
        return _anonymous(machine, pid, fd, tid, name, wants)
    if not name:
        return Awaited(WaitKind.UNKNOWN, b"descriptor %d" % fd, wants, outside=True, why="it is not open now")
    return _file(machine, pid, tid, fd, name, wants)


def _pipe(machine: Machine, kind: WaitKind, name: bytes, holders: list[Holder], wants: str) -> Awaited:
    end = "reading" if wants == "room" else "writing"
    able = [holder for holder in holders if can(holder, read=wants == "room")]
    enders = {one.pid: Ender(one.pid, 0, f"has it open for {end} (fd {one.fd})") for one in able}
    outside, why = bool(machine.hidden), _SEEN_TOO if machine.hidden else ""
    if not enders and not outside:
        outside, why = True, f"nobody has it open for {end}; it may travel in a message"
    return Awaited(kind, name, wants, tuple(enders.values()), outside, why)


def _anonymous(machine: Machine, pid: int, fd: int, tid: int, name: bytes, wants: str) -> Awaited:
    fields = info(pid, fd, tid)
    if name == _TIMERFD:
        return Awaited(WaitKind.TIME, b"timerfd", "its time", outside=True, why="time ends it")
    if name == _SIGNALFD:
        return Awaited(WaitKind.SIGNAL, b"signalfd", "a signal", outside=True, why="anybody may send one")
    if name == _PIDFD and fields.get(b"Pid", b"").isdigit():
        ender = Ender(int(fields[b"Pid"]), 0, "is the process waited for")
        return Awaited(WaitKind.PROCESS, b"pidfd", "the end", (ender,))
    if name == _EVENTFD and b"eventfd-id" in fields:
        return _eventfd(machine, fields[b"eventfd-id"], wants)
    return Awaited(
        WaitKind.DEVICE, name.removeprefix(b"anon_inode:"), wants, outside=True, why="the kernel ends it"
    )


def _eventfd(machine: Machine, number: bytes, wants: str) -> Awaited:
    holders = [
        holder
        for holder in machine.holders(_EVENTFD)
        if info(holder.pid, holder.fd).get(b"eventfd-id") == number
    ]
    enders = {one.pid: Ender(one.pid, 0, f"has it open (fd {one.fd})") for one in holders}
    why = _SEEN_TOO if machine.hidden else ""
    return Awaited(
        WaitKind.EVENTFD, b"eventfd " + number, wants, tuple(enders.values()), bool(machine.hidden), why
    )


def _file(machine: Machine, pid: int, tid: int, fd: int, name: bytes, wants: str) -> Awaited:
    try:
        found = Path(f"/proc/{pid}/task/{tid}/fd/{fd}").stat()
    except OSError:
        return Awaited(WaitKind.DEVICE, name, wants, outside=True, why="it cannot be looked at")
    if modes.S_ISFIFO(found.st_mode):
        return _pipe(machine, WaitKind.FIFO, name, machine.holders(name), wants)
    if name.startswith(b"/dev/pts/") and name[9:].isdigit():
        return _terminal(machine, name)
    if name in _PTMX:
        return _pty_master(machine, pid, fd, name, wants)
    if name.startswith((b"/dev/tty", b"/dev/console")):
        return Awaited(WaitKind.TERMINAL, name, "input", outside=True, why="somebody who types")
    return Awaited(WaitKind.DEVICE, name, wants, outside=True, why="the device or file system ends it")


def _terminal(machine: Machine, name: bytes) -> Awaited:
    """A slave side: who holds the master writes what is typed (pts(4); fdinfo names the master's number)."""
    masters = [
        one
        for path in _PTMX
        for one in machine.holders(path)
        if info(one.pid, one.fd).get(b"tty-index") == name[9:]
    ]
    enders = {one.pid: Ender(one.pid, 0, f"is the terminal behind it (fd {one.fd})") for one in masters}
    outside = not enders or bool(machine.hidden)
    return Awaited(
        WaitKind.TERMINAL, name, "input", tuple(enders.values()), outside, "somebody who types" * outside
    )


def _pty_master(machine: Machine, pid: int, fd: int, name: bytes, wants: str) -> Awaited:
    index = info(pid, fd).get(b"tty-index", b"")
    slaves = machine.holders(b"/dev/pts/" + index) if index else []
    enders = {one.pid: Ender(one.pid, 0, f"runs in that terminal (fd {one.fd})") for one in slaves}
    outside = not enders or bool(machine.hidden)
    why = "no program has that terminal open" if not enders else _SEEN_TOO * outside
    return Awaited(WaitKind.TERMINAL, b"/dev/pts/" + index, wants, tuple(enders.values()), outside, why)
