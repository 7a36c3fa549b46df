"""The functions of a file that a name means: by symbol tables, its own and what was split off it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from clew.code.debug_files import debug_files
from clew.code.demangle import demangle, full_name
from clew.code.elf import ElfFile
from clew.code.elf_symbols import STT_FUNC, STT_GNU_IFUNC, Symbol, SymbolTable
from clew.model.rules.glob import Glob
from clew.model.rules.match import function_matches
from clew.model.rules.rule import Function


@dataclass(frozen=True, slots=True)
class FoundFunctions:
    """``places``: (file offset, name) of each; ``stripped``: of the file only exported functions have names.

    ``indirect``: the name is that of an IFUNC, whose code is decided when a program starts.
    """

    places: list[tuple[int, str]]
    stripped: bool
    indirect: bool


def find_functions(elf: ElfFile, function: Function) -> FoundFunctions:
    """What ``function`` means in this file."""
    debug = list(debug_files(elf)) if not len(elf.symtab) else []
    places: dict[int, str] = {}
    indirect = False
    if _mentions(elf, debug, function.name):
        for symbol in _named([elf.symtab, elf.dynsym, *(file.symtab for file in debug)], function):
            indirect |= symbol.type == STT_GNU_IFUNC
            offset = elf.file_offset(symbol.value)
            if offset is not None and symbol.type == STT_FUNC:
                places.setdefault(offset, demangle(symbol.name))
    return FoundFunctions([*places.items()], not len(elf.symtab), indirect)


def names_like(elf: ElfFile, wanted: str) -> Iterator[str]:
    """Names worth comparing: those that share the first or the last letters of ``wanted``."""
    pieces = {wanted[:3].lower(), wanted[-3:].lower()}
    for table in (elf.symtab, elf.dynsym):
        for symbol in table.functions():
            name = demangle(symbol.name)
            if any(piece in name.lower() for piece in pieces):
                yield name


def _named(tables: list[SymbolTable], function: Function) -> Iterator[Symbol]:
    exact = function.name.exact
    for table in tables:
        # A name without C++'s signs is looked up by itself: far quicker than to go through all of them.
        if exact is not None and not set(exact) & set(b":(<~ "):
            found = table.named(exact)
            yield from (s for s in found if s.type in (STT_FUNC, STT_GNU_IFUNC) and s.value)
            if any(symbol.name == exact for symbol in found):
                continue
        for symbol in _cxx_functions(table) if exact is not None else table.functions():
            if symbol.value and symbol.type == STT_FUNC and _goes_by(function, symbol.name):
                yield symbol


def _mentions(elf: ElfFile, debug: list[ElfFile], name: Glob) -> bool:
    """Whether some symbol of the file could match: its names hold the pattern's longest plain word.

    Mangled names hold the words of the source's names as they are.  To look for bytes costs a hundredth of
    going through the symbols, and nearly all files fail here.
    """
    word = _longest_word(name)
    tables = [section for section in elf.sections if section.name in (b".strtab", b".dynstr")]
    return bool(debug) or any(word in elf.section_bytes(section) for section in tables)


def _longest_word(name: Glob) -> bytes:
    plain = bytes(e.bit_length() - 1 if e > 0 and e.bit_count() == 1 else 0 for e in name.elements)
    # Types (after a parenthesis or angle bracket), std and operators are abbreviated in mangled names.
    words = re.findall(rb"[A-Za-z0-9_$]+", re.split(rb"[(<]", plain)[0])
    return max((word for word in words if word not in (b"operator", b"std")), key=len, default=b"")


def _cxx_functions(table: SymbolTable) -> Iterator[Symbol]:
    return (symbol for symbol in table.functions() if symbol.name.startswith((b"_Z", b"_R")))


def _goes_by(function: Function, symbol: bytes) -> bool:
    if function.name.matches(symbol):
        return True
    if not symbol.startswith((b"_Z", b"_R")):
        return False
    return any(function_matches(function.name, name) for name in (full_name(symbol), demangle(symbol)))
