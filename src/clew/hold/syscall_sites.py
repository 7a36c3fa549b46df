"""Where C libraries and named programs make a system call: the instruction before ``syscall``.

No signal stops a task between a system call's entry and its work.  But a uprobe on the instruction before
the ``syscall`` stops it just short of it: the number and all arguments are in their registers, and nothing
has happened yet.  Where the code does not tell the number (syscall(2), Go's Syscall6), eax is asked.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator, Sequence

from clew.code.elf import EM_X86_64, ElfFile
from clew.code.elf_symbols import STT_FUNC
from clew.code.x86_length import length
from clew.errors import ClewError
from clew.hold.files import CodeFile, named_files
from clew.hold.functions import C_LIBRARIES, Place
from clew.kernel.syscalls import numbers as syscall_numbers
from clew.model.rules.glob import Glob

_SYSCALL = b"\x0f\x05"
_LONGEST_FUNCTION = 4096
_SOME = -1


def find_syscall_sites(
    numbers: Collection[int], mapped: Sequence[CodeFile], programs: Sequence[Glob] = ()
) -> list[Place]:
    """Places just before the system calls of these ``numbers`` in every C library, and in ``programs``."""
    patterns = [*map(Glob.parse, C_LIBRARIES), *programs]
    found = {file.name: file for pattern in patterns for file in named_files(pattern)}
    found |= {file.name: file for file in mapped if any(p.matches_path(file.name) for p in patterns)}
    return [place for file in found.values() for place in _in_file(file, numbers)]


def find_raw_exits(program: Glob, mapped: Sequence[CodeFile], known: Collection[bytes]) -> list[Place]:
    """Just before exit_group in programs of that name that leave without a C library (Go's).

    ``known`` are files whose way out was found already.
    """
    found = {file.name: file for file in (*named_files(program), *mapped) if program.matches_path(file.name)}
    number = {syscall_numbers(platform.machine())["exit_group"]}
    places = (place for name, file in found.items() if name not in known for place in _in_file(file, number))
    return [place for place in places if not place.any_call]


def _in_file(file: CodeFile, numbers: Collection[int]) -> list[Place]:
    try:
        with ElfFile.open(file.path) as elf:
            if elf.machine != EM_X86_64:
                return []
            sites = dict(_in_elf(elf, numbers))
            found = ((elf.file_offset(site), any_call) for site, any_call in sorted(sites.items()))
            return [Place(file, offset, "", any_call) for offset, any_call in found if offset is not None]
    except (OSError, ClewError):
        return []


def _in_elf(elf: ElfFile, numbers: Collection[int]) -> Iterator[tuple[int, bool]]:
    for table in (elf.symtab, elf.dynsym):
        for symbol in table.functions():
            if symbol.type == STT_FUNC and 0 < symbol.size <= _LONGEST_FUNCTION:
                code = elf.code_at(symbol.value, symbol.size)
                if _SYSCALL in code:
                    yield from ((symbol.value + at, any_) for at, any_ in _in_function(code, numbers))


def _in_function(code: bytes, numbers: Collection[int]) -> Iterator[tuple[int, bool]]:
    """Offsets of the instructions right before a ``syscall`` that may have one of the numbers in eax.

    It has for sure where it is set within the straight line before, and nothing in between touches eax in a
    way that is not understood; then the walk forgets it.  Elsewhere eax must be looked at (True), which only
    makes sense where the last instruction leaves it alone.
    """
    at = before = 0
    number: int | None = None
    leaves_it = False
    while size := length(code, at):
        word = code[at : at + size]
        if word == _SYSCALL:
            if before < at and (number in numbers or (number is None and leaves_it)):
                yield before, number is None
            number, leaves_it = None, False
        else:
            leaves_it = _number_after(word, _SOME) == _SOME
            number = _number_after(word, number)
        before = at
        at += size


def _number_after(word: bytes, number: int | None) -> int | None:
    """What eax holds after the instruction, if it is known."""
    if word[0] == 0xB8 and len(word) == 5:
        return int.from_bytes(word[1:], "little")
    if word in (b"\x31\xc0", b"\x33\xc0"):
        return 0
    opcode = word[1:] if 0x40 <= word[0] <= 0x4F else word
    keeps = opcode[:1] in (b"\x89", b"\x8b", b"\x8d", b"\x31") and len(opcode) > 1
    # mov, lea and xor between other registers, or from them to memory.
    target = opcode[1] >> 3 & 7 if keeps and opcode[0] in (0x8B, 0x8D) else opcode[1] & 7 if keeps else 0
    in_memory = keeps and opcode[0] in (0x89, 0x31) and opcode[1] >> 6 != 3
    return number if keeps and (in_memory or target != 0) else None
