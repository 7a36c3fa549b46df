"""The name of the function at a spot, from symbol tables: of the file, and of what was split off it."""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from pathlib import Path

from clew.code.demangle import demangle
from clew.code.elf import ElfError, ElfFile
from clew.code.elf_symbols import SymbolTable
from clew.stack.modules import Module

DEBUG_ROOTS = (Path("/usr/lib/debug"),)
_DEBUG_SECTIONS = (b".debug_info", b".zdebug_info")
_MAX_MINI = 256 << 20


class Symbols:
    """Function names of one module, and where its DWARF is.  Nothing is read before it is needed."""

    def __init__(self, module: Module, debug_roots: Sequence[Path]) -> None:
        self._module = module
        self._debug = _debug_file(module, debug_roots)
        self._tables: list[SymbolTable] | None = None

    def name(self, address: int) -> str:
        """Demangled name of the function at ELF ``address``; "" if nothing names it."""
        if self._tables is None:
            self._tables = self._read_tables()
        found = next((symbol for table in self._tables if (symbol := table.at(address))), None)
        return demangle(found.name) if found else ""

    @property
    def dwarf(self) -> Path | None:
        """The file that holds the module's DWARF, if one does."""
        for elf, path in ((self._module.elf, self._module.file), (self._debug, None)):
            if elf is not None and _has_dwarf(elf):
                return path or Path(elf.name)
        return None

    def _read_tables(self) -> list[SymbolTable]:
        """Full tables first: in them, unlike in dynsym, every function is."""
        tables = []
        for elf in (self._module.elf, self._debug):
            tables += _table(elf, "symtab")
        if self._module.elf is not None:
            tables += _table(_mini_debug_info(self._module.elf), "symtab")
            tables += _table(self._module.elf, "dynsym")
        return tables


def _table(elf: ElfFile | None, kind: str) -> list[SymbolTable]:
    try:
        table: SymbolTable = getattr(elf, kind) if elf else SymbolTable(b"", b"", 64, ())
    except ElfError:
        return []
    return [table] if len(table) else []


def _debug_file(module: Module, roots: Sequence[Path]) -> ElfFile | None:
    """The separate debug file of the module's build id (gdb manual, "Separate Debug Files")."""
    build_id = module.build_id.hex()
    if len(build_id) < 4:
        return None
    name = f"{build_id[:2]}/{build_id[2:]}.debug"
    for root in roots:
        try:
            elf = ElfFile.open(root / ".build-id" / name)
            if elf.build_id == module.build_id:
                return elf
        except (OSError, ElfError):
            continue
    return None


def _has_dwarf(elf: ElfFile) -> bool:
    try:
        return any(elf.section(name) is not None for name in _DEBUG_SECTIONS)
    except ElfError:
        return False


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
