"""Where a task stood: one frame of an unwound stack, innermost first in a backtrace."""

from __future__ import annotations

from dataclasses import dataclass

Backtrace = tuple["Frame", ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    ``function`` is the (demangled) name, or "" where nothing names the address; ``module`` the path of
    the mapped file, b"" for anonymous code; ``offset`` the address as the module's own ELF addresses
    count it (what addr2line takes), so that ``module+0xoffset`` means the same on every run.
    ``file``/``line`` are "" and 0 without debug information.  ``inlined`` marks a frame the compiler
    folded into the one after it.
    """

    function: str
    module: bytes
    offset: int
    file: str = ""
    line: int = 0
    inlined: bool = False


@dataclass(frozen=True, slots=True)
class Mapping:
    """A file mapped executable into a process: addresses [start, end), from ``file_offset`` bytes on.

    ``build_id`` is b"" where unknown.  ``since_ns`` is when it was mapped (0: before the recording).
    """

    start: int
    end: int
    file_offset: int
    path: bytes
    build_id: bytes = b""
    since_ns: int = 0


@dataclass(frozen=True, slots=True)
class StackSample:
    """Registers and a copy of the user stack as they were at one moment.

    ``registers`` is a ``struct pt_regs`` of the machine (x86-64: 168 bytes); ``sp`` the address of
    ``data[0]``.
    """

    stack_id: int
    pid: int
    t_ns: int
    sp: int
    registers: bytes
    data: bytes
