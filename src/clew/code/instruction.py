"""One x86-64 instruction, as somebody must know it who has it run at another address than its own.

Capstone decodes; what it does not know, or what cannot be moved, is said to be neither moved nor worked out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache, lru_cache
from typing import Any, Final

LONGEST: Final = 15


class Kind(Enum):
    """How its effect can be had elsewhere.

    NOP, PUSH, CALL, JUMP and BRANCH (a condition, or a counter) can be worked out from the registers.  PLAIN
    runs at any address and goes on behind itself; GOES runs at any address and goes where it says (an
    indirect jump or call, a return).  FIXED can be neither.
    """

    NOP = 0
    PUSH = 1
    CALL = 2
    JUMP = 3
    BRANCH = 4
    PLAIN = 5
    GOES = 6
    FIXED = 7


@dataclass(frozen=True, slots=True)
class Instruction:
    """``code`` is its bytes as they run at any address; ``length`` that of its own.

    ``relative``: how far it goes (CALL, JUMP, BRANCH), counted from its own address.  ``condition``: the
    condition code of a BRANCH, or its opcode if it counts (loop, jrcxz).  ``register``: what PUSH pushes;
    of others the register that must hold the address behind the instruction in its own place while ``code``
    runs, "" if none must.  ``calls``: it leaves a return address.
    """

    kind: Kind
    length: int
    code: bytes
    relative: int = 0
    condition: int = 0
    register: str = ""
    calls: bool = False


FIXED: Final = Instruction(Kind.FIXED, 0, b"")

# A base register in the place of rip: the names by which an instruction may mention it (and its number).
_SPARE = (
    (6, ("rsi", "esi", "si", "sil")),
    (7, ("rdi", "edi", "di", "dil")),
    (3, ("rbx", "ebx", "bx", "bl", "bh")),
)


@cache
def _decoder() -> Any:
    import capstone  # type: ignore[import-untyped]  # 50 ms, which only breakpoints need

    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    return decoder


@lru_cache(maxsize=4096)
def decode(code: bytes) -> Instruction:
    """The instruction that ``code`` begins with."""
    from capstone import x86_const as x86

    found = next(_decoder().disasm(code, 0, 1), None)
    if found is None or found.addr_size != 8 or _cannot_move(found, x86):
        return FIXED
    raw, length = bytes(found.bytes), int(found.size)
    operands = found.operands
    if found.id in (x86.X86_INS_NOP, x86.X86_INS_ENDBR64):
        return Instruction(Kind.NOP, length, raw)
    name = found.reg_name(operands[0].reg) if operands and operands[0].type == x86.X86_OP_REG else ""
    if found.id == x86.X86_INS_PUSH and name.startswith("r"):
        return Instruction(Kind.PUSH, length, raw, register=name)
    calls = found.group(x86.X86_GRP_CALL)
    # (Capstone does not call loop a jump.)
    goes = found.group(x86.X86_GRP_JUMP) or found.group(x86.X86_GRP_BRANCH_RELATIVE)
    if (calls or goes) and operands[0].type == x86.X86_OP_IMM:
        return _direct(raw, length, int(operands[0].imm), bool(calls), found.id == x86.X86_INS_JMP)
    kind = Kind.GOES if calls or goes or found.group(x86.X86_GRP_RET) else Kind.PLAIN
    if not any(one.type == x86.X86_OP_MEM and one.mem.base == x86.X86_REG_RIP for one in operands):
        return Instruction(kind, length, raw, calls=bool(calls))
    return _without_rip(found, raw, kind, bool(calls))


def _cannot_move(found: Any, x86: Any) -> bool:
    """System calls and interrupts (a step over one lasts as long as the call), far jumps, transactions."""
    return bool(
        found.group(x86.X86_GRP_INT)
        or found.group(x86.X86_GRP_IRET)
        or found.id
        in (
            x86.X86_INS_SYSCALL, x86.X86_INS_SYSENTER, x86.X86_INS_SYSEXIT, x86.X86_INS_SYSRET,
            x86.X86_INS_LCALL, x86.X86_INS_LJMP, x86.X86_INS_RETF, x86.X86_INS_RETFQ, x86.X86_INS_XBEGIN,
        )
        # Far by an operand in memory: capstone calls that CALL and JMP too.
        or (found.opcode[0] == 0xFF and found.modrm >> 3 & 7 in (3, 5))
    )  # fmt: skip


def _direct(raw: bytes, length: int, target: int, calls: bool, always: bool) -> Instruction:
    relative = (target + (1 << 63)) % (1 << 64) - (1 << 63)
    if calls or always:
        return Instruction(Kind.CALL if calls else Kind.JUMP, length, raw, relative, calls=calls)
    opcode = raw.lstrip(b"\x2e\x36\x3e\x26\x64\x65\xf2\xf3\x40\x41\x42\x43\x44\x45\x46\x47\x48")
    counts = 0xE0 <= opcode[0] <= 0xE3
    condition = opcode[0] if counts else opcode[1] & 15 if opcode[0] == 0x0F else opcode[0] & 15
    return Instruction(Kind.BRANCH, length, raw, relative, condition)


def _without_rip(found: Any, raw: bytes, kind: Kind, calls: bool) -> Instruction:
    """[rip + N] becomes [register + N], as the kernel's uprobes have it (riprel_analyze)."""
    used = {found.reg_name(one) for some in found.regs_access() for one in some}
    free = next(((number, names[0]) for number, names in _SPARE if used.isdisjoint(names)), None)
    at = int(found.modrm_offset)
    if free is None or not at or raw[at] & 0xC7 != 5:
        return FIXED
    moved = bytearray(raw)
    moved[at] = raw[at] & 0x38 | 0x80 | free[0]
    start = len(raw) - len(raw.lstrip(b"\x2e\x36\x3e\x26\x64\x65\x66\xf0\xf2\xf3"))
    # The bit that makes rsi r14 means nothing before [rip + N]; now it would.
    if 0x40 <= raw[start] <= 0x4F:
        moved[start] &= ~1
    elif raw[start] == 0xC4:
        moved[start + 1] |= 0x20
    elif raw[start] == 0x62:
        moved[start + 1] |= 0x60
    return Instruction(kind, len(raw), bytes(moved), register=free[1], calls=calls)
