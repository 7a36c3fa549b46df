"""Getting a task past its breakpoint, which stays in its place: nobody else is stopped, none slips through.

What the registers and a word of the stack decide is worked out (jumps, calls, pushes), as the kernel's
uprobes do.  Any other instruction is run at the scratch place, which nobody waits for: the task stops
when it is done, or when something came between.  Signals that the instruction cannot cause wait meanwhile:
they would move the task before it ran.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clew.code.instruction import Instruction, Kind
from clew.engine.ptrace.heir_log import StepState
from clew.errors import ClewError
from clew.kernel import procfs, ptrace
from clew.kernel.ptrace import Registers, Wait

if TYPE_CHECKING:
    from clew.engine.ptrace.space import Space

_INT3 = b"\xcc"
_SIGTRAP, _TRAP_TRACE, _SI_KERNEL = 5, 2, 0x80
FAULTS = (4, 7, 8, 11)
"""SIGILL, SIGBUS, SIGFPE, SIGSEGV: what an instruction may cause."""
# A fault that is blocked would end the program without its handler (force_sig_info_to_task, kernel/signal.c).
_ALL = (1 << 64) - 1
ALL_BUT_FAULTS = _ALL - sum(1 << (number - 1) for number in (*FAULTS, _SIGTRAP, 31))
"""A mask of signals: those that are no consequence of what a task itself does."""
# Bits of eflags by condition code: CF, ZF, SF, OF, PF.
_CF, _PF, _ZF, _SF, _OF = 1, 4, 64, 128, 2048


@dataclass(frozen=True, slots=True)
class Step:
    """An instruction at the scratch place; ``register`` and ``mask`` are what the task had there before."""

    at: int
    scratch: int
    instruction: Instruction
    register: int
    mask: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step went: whether the instruction ``ran``, and whether the stop is ``own``, the step's alone.

    ``owed``: its SIGTRAP is still to come, after the stop that came before it.
    """

    ran: bool
    own: bool
    owed: bool


def work_out(tid: int, space: Space, at: int, instruction: Instruction) -> bool:
    """Do what the instruction does, without it; False if that cannot be."""
    if instruction.kind not in (Kind.NOP, Kind.PUSH, Kind.CALL, Kind.JUMP, Kind.BRANCH):
        return False
    if instruction.calls and _has_shadow_stack(tid):
        return False
    registers = ptrace.get_registers(tid)
    behind = at + instruction.length
    pushed = behind if instruction.calls else 0
    if instruction.kind is Kind.PUSH:
        pushed = getattr(registers, instruction.register)
    if instruction.kind in (Kind.PUSH, Kind.CALL):
        registers.rsp -= 8
        if not space.write(registers.rsp, struct.pack("<Q", pushed)):
            return False
    goes = instruction.kind in (Kind.CALL, Kind.JUMP) or (
        instruction.kind is Kind.BRANCH and _is_met(instruction.condition, registers)
    )
    registers.rip = (at + instruction.relative) & _ALL if goes else behind
    ptrace.set_registers(tid, registers)
    return True


def _has_shadow_stack(tid: int) -> bool:
    """Whether return addresses are written twice (CET): the second place is not ours to write."""
    return b"shstk" in procfs.status(tid).get(b"x86_Thread_features", b"")


def _is_met(condition: int, registers: Registers) -> bool:
    if condition >= 0xE0:
        return _counted(condition, registers)
    flags = registers.eflags
    signed = bool(flags & _SF) != bool(flags & _OF)
    met = (
        flags & _OF, flags & _CF, flags & _ZF, flags & (_CF | _ZF),
        flags & _SF, flags & _PF, signed, signed or flags & _ZF,
    )[condition >> 1]  # fmt: skip
    return bool(met) != bool(condition & 1)


def _counted(opcode: int, registers: Registers) -> bool:
    """loopne, loope, loop, jrcxz."""
    if opcode == 0xE3:
        return bool(registers.rcx == 0)
    registers.rcx = (registers.rcx - 1) & _ALL
    zero = bool(registers.eflags & _ZF)
    return bool(registers.rcx) and (opcode == 0xE2 or zero == (opcode == 0xE1))


def begin(tid: int, space: Space, at: int, instruction: Instruction) -> Step | None:
    """Have the stopped task run the instruction at the scratch place; None without such a place.

    Raises ClewError if the task is gone.
    """
    goes = instruction.kind is Kind.GOES
    if (not goes and instruction.kind is not Kind.PLAIN) or (instruction.calls and _has_shadow_stack(tid)):
        return None
    code = instruction.code + (b"" if goes else _INT3)
    scratch, before = space.scratch(tid, len(code), at)
    if not scratch:
        return None
    registers, mask = ptrace.get_registers(tid), ptrace.get_signal_mask(tid)
    borrowed = getattr(registers, instruction.register) if instruction.register else 0
    behind = at + instruction.length
    space.stepper = tid
    space.log.step_begins(
        StepState(
            tid, goes, instruction.calls, at, scratch, behind, instruction.register, borrowed, mask, before
        )
    )
    try:
        space.write(scratch, code)
        if instruction.register:
            setattr(registers, instruction.register, behind)
        registers.rip = scratch
        ptrace.set_registers(tid, registers)
        ptrace.set_signal_mask(tid, mask | ALL_BUT_FAULTS)
        (ptrace.step if goes else ptrace.cont)(tid)
    except ClewError:
        space.unload()
        raise
    return Step(at, scratch, instruction, borrowed, mask)


def end(tid: int, space: Space, step: Step, stop: Wait) -> Outcome:
    """The task has stopped: put everything in order as if it had never been at the scratch place."""
    instruction = step.instruction
    registers = ptrace.get_registers(tid)
    away, length = registers.rip - step.scratch, len(instruction.code)
    goes = instruction.kind is Kind.GOES
    ran = away != 0 if goes else away in (length, length + 1)
    trapped = ran if goes else away == length + 1
    own = trapped and stop.signal == _SIGTRAP and not stop.event and _is_ours(tid)
    if not ran:
        registers.rip = step.at
        _tell_place(tid, stop, step)
    elif not goes:
        registers.rip = step.at + instruction.length
    elif instruction.calls:
        space.write(registers.rsp, struct.pack("<Q", step.at + instruction.length))
    if instruction.register:
        setattr(registers, instruction.register, step.register)
    ptrace.set_registers(tid, registers)
    ptrace.set_signal_mask(tid, step.mask)
    return Outcome(ran, own, trapped and not own)


def _is_ours(tid: int) -> bool:
    return ptrace.signal_info(tid)[1] in (_TRAP_TRACE, _SI_KERNEL)


def _tell_place(tid: int, stop: Wait, step: Step) -> None:
    """Of some faults a handler is told the instruction's address (sigaction(2)): its own one."""
    if stop.event or stop.signal not in (4, 8):
        return
    info = ptrace.siginfo(tid)
    if struct.unpack_from("<Q", info, 16)[0] == step.scratch:
        ptrace.set_siginfo(tid, info[:16] + struct.pack("<Q", step.at) + info[24:])
