"""Answers of the reader: what stands at addresses of a file: functions by symbol tables, lines by DWARF.

The full symbol table is asked first: in it, unlike in the exported one, every function is.
"""

from __future__ import annotations

import lzma
import os
from collections.abc import Iterator, Sequence
from typing import Any

import drgn

from clew.code.debug_files import debug_files
from clew.code.demangle import demangle
from clew.code.elf import ElfError, ElfFile
from clew.code.elf_symbols import SymbolTable

_MAX_MINI = 256 << 20
_BASE, _SPAN = 1 << 56, 1 << 48


def prepare() -> None:
    """Load what is loaded at the first use."""
    demangle(b"_Z4mainv")


def names(elf: ElfFile, *rest: Any) -> list[str]:
    """``names(elf, [debug file,] addresses)``: the demangled name of the function at each; "" without one."""
    *debug, addresses = rest
    tables = list(_tables(elf, debug or list(debug_files(elf))))
    found = (next((s for table in tables if (s := table.at(address))), None) for address in addresses)
    return [demangle(symbol.name) if symbol else "" for symbol in found]


def standing(elf: ElfFile, file_offset: int) -> tuple[str, int]:
    """The name of the function that the code at this offset of the file is in, and its ELF address.

    The entry of a program without names is called ``_start``.
    """
    # As if mapped where its own offsets are: what is left of the bias then is what its headers say.
    bias = elf.bias(file_offset, file_offset)
    address = file_offset - (bias or 0)
    return names(elf, [address])[0] or ("_start" if address == elf.entry else ""), address


def object_named(elf: ElfFile, name: str) -> list[int]:
    """Address and size of an exported object; [] without one."""
    return next(([symbol.value, symbol.size] for symbol in elf.dynsym.named(name.encode())), [])


def _tables(elf: ElfFile, debug: Sequence[ElfFile]) -> Iterator[SymbolTable]:
    for file in (elf, *debug):
        yield from _table(file, "symtab")
    yield from _table(_mini_debug_info(elf), "symtab")
    yield from _table(elf, "dynsym")


def _table(elf: ElfFile | None, kind: str) -> list[SymbolTable]:
    try:
        table: SymbolTable = getattr(elf, kind) if elf else SymbolTable(b"", b"", 64, ())
    except ElfError:
        return []
    return [table] if len(table) else []


def _mini_debug_info(elf: ElfFile) -> ElfFile | None:
    """The symbol table that Fedora packs into stripped files (gdb manual, "MiniDebugInfo")."""
    try:
        section = elf.section(b".gnu_debugdata")
        if section is None:
            return None
        data = lzma.LZMADecompressor().decompress(elf.section_bytes(section), max_length=_MAX_MINI)
        return ElfFile.from_bytes(data, f"{elf.name} (.gnu_debugdata)")
    except (ElfError, lzma.LZMAError):
        return None


Row = tuple[str, str, int]
"""One source position: function, file, line."""


def lines(elf: ElfFile, build_id: str, addresses: Sequence[int]) -> list[list[Row]]:
    """Positions of each address by DWARF, innermost first; all but the last are of inlined functions.

    ``build_id`` (hexadecimal) is that of the code, "": do not check.
    """
    module = _load(elf, bytes.fromhex(build_id))
    bias = module.debug_file_bias
    if bias is None:
        return [[] for _ in addresses]
    return [_rows(module.prog, (bias + address) % 2**64) for address in addresses]


def _load(elf: ElfFile, build_id: bytes) -> drgn.Module:
    prog = drgn.Program(drgn.host_platform)
    # No debuginfod: naming a frame must not go to the network.
    prog.set_enabled_debug_info_finders(["standard"])
    module = prog.extra_module(elf.name, create=True)
    module.address_range = (_BASE, _BASE + _SPAN)
    if build_id:
        module.build_id = build_id
    module.try_file(elf.name, fd=os.dup(elf.fd), force=not build_id)
    if module.debug_file_status == drgn.ModuleFileStatus.WANT_SUPPLEMENTARY:
        prog.find_standard_debug_info([module])
    return module


def _rows(prog: drgn.Program, address: int) -> list[Row]:
    try:
        return [(at.name() or "", at.filename, at.line) for at in prog.source_location(address)]
    except Exception:  # corrupt DWARF: as many kinds as there are ways to be corrupt
        return []
