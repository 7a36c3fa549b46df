"""Registers and stacks of a live process, taken by ptrace, and what gdb says of the same moment."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clew.code.elf import ElfError, ElfFile
from clew.model.frame import Mapping, StackSample
from tests.support.bounded import until

PTRACE_TRACEME, PTRACE_GETREGS, PTRACE_DETACH = 0, 12, 17
PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
_WALL = 0x40000000
_REGISTERS, _SP_AT = 168, 19 * 8
DEFAULT_STACK = 16384

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment of a process: a sample of each thread, by tid, and its executable mappings."""

    samples: dict[int, StackSample]
    mappings: tuple[Mapping, ...]


@dataclass(frozen=True, slots=True)
class GdbFrame:
    """What gdb says of a frame.  ``pc`` is the return address, for callers; ``file`` has no folder."""

    pc: int
    function: str
    file: str
    line: int
    inlined: bool


def ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    """ptrace(2); raises OSError."""
    if _libc.ptrace(request, tid, address, data) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), f"ptrace {request:#x} of {tid}")


def registers_of(tid: int) -> bytes:
    """The ``struct pt_regs`` of a thread that is in a ptrace stop of ours."""
    buffer = ctypes.create_string_buffer(216)
    ptrace(PTRACE_GETREGS, tid, 0, ctypes.addressof(buffer))
    return buffer.raw[:_REGISTERS]


def sample_of(pid: int, tid: int, size: int = DEFAULT_STACK) -> StackSample:
    """A sample of a thread that is in a ptrace stop of ours."""
    registers = registers_of(tid)
    (sp,) = struct.unpack_from("<Q", registers, _SP_AT)
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(sp)
        return StackSample(tid, pid, 0, sp, registers, memory.read(size))


def mappings_of(pid: int, with_build_ids: bool = True) -> tuple[Mapping, ...]:
    """The executable mappings that have a name, as /proc/PID/maps lists them."""
    found = []
    for line in Path(f"/proc/{pid}/maps").read_bytes().splitlines():
        parts = line.split(None, 5)
        if b"x" in parts[1] and len(parts) == 6:
            start, end = (int(n, 16) for n in parts[0].split(b"-"))
            build_id = _build_id(pid, parts[0].decode()) if with_build_ids else b""
            found.append(Mapping(start, end, int(parts[2], 16), parts[5], build_id))
    return tuple(found)


def _build_id(pid: int, addresses: str) -> bytes:
    """Of the very file that is mapped, even if it was deleted."""
    try:
        return ElfFile.open(Path(f"/proc/{pid}/map_files/{addresses}")).build_id
    except (OSError, ElfError):
        return b""


def capture(pid: int, size: int = DEFAULT_STACK) -> Moment:
    """Stop every thread, sample it, let it go (a SIGSTOPped process stays so)."""
    tids = [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]
    seized = []
    try:
        for tid in tids:
            ptrace(PTRACE_SEIZE, tid)
            seized.append(tid)
            ptrace(PTRACE_INTERRUPT, tid)
            os.waitpid(tid, _WALL)
        return Moment({tid: sample_of(pid, tid, size) for tid in tids}, mappings_of(pid))
    finally:
        for tid in seized:
            ptrace(PTRACE_DETACH, tid)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP for as long as the block lasts: what is captured in it is all of one moment."""
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: _state(pid) in "Tt", what=f"{pid} stopped")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]


@contextmanager
def running(*command: str | Path) -> Iterator[int]:
    """A program that says "r" on its stdout when it is where it should be; killed at the end."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"r", "the program did not get ready"
            yield process.pid
        finally:
            process.kill()


@contextmanager
def at_exec(program: Path) -> Iterator[int]:
    """A process that has just exec'd ``program`` and is in the ptrace stop before its first instruction."""
    pid = os.fork()
    if pid == 0:
        _libc.ptrace(PTRACE_TRACEME, 0, 0, 0)
        try:
            os.execv(program, [str(program)])
        finally:
            os._exit(127)
    try:
        _, status = os.waitpid(pid, 0)
        assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTRAP, status
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def blocked_in(pid: int, syscall: int) -> None:
    """Wait until every thread of the process sleeps, one of them in that system call."""

    def numbers() -> list[str]:
        return [path.read_text().split()[0] for path in Path(f"/proc/{pid}/task").glob("*/syscall")]

    until(lambda: "running" not in numbers() and str(syscall) in numbers(), what=f"{pid} in call {syscall}")


_GDB_SCRIPT = """
import gdb, json, os
def frames():
    frame = gdb.newest_frame()
    while frame is not None:
        sal = frame.find_sal()
        file = os.path.basename(sal.symtab.filename) if sal.symtab else ""
        inlined = frame.type() == gdb.INLINE_FRAME
        signal_frame = frame.type() == gdb.SIGTRAMP_FRAME
        name = "<signal handler called>" if signal_frame else frame.name() or ""
        # Tail calls leave no frame: gdb reasons out from call sites that they must have happened.
        if frame.type() != gdb.TAILCALL_FRAME:
            yield [frame.pc(), name, file, sal.line if sal.symtab else 0, inlined]
        frame = frame.older()
found = {}
for thread in gdb.selected_inferior().threads():
    thread.switch()
    found[thread.ptid[1]] = list(frames())
print("FRAMES" + json.dumps(found))
"""


def gdb_frames(pid: int, folder: Path) -> dict[int, list[GdbFrame]]:
    """gdb's backtrace of every thread, by tid, innermost frame first."""
    script = folder / "frames.py"
    script.write_text(_GDB_SCRIPT)
    settings = ("backtrace past-main on", "backtrace past-entry on", "debuginfod enabled off")
    options = [word for setting in settings for word in ("-iex", f"set {setting}")]
    command = ["gdb", "-nx", "-batch", *options, "-p", str(pid), "-x", str(script)]
    output = subprocess.run(command, capture_output=True, timeout=100, check=True).stdout.decode()
    (line,) = [line for line in output.splitlines() if line.startswith("FRAMES")]
    found: dict[str, list[tuple[int, str, str, int, bool]]] = json.loads(line.removeprefix("FRAMES"))
    return {int(tid): [GdbFrame(*frame) for frame in frames] for tid, frames in found.items()}
