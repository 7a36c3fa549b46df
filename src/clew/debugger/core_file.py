"""An ELF core file as elf(5) and the kernel's fs/binfmt_elf.c lay it out: notes, and pieces of memory.

Only x86-64: that is whose registers clew records.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_NOTE = struct.Struct("<III")
_ET_CORE, _EM_X86_64, _PT_LOAD, _PT_NOTE = 4, 62, 1, 4
_NT_PRSTATUS, _NT_PRPSINFO, _NT_AUXV, _NT_FILE = 1, 3, 6, 0x46494C45
_R, _W, _X = 4, 2, 1
# include/linux/elfcore.h: struct elf_prstatus, elf_prpsinfo on x86-64.
_PRSTATUS = struct.Struct("<iiihxxQQiiii64x216sixxxx")
_PRPSINFO = struct.Struct("<BcBBxxxxQIIiiii16s80s")
_SEGMENTS = struct.pack("<6Q", 0, 0, 0, 0, 0, 0)  # fs_base, gs_base, ds, es, fs, gs: not recorded


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at an address of the process."""

    address: int
    data: bytes


@dataclass(frozen=True, slots=True)
class FileMapping:
    """A file at [start, end) of the process, from ``offset`` bytes on."""

    start: int
    end: int
    offset: int
    path: bytes


@dataclass(frozen=True, slots=True)
class CoreTask:
    """Whose core it is.  ``registers`` is a ``struct pt_regs`` of x86-64 (168 bytes)."""

    pid: int
    tid: int
    comm: bytes
    argv: tuple[bytes, ...]
    uid: int
    gid: int
    registers: bytes


def core_file(
    task: CoreTask, memory: Sequence[Memory], files: Sequence[FileMapping], auxv: Sequence[tuple[int, int]]
) -> bytes:
    """The bytes of a core file with one thread.  ``auxv``: pairs as getauxval(3) has them."""
    notes = b"".join(
        (
            _note(_NT_PRSTATUS, _status(task)),
            _note(_NT_PRPSINFO, _process(task)),
            _note(_NT_AUXV, b"".join(struct.pack("<QQ", *pair) for pair in (*auxv, (0, 0)))),
            _note(_NT_FILE, _file_note(files)),
        )
    )
    count = 1 + len(memory)
    at = _EHDR.size + count * _PHDR.size
    headers = [_PHDR.pack(_PT_NOTE, 0, at, 0, 0, len(notes), 0, 4)]
    at += len(notes)
    for piece in memory:
        size = len(piece.data)
        headers.append(_PHDR.pack(_PT_LOAD, _R | _W | _X, at, piece.address, 0, size, size, 1))
        at += size
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = _EHDR.pack(
        ident, _ET_CORE, _EM_X86_64, 1, 0, _EHDR.size, 0, 0, _EHDR.size, _PHDR.size, count, 0, 0, 0
    )
    return b"".join((head, *headers, notes, *(piece.data for piece in memory)))


def _note(kind: int, description: bytes) -> bytes:
    name = b"CORE\0"
    padded = description + bytes(-len(description) % 4)
    return _NOTE.pack(len(name), len(description), kind) + name.ljust(8, b"\0") + padded


def _status(task: CoreTask) -> bytes:
    registers = task.registers + _SEGMENTS
    return _PRSTATUS.pack(0, 0, 0, 0, 0, 0, task.tid, 0, task.pid, 0, registers, 0)


def _process(task: CoreTask) -> bytes:
    arguments = b" ".join(task.argv)
    return _PRPSINFO.pack(
        0, b"S", 0, 0, 0, task.uid, task.gid, task.pid, 0, task.pid, 0, task.comm[:15], arguments[:79]
    )


def _file_note(files: Sequence[FileMapping]) -> bytes:
    """A count, the page size (1: offsets are in bytes), three numbers a mapping, then the names."""
    numbers = [number for one in files for number in (one.start, one.end, one.offset)]
    names = b"".join(one.path.replace(b"\0", b"") + b"\0" for one in files)
    return struct.pack(f"<{2 + len(numbers)}Q", len(files), 1, *numbers) + names
