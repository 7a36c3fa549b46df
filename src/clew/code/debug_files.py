"""What was split off a file: symbols and DWARF by build id (gdb manual, "Separate Debug Files")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from clew.code.elf import ElfError, ElfFile

DEBUG_ROOTS = (Path("/usr/lib/debug"),)
_DEBUG_SECTIONS = (b".debug_info", b".zdebug_info")


def debug_paths(build_id: bytes, roots: Sequence[Path] = DEBUG_ROOTS) -> Iterator[Path]:
    """Where it would be."""
    name = build_id.hex()
    if len(build_id) >= 2:
        yield from (root / ".build-id" / name[:2] / f"{name[2:]}.debug" for root in roots)


def debug_files(elf: ElfFile) -> Iterator[ElfFile]:
    """What was split off ``elf``, as far as it is installed and can be read."""
    yield from debug_files_of(elf.build_id)


def debug_files_of(build_id: bytes, roots: Sequence[Path] = DEBUG_ROOTS) -> Iterator[ElfFile]:
    """As ``debug_files``, of the file with this build id."""
    for path in debug_paths(build_id, roots):
        try:
            with ElfFile.open(path) as debug:
                if debug.build_id == build_id:
                    yield debug
        except (OSError, ElfError):
            continue


def has_dwarf(elf: ElfFile) -> bool:
    """Whether it has debug information."""
    try:
        return any(elf.section(name) is not None for name in _DEBUG_SECTIONS)
    except ElfError:
        return False
