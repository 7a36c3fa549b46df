"""From the system call a task sleeps in to what would end it."""

from __future__ import annotations

import struct
from collections.abc import Callable

from clew.kernel import procfs
from clew.kernel.blocked import BlockedCall, memory, words
from clew.model.waits import Awaited, Ender, WaitingTask, WaitKind
from clew.waits import descriptors, futexes, locks
from clew.waits.machine import Machine, counts_as_we_do, info, target

Answer = tuple[Awaited, ...]
_Asked = Callable[[Machine, WaitingTask, BlockedCall], Answer]

MOST_DESCRIPTORS = 64
"""Of one poll or epoll that are looked at; the others are counted."""
_POLLIN, _POLLOUT = 1, 4
_POLLFD = struct.Struct("=ihh")
_CLONE_VFORK = 0x4000
_P_PID, _P_PIDFD = 1, 3
_SETLKW, _OFD_SETLKW = 7, 38
_FUTEX_WAIT, _FUTEX2_PRIVATE = 0, 128
_INT_MAX = 0x7FFFFFFF


def _outside(kind: WaitKind, name: bytes, wants: str, why: str) -> Answer:
    return (Awaited(kind, name, wants, outside=True, why=why),)


_TIME = _outside(WaitKind.TIME, b"", "time to pass", "time ends it")


def awaited(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    """What would end ``call``: any one of the answers.  Of a call that is not known: one that says so."""
    ask = _CALLS.get(call.name)
    if ask is None:
        return _outside(WaitKind.UNKNOWN, b"", "something", "clew does not know what this call waits for")
    return ask(machine, task, call)


def _descriptor(position: int, wants: str) -> _Asked:
    def ask(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
        fd = call.args[position] & _INT_MAX
        return (descriptors.awaited(machine, task.pid, task.tid, fd, wants),)

    return ask


def _splice(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    source, destination = (0, 2) if call.name == "splice" else (1, 0) if call.name == "sendfile" else (0, 1)
    return (
        descriptors.awaited(machine, task.pid, task.tid, call.args[source] & _INT_MAX, "data"),
        descriptors.awaited(machine, task.pid, task.tid, call.args[destination] & _INT_MAX, "room"),
    )


def _poll(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    count = min(call.args[1], 1 << 16)
    data = memory(task.pid, call.args[0], _POLLFD.size * count)
    wanted = [
        (fd, events)
        for fd, events, _ in _POLLFD.iter_unpack(data[: len(data) // _POLLFD.size * _POLLFD.size])
        if fd >= 0
    ]
    timed = _milliseconds(call.args[2]) if call.name == "poll" else bool(call.args[2])
    return _ready(machine, task, wanted, timed)


def _milliseconds(timeout: int) -> bool:
    """Whether poll's and epoll_wait's timeout, an int of which only 32 bits count, ends the wait."""
    return not timeout & 0x80000000


def _select(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    width = min(call.args[0] & _INT_MAX, 1 << 16)
    wanted = []
    for pointer, events in ((call.args[1], _POLLIN), (call.args[2], _POLLOUT)):
        if pointer:
            bits = int.from_bytes(memory(task.pid, pointer, (width + 7) // 8), "little")
            wanted += [(fd, events) for fd in range(width) if bits >> fd & 1]
    return _ready(machine, task, wanted, bool(call.args[4]))


def _epoll(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    fd = call.args[0] & _INT_MAX
    said = procfs.read(f"/proc/{task.pid}/task/{task.tid}/fdinfo/{fd}") or b""
    wanted = []
    for line in said.splitlines():
        # "tfd: 5 events: 19 data: 5  pos:0 ino:1a sdev:9" (fs/eventpoll.c)
        fields = line.split()
        if len(fields) > 3 and fields[0] == b"tfd:":
            wanted.append((int(fields[1]), int(fields[3], 16)))
    timed = bool(call.args[3]) if call.name == "epoll_pwait2" else _milliseconds(call.args[3])
    return _ready(machine, task, wanted, timed)


def _ready(machine: Machine, task: WaitingTask, wanted: list[tuple[int, int]], timed: bool) -> Answer:
    """Any of several descriptors, or the time limit."""
    found = []
    for fd, events in wanted[:MOST_DESCRIPTORS]:
        if events & _POLLIN or not events & _POLLOUT:
            found.append(descriptors.awaited(machine, task.pid, task.tid, fd, "data"))
        if events & _POLLOUT:
            found.append(descriptors.awaited(machine, task.pid, task.tid, fd, "room"))
    if len(wanted) > MOST_DESCRIPTORS:
        name = b"%d more descriptors" % (len(wanted) - MOST_DESCRIPTORS)
        found += _outside(WaitKind.UNKNOWN, name, "data", "they were not looked at")
    if timed:
        found += _outside(WaitKind.TIME, b"", "its time limit", "time ends it")
    return tuple(found) or _outside(WaitKind.SIGNAL, b"", "a signal", "it waits on no descriptor and no time")


def _futex(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    found: Answer = (futexes.awaited(machine, task, call.args[0], call.args[1]),)
    timed = bool(call.args[3])
    return found + _outside(WaitKind.TIME, b"", "its time limit", "time ends it") * timed


def _futex2(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    found: Answer = (
        futexes.awaited(machine, task, call.args[0], _FUTEX_WAIT | call.args[3] & _FUTEX2_PRIVATE),
    )
    return found + _outside(WaitKind.TIME, b"", "its time limit", "time ends it") * bool(call.args[4])


def _futexes(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    """futex_waitv(2): an array of {u64 value, u64 address, u32 flags, u32 reserved}."""
    count = min(call.args[1], 128)
    found: list[Awaited] = []
    for at in range(count):
        one = words(task.pid, call.args[0] + 24 * at, 6)
        if one:
            address, flags = one[2] | one[3] << 32, one[4]
            found.append(futexes.awaited(machine, task, address, _FUTEX_WAIT | flags & _FUTEX2_PRIVATE))
    if call.args[3]:
        found += _outside(WaitKind.TIME, b"", "its time limit", "time ends it")
    return tuple(found) or _outside(WaitKind.FUTEX, b"", "a wake-up", "its memory may not be read")


def _child(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    wanted = _children(machine, task, call)
    if not wanted:
        return _outside(WaitKind.CHILD, b"", "the end of a child", "no such child was seen")
    # A zombie's end is there to be collected: nobody is waited for.
    name = b"child %d" % wanted[0] if len(wanted) == 1 else b"any of %d children" % len(wanted)
    enders = tuple(Ender(pid, 0, "is the child waited for") for pid in wanted)
    return (Awaited(WaitKind.CHILD, name, "the end", enders),)


def _children(machine: Machine, task: WaitingTask, call: BlockedCall) -> list[int]:
    children = machine.children.get(task.pid, [])
    if call.name == "waitid":
        if call.args[0] == _P_PID:
            return _numbered(children, task, call.args[1])
        if call.args[0] == _P_PIDFD:
            said = info(task.pid, call.args[1]).get(b"Pid", b"")
            return [int(said)] if said.isdigit() else []
        return list(children)
    wanted = call.args[0] & 0xFFFFFFFF
    return _numbered(children, task, wanted) if 0 < wanted < 0x80000000 else list(children)


def _numbered(children: list[int], task: WaitingTask, number: int) -> list[int]:
    """The child that the task knows as ``number``: its pid namespace may count otherwise than ours."""
    if counts_as_we_do(task.pid):
        return [number] if number in children else []
    inner = {pid: procfs.status(pid).get(b"NSpid", b"0").split() for pid in children}
    return [pid for pid, numbers in inner.items() if str(number).encode() in numbers[1:]]


def _birth(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    """vfork(2): the parent waits until the child execs or exits."""
    children = machine.children.get(task.pid, [])
    if not children:
        return _outside(WaitKind.CHILD, b"", "the exec or end of the child", "no such child was seen")
    newest = max(children, key=lambda pid: machine.tasks[pid][0].start_ns)
    ender = Ender(newest, 0, "is the vfork child")
    return (Awaited(WaitKind.CHILD, b"child %d" % newest, "the exec or end", (ender,)),)


def _flock(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    return (locks.awaited(machine, task.pid, task.tid, call.args[0] & _INT_MAX),)


def _fcntl(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    if call.args[1] in (_SETLKW, _OFD_SETLKW):
        return _flock(machine, task, call)
    return _outside(WaitKind.UNKNOWN, b"", "something", "clew does not know what this call waits for")


def _open(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    pointer = call.args[0] if call.name == "open" else call.args[1]
    name = memory(task.pid, pointer, 4096).partition(b"\0")[0]
    why = "another process must open the other end of the FIFO, or a device must answer"
    return _outside(WaitKind.FIFO, name, "its other end to be opened", why)


def _system_v(kind: WaitKind, name: str, wants: str) -> _Asked:
    def ask(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
        shown = f"{name} {call.args[0] & _INT_MAX}".encode()
        return _outside(kind, shown, wants, "the kernel does not tell who uses it")

    return ask


def _message_queue(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    """mqueue(7): a descriptor of the mqueue file system, so its holders are known."""
    name = target(task.pid, task.tid, call.args[0] & _INT_MAX)
    wants = "room" if call.name == "mq_timedsend" else "a message"
    enders = {one.pid: Ender(one.pid, 0, f"has it open (fd {one.fd})") for one in machine.holders(name)}
    outside = bool(machine.hidden) or set(enders) == {task.pid}
    why = "any process may open it by its name" if outside else ""
    found: Answer = (Awaited(WaitKind.QUEUE, name, wants, tuple(enders.values()), outside, why),)
    return found + _outside(WaitKind.TIME, b"", "its time limit", "time ends it") * bool(call.args[4])


def _signal(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    return _outside(WaitKind.SIGNAL, b"", "a signal", "anybody may send one")


def _time(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    return _TIME


def _completion(machine: Machine, task: WaitingTask, call: BlockedCall) -> Answer:
    return _outside(WaitKind.DEVICE, b"", "an operation's completion", "the kernel ends it")


def _each(names: str, ask: _Asked) -> dict[str, _Asked]:
    return dict.fromkeys(names.split(), ask)


_CALLS: dict[str, _Asked] = {
    **_each("read readv pread64 preadv preadv2", _descriptor(0, "data")),
    **_each("recvfrom recvmsg recvmmsg", _descriptor(0, "data")),
    **_each("write writev pwrite64 pwritev pwritev2 vmsplice", _descriptor(0, "room")),
    **_each("sendto sendmsg sendmmsg", _descriptor(0, "room")),
    **_each("accept accept4", _descriptor(0, "a connection")),
    **_each("splice tee sendfile", _splice),
    **_each("poll ppoll", _poll),
    **_each("select pselect6", _select),
    **_each("epoll_wait epoll_pwait epoll_pwait2", _epoll),
    **_each("wait4 waitid", _child),
    **_each("vfork clone clone3", _birth),
    **_each("open openat openat2", _open),
    **_each("pause rt_sigsuspend rt_sigtimedwait", _signal),
    **_each("nanosleep clock_nanosleep", _time),
    **_each("mq_timedsend mq_timedreceive", _message_queue),
    **_each("io_uring_enter io_getevents io_pgetevents", _completion),
    **_each("fsync fdatasync sync syncfs sync_file_range", _completion),
    "connect": _descriptor(0, "the connection to be accepted"),
    "futex": _futex,
    "futex_wait": _futex2,
    "futex_waitv": _futexes,
    "flock": _flock,
    "fcntl": _fcntl,
    "msgrcv": _system_v(WaitKind.QUEUE, "SysV message queue", "a message"),
    "msgsnd": _system_v(WaitKind.QUEUE, "SysV message queue", "room"),
    "semop": _system_v(WaitKind.SEMAPHORE, "SysV semaphore set", "its count"),
    "semtimedop": _system_v(WaitKind.SEMAPHORE, "SysV semaphore set", "its count"),
}
