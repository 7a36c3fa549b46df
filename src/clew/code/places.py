"""Answers of the reader about one file: where rules stop in it, and what else holds must know of it."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from clew.code.debug_files import debug_files
from clew.code.elf import PT_DYNAMIC, ElfFile
from clew.code.functions import find_functions, names_like
from clew.code.line_table import find_line
from clew.code.syscall_sites import decoder, syscall_sites
from clew.model.rules.rule import Function, SourceLine

_DT_NEEDED, _DT_STRTAB = 1, 5
_DYN = struct.Struct("<qQ")
_LONGEST_NAME = 256
_MOST_NAMES = 20_000
_LOADER_SAYS = b"_dl_debug_state"


def prepare() -> None:
    """Load what is loaded at the first use."""
    decoder()


def rights(_elf: ElfFile) -> dict[str, str]:
    """With which rights a file is read: /proc/self/status (proc(5))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def functions(elf: ElfFile, function: Function) -> dict[str, Any]:
    """``FoundFunctions``."""
    return asdict(find_functions(elf, function))


def like(elf: ElfFile, wanted: str) -> list[str]:
    """Names of functions near ``wanted``."""
    return list(islice(names_like(elf, wanted), _MOST_NAMES))


def source_line(elf: ElfFile, wanted: SourceLine) -> dict[str, list[int]]:
    """``offsets`` in the file at which the line's code begins; if none, ``near``: lines that have code."""
    found = find_line(elf, wanted)
    for debug in debug_files(elf) if not (found.addresses or found.other_lines) else ():
        found = find_line(debug, wanted)
    offsets = (elf.file_offset(address) for address in found.addresses)
    near = sorted(found.other_lines, key=lambda line: (abs(line - wanted.line), line))[:3]
    return {"offsets": [offset for offset in offsets if offset is not None], "near": near}


def syscalls(elf: ElfFile, numbers: list[int]) -> list[tuple[int, bool]]:
    """File offsets right before these system calls; True: which call it is, eax must tell."""
    sites = sorted(syscall_sites(elf, set(numbers)).items())
    found = ((elf.file_offset(site), any_call) for site, any_call in sites)
    return [(offset, any_call) for offset, any_call in found if offset is not None]


def needed(elf: ElfFile) -> list[str]:
    """Names of the libraries that it asks for (DT_NEEDED)."""
    return [os.fsdecode(name) for name in _needed(elf)]


def _needed(elf: ElfFile) -> Iterator[bytes]:
    segment = next((s for s in elf.segments if s.type == PT_DYNAMIC), None)
    if segment is None or elf.bits != 64:
        return
    entries = list(_DYN.iter_unpack(elf.read(segment.offset, segment.filesz // _DYN.size * _DYN.size)))
    names_at = next((elf.file_offset(value) for tag, value in entries if tag == _DT_STRTAB), None)
    for tag, value in entries:
        if tag == _DT_NEEDED and names_at is not None:
            size = min(_LONGEST_NAME, elf.size - names_at - value)
            yield elf.read(names_at + value, size).partition(b"\0")[0]


def loader_hook(elf: ElfFile) -> list[int]:
    """Address and file offset of where a dynamic loader says that libraries came; [0, 0] without one."""
    found = [*elf.dynsym.named(_LOADER_SAYS), *elf.symtab.named(_LOADER_SAYS)]
    offset = elf.file_offset(found[0].value) if found and elf.bits == 64 else None
    return [found[0].value, offset] if offset is not None else [0, 0]


def build_id(elf: ElfFile) -> str:
    """Its GNU build id, in hexadecimal; "" without one."""
    return elf.build_id.hex()
