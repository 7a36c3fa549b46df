"""Where code makes a system call: the instruction before ``syscall``.

No signal stops a task between a system call's entry and its work.  But a uprobe on the instruction before
the ``syscall`` stops it just short of it: the number and all arguments are in their registers, and nothing
has happened yet.  Where the code does not tell the number (syscall(2), Go's Syscall6), eax is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

import capstone  # type: ignore[import-untyped]

from clew.code.elf import EM_X86_64, ElfFile
from clew.code.elf_symbols import STT_FUNC

_SYSCALL = b"\x0f\x05"
_LONGEST_FUNCTION = 4096
_REGISTER, _NUMBER = capstone.CS_OP_REG, capstone.CS_OP_IMM
_RAX = ("rax", "eax", "ax", "al", "ah")


def syscall_sites(elf: ElfFile, numbers: Collection[int]) -> dict[int, bool]:
    """ELF addresses right before system calls of these numbers; True: eax must be looked at there."""
    found: dict[int, bool] = {}
    if elf.machine != EM_X86_64 or elf.bits != 64:
        return found
    for table in (elf.symtab, elf.dynsym):
        for symbol in table.functions():
            if symbol.type == STT_FUNC and 0 < symbol.size <= _LONGEST_FUNCTION:
                code = elf.code_at(symbol.value, symbol.size)
                if _SYSCALL in code:
                    found |= {symbol.value + at: any_call for at, any_call in _in_function(code, numbers)}
    return found


@cache
def decoder() -> Any:
    """Capstone for x86-64, with what an instruction reads and writes."""
    found = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    found.detail = True
    return found


def _in_function(code: bytes, numbers: Collection[int]) -> Iterator[tuple[int, bool]]:
    """Offsets of the instructions right before a ``syscall`` that may have one of the numbers in eax.

    It has for sure where it is set within the straight line before, and nothing in between writes it; a
    jump's target may be entered from elsewhere, so there it is not known.  Elsewhere eax must be looked at
    (True), which only makes sense where the last instruction leaves it alone.
    """
    words = list(decoder().disasm(code, 0))
    targets = {int(word.operands[0].imm) for word in words if _is_direct_jump(word)}
    number: int | None = None
    before = None
    for word in words:
        if word.address in targets:
            number = None
        if word.mnemonic == "syscall":
            if before is not None and (number in numbers or (number is None and not _writes_rax(before))):
                yield before.address, number is None
            number = None
        elif _writes_rax(word):
            number = _number_set_by(word)
        before = word


def _is_direct_jump(word: Any) -> bool:
    return bool(word.group(capstone.CS_GRP_JUMP)) and [each.type for each in word.operands] == [_NUMBER]


def _writes_rax(word: Any) -> bool:
    """Whether eax may be another one after it; a call returns with anything."""
    if word.group(capstone.CS_GRP_CALL):
        return True
    return any(word.reg_name(register) in _RAX for register in word.regs_access()[1])


def _number_set_by(word: Any) -> int | None:
    """What eax holds after an instruction that writes it, if that is plain."""
    if len(word.operands) != 2:
        return None
    to, given = word.operands
    if to.type != _REGISTER or word.reg_name(to.reg) not in _RAX[:2]:
        return None
    if word.mnemonic in ("mov", "movabs") and given.type == _NUMBER:
        return int(given.imm) & 0xFFFFFFFF
    return 0 if word.mnemonic == "xor" and given.type == _REGISTER and given.reg == to.reg else None
