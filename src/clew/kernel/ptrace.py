"""ptrace(2) and the waits that belong to it, as typed calls.  Whom to trace, and why, is decided above.

A tracer is a thread: every call on a tracee must come from the thread that seized it.  ``seize`` is used
throughout, never PTRACE_ATTACH: it sends no SIGSTOP and lets a tracee stay in a group-stop (``listen``).

Errors: TaskGone where the kernel says ESRCH (the task ended, or is not stopped for us), PermissionMissing
for EPERM, EngineError for the rest.
"""

from __future__ import annotations

import ctypes as C
import errno
import os
import signal
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from clew.errors import EngineError, PermissionMissing, TaskGone

_CONT, _DETACH, _SYSCALL, _SINGLESTEP = 7, 17, 24, 9
_GETREGS = 12
_GETEVENTMSG, _GETSIGINFO, _SETSIGINFO = 0x4201, 0x4202, 0x4203
_GETREGSET, _SETREGSET = 0x4204, 0x4205
_SEIZE, _INTERRUPT, _LISTEN = 0x4206, 0x4207, 0x4208
_GETSIGMASK, _SETSIGMASK = 0x420A, 0x420B
_GET_SYSCALL_INFO = 0x420E
_NT_PRSTATUS = 1

WALL: Final = 0x40000000
"""__WALL of waitpid(2): threads too, not only children that end with SIGCHLD."""

SYSCALL_STOP: Final = signal.SIGTRAP | 0x80
"""What WSTOPSIG is at a system call's stop with Option.TRACESYSGOOD."""


class Option(IntFlag):
    """PTRACE_O_*, for ``seize``."""

    TRACESYSGOOD = 1
    TRACEFORK = 1 << 1
    TRACEVFORK = 1 << 2
    TRACECLONE = 1 << 3
    TRACEEXEC = 1 << 4
    TRACEEXIT = 1 << 6


NO_OPTIONS: Final = Option(0)


class Event(IntEnum):
    """PTRACE_EVENT_*: ``status >> 16`` of a stop.  NONE: a signal, or a system call."""

    NONE = 0
    FORK = 1
    VFORK = 2
    CLONE = 3
    EXEC = 4
    VFORK_DONE = 5
    EXIT = 6
    SECCOMP = 7
    STOP = 128


class SyscallStop(IntEnum):
    """What a ``SyscallInfo`` is about."""

    NONE = 0
    ENTRY = 1
    EXIT = 2
    SECCOMP = 3


_REGISTERS = """
r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss
fs_base gs_base ds es fs gs
"""


class Registers(C.Structure):
    """``struct user_regs_struct`` of x86-64."""

    _fields_ = tuple((name, C.c_uint64) for name in _REGISTERS.split())

    def __getattr__(self, name: str) -> int:  # the fields, for the type checker
        raise AttributeError(name)

    @property
    def pt_regs(self) -> bytes:
        """The same as ``struct pt_regs``: the first 168 bytes, as StackSample holds them."""
        return bytes(self)[:168]


class _Iovec(C.Structure):
    _fields_ = (("base", C.c_void_p), ("size", C.c_size_t))


class _SyscallInfo(C.Structure):
    """``struct ptrace_syscall_info``, as it is at an entry."""

    _fields_ = (
        ("op", C.c_uint8),
        ("pad", C.c_uint8 * 3),
        ("arch", C.c_uint32),
        ("instruction_pointer", C.c_uint64),
        ("stack_pointer", C.c_uint64),
        ("nr", C.c_uint64),
        ("args", C.c_uint64 * 6),
        ("ret_data", C.c_uint32),
    )


@dataclass(frozen=True, slots=True)
class SyscallInfo:
    """PTRACE_GET_SYSCALL_INFO: ``number`` and ``args`` are set at ENTRY."""

    stop: SyscallStop
    ip: int
    sp: int
    number: int = -1
    args: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """One answer of waitpid(2): ``status`` as it gave it."""

    tid: int
    status: int

    @property
    def stopped(self) -> bool:
        """Whether it stopped, rather than ended."""
        return os.WIFSTOPPED(self.status)

    @property
    def signal(self) -> int:
        """The signal of the stop, or the one that ended it; 0 if it exited."""
        if os.WIFSTOPPED(self.status):
            return os.WSTOPSIG(self.status)
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0

    @property
    def event(self) -> int:
        """``Event`` of the stop; NONE for signals and system calls."""
        return self.status >> 16 if self.stopped else 0

    @property
    def group_stopped(self) -> bool:
        """A group-stop of a seized task (ptrace(2)): answer with ``listen`` to leave it stopped."""
        return self.event == Event.STOP and self.signal in _STOP_SIGNALS

    @property
    def exit_code(self) -> int | None:
        """The exit status; None if it has not exited."""
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None


_SYS_KCMP = {"x86_64": 312, "aarch64": 272}
_SYS_TGKILL = {"x86_64": 234, "aarch64": 131}
_KCMP_VM, _PR_SET_PTRACER = 1, 0x59616D61
_STOP_SIGNALS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

_libc = C.CDLL(None, use_errno=True)
_ptrace = _libc.ptrace
_ptrace.argtypes = [C.c_long, C.c_long, C.c_void_p, C.c_void_p]
_ptrace.restype = C.c_long
_process_vm_readv = _libc.process_vm_readv
_process_vm_readv.argtypes = [C.c_long, C.c_void_p, C.c_ulong, C.c_void_p, C.c_ulong, C.c_ulong]
_process_vm_readv.restype = C.c_ssize_t


def seize(tid: int, options: Option = NO_OPTIONS) -> None:
    """PTRACE_SEIZE: become its tracer without stopping it.

    PermissionMissing if it is traced already (EPERM; ``tracer_of`` says by whom), or not ours to trace.
    """
    _call(_SEIZE, tid, None, int(options), "trace")


def interrupt(tid: int) -> None:
    """PTRACE_INTERRUPT: make it stop; the stop is reported by ``wait`` as Event.STOP."""
    _call(_INTERRUPT, tid, None, None, "interrupt")


def listen(tid: int) -> None:
    """PTRACE_LISTEN: leave it in its group-stop, but report when SIGCONT ends that."""
    _call(_LISTEN, tid, None, None, "listen to")


def cont(tid: int, signum: int = 0) -> None:
    """PTRACE_CONT: let it run, delivering ``signum``."""
    _call(_CONT, tid, None, signum, "continue")


def syscall(tid: int, signum: int = 0) -> None:
    """PTRACE_SYSCALL: let it run to its next system call's entry or exit."""
    _call(_SYSCALL, tid, None, signum, "continue")


def step(tid: int, signum: int = 0) -> None:
    """PTRACE_SINGLESTEP: let it run one instruction."""
    _call(_SINGLESTEP, tid, None, signum, "step")


def detach(tid: int, signum: int = 0) -> None:
    """PTRACE_DETACH: let it go, delivering ``signum``.  In a group-stop of its process it stays stopped."""
    _call(_DETACH, tid, None, signum, "detach from")


def event_message(tid: int) -> int:
    """PTRACE_GETEVENTMSG: the new tid of a fork, vfork or clone; the former tid of an exec; a wait status."""
    value = C.c_ulong()
    _call(_GETEVENTMSG, tid, None, C.byref(value), "ask")
    return value.value


def signal_info(tid: int) -> tuple[int, int, int]:
    """PTRACE_GETSIGINFO: (si_signo, si_code, si_pid).  EngineError(EINVAL) in a group-stop."""
    buffer = (C.c_int * 32)()
    _call(_GETSIGINFO, tid, None, buffer, "ask")
    return buffer[0], buffer[2], buffer[4]


def siginfo(tid: int) -> bytes:
    """PTRACE_GETSIGINFO: the whole ``siginfo_t``."""
    buffer = (C.c_char * 128)()
    _call(_GETSIGINFO, tid, None, buffer, "ask")
    return bytes(buffer)


def set_siginfo(tid: int, info: bytes) -> None:
    """PTRACE_SETSIGINFO: what the handler will be told of the signal that is delivered at this stop."""
    _call(_SETSIGINFO, tid, None, C.create_string_buffer(info, 128), "write to")


def send_signal(pid: int, tid: int, signum: int) -> None:
    """tgkill(2): a signal for one thread of another process."""
    if _libc.syscall(C.c_long(_SYS_TGKILL[os.uname().machine]), pid, tid, signum) < 0:
        raise _error(C.get_errno(), tid, "send a signal to")


def get_registers(tid: int) -> Registers:
    """The general registers of a stopped x86-64 task (PTRACE_GETREGSET, NT_PRSTATUS).

    EngineError for a 32-bit task: its set is of another size.
    """
    registers = Registers()
    vector = _Iovec(C.addressof(registers), C.sizeof(registers))
    _call(_GETREGSET, tid, _NT_PRSTATUS, C.byref(vector), "read the registers of")
    if vector.size != C.sizeof(registers):
        raise EngineError(f"Task {tid} runs 32-bit code.", "clew reads the registers of 64-bit code only.")
    return registers


def native_registers(tid: int) -> Registers:
    """As ``get_registers``, of a 32-bit task too: widened (PTRACE_GETREGS)."""
    registers = Registers()
    _call(_GETREGS, tid, None, C.byref(registers), "read the registers of")
    return registers


def set_registers(tid: int, registers: Registers) -> None:
    """Write the general registers of a stopped task."""
    vector = _Iovec(C.addressof(registers), C.sizeof(registers))
    _call(_SETREGSET, tid, _NT_PRSTATUS, C.byref(vector), "write the registers of")


def get_signal_mask(tid: int) -> int:
    """The blocked signals of a stopped task: bit N-1 is signal N."""
    mask = C.c_uint64()
    _call(_GETSIGMASK, tid, 8, C.byref(mask), "ask")
    return mask.value


def set_signal_mask(tid: int, mask: int) -> None:
    """Replace the blocked signals of a stopped task."""
    _call(_SETSIGMASK, tid, 8, C.byref(C.c_uint64(mask)), "set the signals of")


def syscall_info(tid: int) -> SyscallInfo:
    """PTRACE_GET_SYSCALL_INFO (Linux 5.3) of a task at any ptrace stop."""
    raw = _SyscallInfo()
    _call(_GET_SYSCALL_INFO, tid, C.sizeof(raw), C.byref(raw), "ask")
    where = (SyscallStop(raw.op), raw.instruction_pointer, raw.stack_pointer)
    return (
        SyscallInfo(*where, raw.nr, tuple(raw.args)) if raw.op == SyscallStop.ENTRY else SyscallInfo(*where)
    )


def read_memory(pid: int, address: int, size: int) -> bytes:
    """Up to ``size`` bytes of another process (process_vm_readv(2)); fewer where the mapping ends.

    TaskGone and PermissionMissing as everywhere; EngineError (EFAULT) if nothing is readable there.
    """
    buffer = C.create_string_buffer(size)
    mine = _Iovec(C.addressof(buffer), size)
    theirs = _Iovec(address, size)
    got = _process_vm_readv(pid, C.byref(mine), 1, C.byref(theirs), 1, 0)
    if got < 0:
        raise _error(C.get_errno(), pid, "read the memory of")
    return buffer.raw[:got]


def share_memory(one: int, other: int) -> bool | None:
    """Whether two tasks have one address space (kcmp(2)); None where the kernel does not say."""
    found = int(_libc.syscall(C.c_long(_SYS_KCMP[os.uname().machine]), one, other, _KCMP_VM, 0, 0))
    return None if found < 0 else found == 0


def let_trace(tracer: int) -> None:
    """PR_SET_PTRACER: Yama's level 1 then lets process ``tracer`` trace this one.  Nothing without Yama."""
    _libc.prctl(_PR_SET_PTRACER, C.c_ulong(tracer), 0, 0, 0)


def wait(tid: int = -1, *, hang: bool = True) -> Wait | None:
    """waitpid(2) with __WALL, of one task or (-1) any; interrupted waits go on (PEP 475).

    None if ``hang`` is false and nothing is to be told, or if there is nobody to wait for (ECHILD).
    """
    try:
        found, status = os.waitpid(tid, WALL if hang else WALL | os.WNOHANG)
    except ChildProcessError:
        return None
    return Wait(found, status) if found else None


def has_ended(tid: int) -> bool:
    """Whether a tracee has ended; its status stays for ``wait``.  True also if there is no such tracee.

    Of a tracee a stop is told too, asked for or not (wait_task_stopped(), kernel/exit.c).
    """
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT | WALL
    try:
        found = os.waitid(os.P_PID, tid, options)
        return found is not None and found.si_code in (os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED)
    except ChildProcessError:
        return True


def _call(request: int, tid: int, address: int | None, data: object, doing: str) -> None:
    if _ptrace(request, tid, address, data) < 0:
        raise _error(C.get_errno(), tid, doing)


def _error(number: int, tid: int, doing: str) -> EngineError | PermissionMissing | TaskGone:
    said = os.strerror(number)
    if number == errno.ESRCH:
        return TaskGone(tid, f"Task {tid} has ended, or is not stopped, so clew cannot {doing} it.")
    if number == errno.EPERM:
        return PermissionMissing(
            f"The kernel does not let clew {doing} task {tid}: {said}.",
            "It may belong to another user, be traced already (TracerPid in /proc/PID/status), or Yama"
            " forbids it; `clew doctor` says which.",
        )
    return EngineError(f"Cannot {doing} task {tid}: {said}.")
