"""What a blocked task is in, as /proc tells: its system call with arguments, its memory."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from clew.kernel import procfs
from clew.kernel.syscalls import name_of

_RESTART = "restart_syscall"
# After a stop (SIGSTOP, a debugger) some calls go on as restart_syscall(2); their arguments are still in the
# registers, and the function the kernel sleeps in tells which one it was.
_RESTARTED = (
    ("futex", "futex"),
    ("do_sys_poll", "poll"),
    ("do_poll", "poll"),
    ("poll_schedule", "poll"),
    ("nanosleep", "clock_nanosleep"),
)


@dataclass(frozen=True, slots=True)
class BlockedCall:
    """A system call a task sleeps in.  ``sp`` and ``pc`` are its user registers."""

    name: str
    args: tuple[int, ...]
    sp: int
    pc: int


def blocked_call(pid: int, tid: int) -> BlockedCall | None:
    """The call that task sleeps in.

    None if it runs, sleeps outside of any (a page fault, a stop), is gone, or may not be looked at (the
    kernel asks for the right to attach: proc(5), /proc/PID/syscall).
    """
    words = (procfs.read(f"/proc/{pid}/task/{tid}/syscall") or b"").split()
    if len(words) != 9 or words[0] == b"-1":
        return None
    number = int(words[0])
    args = tuple(int(word, 16) for word in words[1:7])
    name = name_of(number)
    if name == _RESTART:
        sleeps = wchan(pid, tid)
        name = next((call for part, call in _RESTARTED if part in sleeps), name)
    return BlockedCall(name, args, int(words[7], 16), int(words[8], 16))


def wchan(pid: int, tid: int) -> str:
    """The kernel function that task sleeps in; "" if it does not, or that is hidden."""
    said = (procfs.read(f"/proc/{pid}/task/{tid}/wchan") or b"").decode(errors="replace").strip()
    return "" if said == "0" else said


def memory(pid: int, address: int, size: int) -> bytes:
    """Bytes of a process's memory, as many as are there; b"" if it may not be read."""
    try:
        fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(fd, size, address)
    except (OSError, OverflowError):
        return b""
    finally:
        os.close(fd)


def words(pid: int, address: int, count: int) -> tuple[int, ...]:
    """32-bit words of a process's memory; () if they cannot be read whole."""
    data = memory(pid, address, 4 * count)
    return struct.unpack(f"={count}I", data) if len(data) == 4 * count else ()
