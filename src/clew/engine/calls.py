"""The system calls that are recorded, each described once: what its arguments mean, and what its record is.

Both engines read calls by this table, which ``clew.engine.described`` hands to C.  Another call is another
name in a line here; one of a new kind is a line, a ``SyscallClass`` and a function in each engine for what is
new in it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from clew.kernel.syscalls import number_of
from clew.model.event import EventKind

TABLE_SIZE = 512


class SyscallClass(IntEnum):
    """What an engine does for a call, besides reading its arguments as its line says."""

    NONE = 0
    DATA = 1  # moves bytes or a message through one descriptor
    MESSAGES = 2  # several messages: the result counts them
    PAIR = 3  # takes from one descriptor and puts into another: two records
    TEE = 4  # the same, and what it takes stays
    WAIT = 5
    POLL = 6  # waits, each with its own way to say what is ready
    SELECT = 7
    EPOLL = 8
    ACCEPT = 9  # the record is of the socket it made
    CONNECT = 10  # the endpoint is looked at when it returned
    FUTEX = 11
    WAIT_CHILD = 12
    CRED = 13
    EXEC = 14  # recorded if it failed: a success is a fact of its task
    CLONE = 15
    CALL = 16  # no record of its own: its stack serves the signal it sends
    EPOLL_CTL = 17
    TIMER_SET = 18
    OPEN = 19  # recorded if another task woke it: a FIFO's other end came
    # From here on: not recorded, but the tracer's knowledge changes.
    MMAP = 64
    RENAME = 65
    ADDRESS = 66
    PTRACE = 67


@dataclass(frozen=True, slots=True)
class Shape:
    """How a call's registers are read: each number is an argument, counted from 1; 0: there is none."""

    syscall_class: SyscallClass
    kind: EventKind
    fd: int = 0
    into: int = 0
    flags: int = 0
    address: int = 0
    length: int = 0
    header: int = 0

    def packed(self) -> bytes:
        """The bytes of C's ``struct clew_shape``, whose fields are ``SHAPE_FIELDS``."""
        return struct.pack("8B", *(getattr(self, name) for name in SHAPE_FIELDS))


SHAPE_FIELDS = ("syscall_class", "kind", "fd", "into", "flags", "address", "length", "header")
NOTHING = Shape(SyscallClass.NONE, EventKind.NONE)

_K, _C = EventKind, SyscallClass
_CALLS: tuple[tuple[str, Shape], ...] = (
    ("write writev pwrite64 pwritev pwritev2 vmsplice", Shape(_C.DATA, _K.SEND, fd=1)),
    ("read readv pread64 preadv preadv2", Shape(_C.DATA, _K.RECV, fd=1)),
    ("sendto", Shape(_C.DATA, _K.SEND, fd=1, flags=4, address=5, length=6)),
    ("recvfrom", Shape(_C.DATA, _K.RECV, fd=1, flags=4, address=5)),
    ("sendmsg", Shape(_C.DATA, _K.SEND, fd=1, flags=3, header=2)),
    ("recvmsg", Shape(_C.DATA, _K.RECV, fd=1, flags=3, header=2)),
    ("sendmmsg", Shape(_C.MESSAGES, _K.SEND, fd=1, flags=4, header=2)),
    ("recvmmsg", Shape(_C.MESSAGES, _K.RECV, fd=1, flags=4, header=2)),
    ("splice", Shape(_C.PAIR, _K.RECV, fd=1, into=3)),
    ("sendfile", Shape(_C.PAIR, _K.RECV, fd=2, into=1)),
    ("tee", Shape(_C.TEE, _K.RECV, fd=1, into=2)),
    ("pause rt_sigsuspend rt_sigtimedwait", Shape(_C.WAIT, _K.WAIT)),
    ("mq_timedreceive mq_timedsend msgrcv msgsnd semop semtimedop", Shape(_C.WAIT, _K.WAIT)),
    ("poll ppoll", Shape(_C.POLL, _K.WAIT)),
    ("select pselect6", Shape(_C.SELECT, _K.WAIT)),
    ("epoll_wait epoll_pwait epoll_pwait2", Shape(_C.EPOLL, _K.WAIT, fd=1)),
    ("accept accept4", Shape(_C.ACCEPT, _K.WAIT, fd=1)),
    ("connect", Shape(_C.CONNECT, _K.CONNECT, fd=1)),
    ("futex futex_wait futex_wake futex_waitv futex_requeue", Shape(_C.FUTEX, _K.FUTEX_WAKE)),
    ("wait4 waitid", Shape(_C.WAIT_CHILD, _K.WAIT_CHILD)),
    (
        "setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capset",
        Shape(_C.CRED, _K.CRED),
    ),
    ("execve execveat", Shape(_C.EXEC, _K.EXEC_CALL)),
    ("clone clone3 fork vfork", Shape(_C.CLONE, _K.CLONE)),
    ("kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal", Shape(_C.CALL, _K.NONE)),
    ("epoll_ctl", Shape(_C.EPOLL_CTL, _K.ARM, fd=3)),
    ("timerfd_settime", Shape(_C.TIMER_SET, _K.ARM, fd=1)),
    ("open openat openat2 creat", Shape(_C.OPEN, _K.WAIT)),
)

_OF_THE_TRACER: tuple[tuple[str, Shape], ...] = (
    ("mmap", Shape(_C.MMAP, _K.NONE)),
    ("prctl", Shape(_C.RENAME, _K.NONE)),
    ("bind listen", Shape(_C.ADDRESS, _K.NONE, fd=1)),
    ("ptrace", Shape(_C.PTRACE, _K.NONE)),
)

# A stop for nothing: which open was woken is known to the kernel only.
_NOT_BY_THE_TRACER = frozenset({_C.OPEN})


def recorded() -> dict[int, Shape]:
    """Number of each recorded system call of this machine → how it is read."""
    return _numbered(_CALLS)


def kernel_table() -> bytes:
    """``struct clew_shape`` of each system call number, for the ``bpf`` engine."""
    return _table(recorded())


def tracer_table() -> bytes:
    """The same for the ``ptrace`` engine: what it can tell, and the calls that change what it knows."""
    told = {nr: s for nr, s in recorded().items() if s.syscall_class not in _NOT_BY_THE_TRACER}
    return _table(told | _numbered(_OF_THE_TRACER))


def _numbered(calls: tuple[tuple[str, Shape], ...]) -> dict[int, Shape]:
    numbers = ((number_of(name), shape) for names, shape in calls for name in names.split())
    return {nr: shape for nr, shape in numbers if nr is not None}


def _table(shapes: dict[int, Shape]) -> bytes:
    return b"".join(shapes.get(nr, NOTHING).packed() for nr in range(TABLE_SIZE))
