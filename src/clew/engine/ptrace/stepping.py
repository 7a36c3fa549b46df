"""Getting a task past its breakpoint without another one running through it unseen.

The instruction is copied to the program's entry (code that has had its one run) and stepped there, so that
the breakpoint stays where it is and nobody else is stopped.  An instruction that depends on its own address
is stepped in its place, while all other tasks of the address space stand still.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from enum import Enum

from clew.code.x86_length import PREFIXES, length
from clew.engine.ptrace.space import INT3, Space
from clew.engine.ptrace.tracee import Tracee
from clew.errors import ClewError
from clew.kernel import ptrace, signals

_LONGEST = 15
_TRAP_TRACE = 2
_MOST_ROUNDS = 100_000  # of a repeated instruction (rep movs), each of which is a step
_SIGTRAP = 5


class Stepped(Enum):
    """How a step went: DONE; another stop came first, ``Tracee.stop`` now (OTHER); the task ended (GONE)."""

    DONE = 0
    OTHER = 1
    GONE = 2


def step_over(tracee: Tracee, halt: Callable[[Space, Tracee], None]) -> Stepped:
    """Have the stopped ``tracee`` run the one instruction at ``tracee.at``.

    ``halt`` stops all other tasks of a space; whoever gave it lets them run afterwards.
    """
    space, at = tracee.process.space, tracee.at
    if at not in space.breakpoints:
        tracee.at = 0
        return Stepped.DONE
    code = space.code(at, _LONGEST)
    size = length(code, 0)
    scratch = space.entry(tracee.tid)
    apart = scratch and abs(scratch - at) > 2 * _LONGEST
    if size and apart and not depends_on_place(code[:size]):
        return _elsewhere(tracee, code[:size], scratch)
    return _in_place(tracee, halt)


def depends_on_place(word: bytes) -> bool:
    """Whether an instruction does something else at another address: jumps, calls, rip-relative operands."""
    at = 0
    while word[at] in PREFIXES or 0x40 <= word[at] <= 0x4F:
        at += 1
    opcode, rest = word[at], word[at + 1 :]
    if opcode == 0x0F:
        two, rest = rest[0], rest[1:]
        if 0x80 <= two <= 0x8F or two in (0x05, 0x34):
            return True
        rest = rest[1:] if two in (0x38, 0x3A) else rest
    elif opcode in (0xC2, 0xC3, 0xCC, 0xCD, *range(0xE0, 0xEC), *range(0x70, 0x80)) or (
        opcode == 0xFF and rest and rest[0] >> 3 & 7 in (2, 3, 4, 5)
    ):
        return True
    # mod 0, rm 5 of what may be a ModRM byte: too often rather than too rarely.
    return bool(rest) and rest[0] & 0xC7 == 0x05


def _elsewhere(tracee: Tracee, code: bytes, scratch: int) -> Stepped:
    space, at = tracee.process.space, tracee.at
    before = space.read(scratch, len(code))
    if len(before) != len(code) or not space.write(scratch, code):
        return Stepped.OTHER
    try:
        registers = ptrace.get_registers(tracee.tid)
        registers.rip = scratch
        ptrace.set_registers(tracee.tid, registers)
        how = _step(tracee, scratch)
        if how is not Stepped.GONE:
            registers = ptrace.get_registers(tracee.tid)
            if scratch <= registers.rip <= scratch + len(code):
                registers.rip += at - scratch
                ptrace.set_registers(tracee.tid, registers)
        return how
    finally:
        space.write(scratch, before)


def _in_place(tracee: Tracee, halt: Callable[[Space, Tracee], None]) -> Stepped:
    space, at = tracee.process.space, tracee.at
    halt(space, tracee)
    try:
        space.write(at, space.breakpoints[at].original)
        return _step(tracee, at)
    finally:
        if at in space.breakpoints:
            space.write(at, INT3)


def _step(tracee: Tracee, start: int) -> Stepped:
    """Step until the instruction at ``start`` is done."""
    for _ in range(_MOST_ROUNDS):
        try:
            ptrace.step(tracee.tid)
        except ClewError:
            return Stepped.GONE
        found = ptrace.wait(tracee.tid)
        if found is None or not found.stopped:
            tracee.stop = found
            return Stepped.GONE
        tracee.stop = found
        if found.signal != _SIGTRAP or found.event or ptrace.signal_info(tracee.tid)[1] != _TRAP_TRACE:
            return Stepped.OTHER
        if ptrace.get_registers(tracee.tid).rip != start:
            break
    tracee.at = 0
    return Stepped.DONE


def halt_others(tracees: list[Tracee]) -> tuple[list[Tracee], list[Tracee]]:
    """Stop these running tasks.  Those in nothing but this stop, and those that came to another one.

    One that waits uninterruptibly (a parent in vfork(2)) cannot be stopped now; nor can it run before it was.
    """
    asked: list[Tracee] = []
    for tracee in tracees:
        with suppress(ClewError):
            ptrace.interrupt(tracee.tid)
            asked.append(tracee)
    plain: list[Tracee] = []
    other: list[Tracee] = []
    for tracee in asked:
        while (found := ptrace.wait(tracee.tid, hang=False)) is None:
            if signals.state(tracee.process.pid, tracee.tid) in ("D", "X", ""):
                break
        if found is None:
            continue
        tracee.stop = found
        own = found.stopped and found.event == ptrace.Event.STOP and not found.group_stopped
        (plain if own else other).append(tracee)
    return plain, other
