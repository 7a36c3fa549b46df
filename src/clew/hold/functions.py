"""From a function's name to the places of its code: (file, offset) for uprobes, or why there are none."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clew.code.demangle import demangle, full_name
from clew.code.elf import ElfError, ElfFile
from clew.code.elf_symbols import STT_FUNC, STT_GNU_IFUNC, Symbol, SymbolTable
from clew.errors import ClewError, SymbolNotFound, UsageError
from clew.hold.files import CodeFile, named_files
from clew.model.rules.glob import Glob
from clew.model.rules.match import function_matches
from clew.model.rules.rule import Function
from clew.model.rules.words import did_you_mean, near
from clew.stack.symbols import DEBUG_ROOTS

MOST_PLACES = 256
_MOST_NAMES = 20_000
C_LIBRARIES = ("libc.so.*", "libc-2.*.so", "ld-musl-*")


@dataclass(frozen=True, slots=True)
class Place:
    """One place to stop at: byte ``offset`` of ``file``, in the function ``name``.

    ``any_call``: just before a system call whose number only the register tells.
    """

    file: CodeFile
    offset: int
    name: str
    any_call: bool = False


def find_function(rule: str, function: Function, mapped: Sequence[CodeFile]) -> list[Place]:
    """Every place ``function`` names in ``mapped`` files, or in files on disk that its FILE names.

    Raises SymbolNotFound if there is none, with names that are near and with what was looked at; UsageError
    if there are more than MOST_PLACES.
    """
    files = _candidates(function, mapped)
    places = [place for file in files for place in _places_in(file, function)]
    if not places:
        raise _not_found(rule, function, files)
    if len(places) > MOST_PLACES:
        raise UsageError(
            f"{rule} names {len(places)} functions in {len({p.file.name for p in places})} files;"
            f" clew stops at {MOST_PLACES} at most.",
            "Set a file before the function (call:FILE!FUNCTION), or use fewer stars.",
        )
    return places


def find_exits(program: Glob, mapped: Sequence[CodeFile]) -> list[Place]:
    """Where processes of ``program`` leave: _exit of every C library, and of static programs of that name.

    exit(3), a return from main and quick_exit(3) all end there.
    """
    leave = Function(Glob.literal(b"_exit"))
    found = {file.name: file for file in mapped}
    found |= {file.name: file for name in C_LIBRARIES for file in named_files(Glob.parse(name))}
    found |= {file.name: file for file in named_files(program)}
    libraries = [Glob.parse(name) for name in C_LIBRARIES]
    files = [f for f in found.values() if any(g.matches_path(f.name) for g in (*libraries, program))]
    return [place for file in files for place in _places_in(file, leave)]


def _candidates(function: Function, mapped: Sequence[CodeFile]) -> list[CodeFile]:
    if function.file is None:
        return list(mapped)
    found = [file for file in mapped if function.file.matches_path(file.name)]
    known = {file.name for file in found}
    return found + [file for file in named_files(function.file) if file.name not in known]


def _places_in(file: CodeFile, function: Function) -> Iterator[Place]:
    try:
        with ElfFile.open(file.path) as elf:
            if not _mentions(elf, function.name):
                return
            seen: set[int] = set()
            for symbol in _named(elf, function):
                offset = elf.file_offset(symbol.value)
                if offset is not None and offset not in seen:
                    seen.add(offset)
                    yield Place(file, offset, demangle(symbol.name))
    except (OSError, ClewError):
        return


def _named(elf: ElfFile, function: Function) -> Iterator[Symbol]:
    exact = function.name.exact
    for table in _tables(elf):
        # A name without C++'s signs is looked up by itself: far quicker than to go through all of them.
        if exact is not None and not set(exact) & set(b":(<~ "):
            yield from (s for s in table.named(exact) if s.type == STT_FUNC and s.value)
            if any(symbol.name == exact for symbol in table.named(exact)):
                continue
        for symbol in _cxx_functions(table) if exact is not None else table.functions():
            if symbol.value and symbol.type == STT_FUNC and _goes_by(function, symbol.name):
                yield symbol


def _mentions(elf: ElfFile, name: Glob) -> bool:
    """Whether some symbol of the file could match: its names hold the pattern's longest plain word.

    Mangled names hold the words of the source's names as they are.  To look for bytes costs a hundredth of
    going through the symbols, and nearly all files fail here.
    """
    word = _longest_word(name)
    tables = [section for section in elf.sections if section.name in (b".strtab", b".dynstr")]
    found = any(word in elf.section_bytes(section) for section in tables)
    return found or (bool(elf.build_id) and not len(elf.symtab) and _has_debug_file(elf))


def _longest_word(name: Glob) -> bytes:
    plain = bytes(e.bit_length() - 1 if e > 0 and e.bit_count() == 1 else 0 for e in name.elements)
    # Types (after a parenthesis or angle bracket), std and operators are abbreviated in mangled names.
    words = re.findall(rb"[A-Za-z0-9_$]+", re.split(rb"[(<]", plain)[0])
    return max((word for word in words if word not in (b"operator", b"std")), key=len, default=b"")


def _has_debug_file(elf: ElfFile) -> bool:
    name = elf.build_id.hex()
    return any((root / ".build-id" / name[:2] / f"{name[2:]}.debug").exists() for root in DEBUG_ROOTS)


def _cxx_functions(table: SymbolTable) -> Iterator[Symbol]:
    return (symbol for symbol in table.functions() if symbol.name.startswith((b"_Z", b"_R")))


def _goes_by(function: Function, symbol: bytes) -> bool:
    if function.name.matches(symbol):
        return True
    if not symbol.startswith((b"_Z", b"_R")):
        return False
    return any(function_matches(function.name, name) for name in (full_name(symbol), demangle(symbol)))


def _tables(elf: ElfFile) -> Iterator[SymbolTable]:
    yield elf.symtab
    yield elf.dynsym
    if not len(elf.symtab):
        for debug in debug_files(elf):
            yield debug.symtab


def debug_files(elf: ElfFile) -> Iterator[ElfFile]:
    """What was split off the file (gdb manual, "Separate Debug Files"); closed after use."""
    name = elf.build_id.hex()
    for root in DEBUG_ROOTS if name else ():
        try:
            with ElfFile.open(root / ".build-id" / name[:2] / f"{name[2:]}.debug") as debug:
                if debug.build_id == elf.build_id:
                    yield debug
        except (OSError, ElfError):
            continue


def _not_found(rule: str, function: Function, files: Sequence[CodeFile]) -> SymbolNotFound:
    wanted = function.name.source
    if function.file is not None and not files:
        return SymbolNotFound(
            f"{rule}: no process has a file {function.file.source!r} mapped, and none is installed.",
            "Give its path, such as call:/usr/bin/program!function.",
        )
    guesses = tuple(near(wanted, _names_like(wanted, files)))
    where = _where(files)
    stripped = [file for file in files if _is_stripped(file.path)] if len(files) <= 16 else []
    cause = f"No function {wanted!r} is in {where}."
    if stripped:
        named = " and ".join(os.fsdecode(file.name) for file in stripped[:3])
        verb = "is" if len(stripped) == 1 else "are"
        cause += f" {named} {verb} stripped: only exported functions have names."
    if any(_is_indirect(file.path, wanted) for file in files[:64]):
        cause += " It is an indirect function (IFUNC): which code it means is decided when a program starts."
    remedy = did_you_mean(guesses) or "Debug symbols (…-dbgsym, …-debuginfo) name the functions inside."
    return SymbolNotFound(cause, remedy, guesses)


def _where(files: Sequence[CodeFile]) -> str:
    if len(files) == 1:
        return os.fsdecode(files[0].name)
    return f"the {len(files)} files that processes have mapped"


def _names_like(wanted: str, files: Sequence[CodeFile]) -> set[str]:
    """Names worth comparing: those that share the first or the last letters of ``wanted``."""
    pieces = {wanted[:3].lower(), wanted[-3:].lower()}
    found: set[str] = set()
    for file in files:
        try:
            with ElfFile.open(file.path) as elf:
                for table in (elf.symtab, elf.dynsym):
                    for symbol in table.functions():
                        name = demangle(symbol.name)
                        if any(piece in name.lower() for piece in pieces):
                            found.add(name)
        except (OSError, ClewError):
            continue
        if len(found) > _MOST_NAMES:
            break
    return found


def _is_stripped(path: Path) -> bool:
    try:
        with ElfFile.open(path) as elf:
            return not len(elf.symtab)
    except (OSError, ClewError):
        return False


def _is_indirect(path: Path, name: str) -> bool:
    try:
        with ElfFile.open(path) as elf:
            found = [*elf.symtab.named(name.encode()), *elf.dynsym.named(name.encode())]
            return any(symbol.type == STT_GNU_IFUNC for symbol in found)
    except (OSError, ClewError):
        return False
