"""Undoing what a holder that was killed has left in its tracees, by what the heir's log says."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Iterable
from contextlib import suppress

from clew.engine.ptrace.heir_log import HeirLog, Place, StepState, TaskState
from clew.errors import ClewError
from clew.kernel import procfs, ptrace
from clew.kernel.ptrace import Registers

_INT3 = 0xCC


class Memory:
    """The memory of a process, by one of its threads."""

    def __init__(self, tid: int) -> None:
        self._tid = tid

    def read(self, address: int, size: int) -> bytes:
        """What is there, b"" if nothing is."""
        try:
            with open(f"/proc/{self._tid}/mem", "rb", buffering=0) as file:  # noqa: PTH123
                return os.pread(file.fileno(), size, address)
        except OSError:
            return b""

    def write(self, address: int, data: bytes) -> None:
        """Write there, into read-only code too."""
        with suppress(OSError), open(f"/proc/{self._tid}/mem", "r+b", buffering=0) as file:  # noqa: PTH123
            os.pwrite(file.fileno(), data, address)


def breakpoints(tid: int, places: Iterable[Place]) -> dict[int, int]:
    """Addresses of the breakpoints in the memory of ``tid``, with the byte that belongs there.

    It is one of ours if the code around it is that of the place's file, and the byte alone is not.
    """
    by_file: dict[bytes, list[Place]] = {}
    for place in places:
        by_file.setdefault(place.file, []).append(place)
    memory, found = Memory(tid), {}
    for mapping in procfs.mappings(tid) if by_file else ():
        for place in by_file.get(mapping.path, ()):
            address = mapping.start + place.offset - mapping.file_offset
            if mapping.start <= address < mapping.end:
                there = memory.read(address, len(place.code))
                alike = all(a in (b, _INT3) for a, b in zip(there, place.code, strict=False))
                if alike and there[:1] == b"\xcc" != place.code[:1]:
                    found[address] = place.code[0]
    return found


def mend_step(step: StepState, memory: Memory) -> None:
    """Finish or undo a step of a task that stands still."""
    registers = ptrace.get_registers(step.tid)
    away = registers.rip - step.scratch
    if 0 <= away <= len(step.before):
        registers.rip = step.behind if away and not step.goes else step.at
    elif step.calls:
        # It called somebody, who is to return to where the call belongs.
        back = memory.read(registers.rsp, 8)
        if len(back) == 8 and 0 < struct.unpack("<Q", back)[0] - step.scratch <= len(step.before):
            memory.write(registers.rsp, struct.pack("<Q", step.behind))
    if step.register and getattr(registers, step.register) == step.behind:
        setattr(registers, step.register, step.value)
    ptrace.set_registers(step.tid, registers)
    ptrace.set_signal_mask(step.tid, step.mask)
    memory.write(step.scratch, step.before)


def ran_into(registers: Registers, known: dict[int, int], state: TaskState) -> bool:
    """Whether a task whose last stop nobody dealt with stands behind a breakpoint that it ran into."""
    return state.runs and registers.rip - 1 in known and registers.rip != state.passed


def send(log: HeirLog, pid: int, tid: int) -> None:
    """A signal that was taken from the kernel for a task is still to come."""
    number = log.task(tid).signal
    if number not in (0, signal.SIGTRAP):
        with suppress(ClewError):
            ptrace.send_signal(pid, tid, number)
