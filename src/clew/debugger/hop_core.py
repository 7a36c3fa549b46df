"""A core file of a task as a recording saw it: its registers, the saved part of its stack, its mapped files.

No debugger can find a program's libraries without the list that the dynamic loader keeps in memory, and that
was not recorded.  It is made up here (``struct r_debug``, link.h) from where the files were mapped, and put
where the program's dynamic section points at: gdb, LLDB and drgn then read symbols and unwinding tables from
the files.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clew.code.elf import PT_DYNAMIC, PT_LOAD, ElfError, ElfFile
from clew.debugger.core_file import CoreTask, FileMapping, Memory, core_file
from clew.model.frame import Mapping, StackSample
from clew.model.task import Image, TaskId
from clew.stack.modules import own_vdso

_PAGE = 4096
_LISTED_AT = 0x100000  # below where any program is linked or mapped (vm.mmap_min_addr is 64 KiB)
_DT_DEBUG = 21
_LINK = struct.Struct("<QQQQQ")  # l_addr, l_name, l_ld, l_next, l_prev
_R_DEBUG = struct.Struct("<ixxxxQQixxxxQ")  # r_version, r_map, r_brk, r_state, r_ldbase
_AT_PHDR, _AT_PHENT, _AT_PHNUM, _AT_PAGESZ, _AT_BASE, _AT_ENTRY, _AT_SYSINFO_EHDR = 3, 4, 5, 6, 7, 9, 33
_PHDR_SIZE = 56


@dataclass(frozen=True, slots=True)
class _Mapped:
    """A file of the process: where its ELF address 0 is, and itself, as far as it can be read."""

    path: bytes
    bias: int
    elf: ElfFile


def hop_core(
    task: TaskId, comm: bytes, image: Image, sample: StackSample, mappings: Sequence[Mapping]
) -> tuple[bytes, list[str]]:
    """The core file, and what a reader should know that it lacks, in sentences."""
    mapped, missing = _files(mappings)
    program = next((one for one in mapped if one.path == image.exe), None)
    memory = [Memory(sample.sp, sample.data)]
    memory += [piece for one in mapped for piece in _headers(one)]
    memory += _loader_list(program, mapped) if program else []
    memory += [vdso for one in mappings if one.path == b"[vdso]" and (vdso := _vdso(one))]
    core = core_file(
        CoreTask(task.pid, task.tid, comm, image.argv, image.uid, image.gid, sample.registers),
        _without_overlaps(memory),
        [each for one in mapped for each in _segments(one)]
        + [_as_file(one) for one in mappings if one.path.startswith(b"/")],
        _auxv(program, mapped, mappings),
    )
    return core, missing


def _files(mappings: Sequence[Mapping]) -> tuple[list[_Mapped], list[str]]:
    """Each mapped file once, in the order of addresses; what cannot be used, with the reason."""
    found: dict[bytes, _Mapped] = {}
    missing = []
    for mapping in mappings:
        if mapping.path in found or not mapping.path.startswith(b"/"):
            continue
        try:
            elf = ElfFile.open(Path(os.fsdecode(mapping.path)))
            bias = elf.bias(mapping.start, mapping.file_offset)
            if bias is None or (mapping.build_id and elf.build_id != mapping.build_id):
                raise ElfError(elf.name, "is not the file that ran: it was replaced since.")
            found[mapping.path] = _Mapped(mapping.path, bias, elf)
        except OSError as error:
            missing.append(f"{os.fsdecode(mapping.path)}: {error.strerror}.")
        except ElfError as error:
            missing.append(error.cause)
    return list(found.values()), missing


def _headers(one: _Mapped) -> Iterator[Memory]:
    """The file's first page, with its ELF header and, as a rule, its build id."""
    with suppress(ElfError):
        first = next((segment for segment in one.elf.segments if segment.type == PT_LOAD), None)
        if first is not None and first.offset == 0:
            yield Memory(one.bias + first.vaddr, one.elf.read(0, min(_PAGE, one.elf.size)))


def _segments(one: _Mapped) -> Iterator[FileMapping]:
    for segment in one.elf.segments:
        if segment.type == PT_LOAD and segment.filesz:
            start = one.bias + segment.vaddr & -_PAGE
            end = one.bias + segment.vaddr + segment.filesz + _PAGE - 1 & -_PAGE
            yield FileMapping(start, end, segment.offset & -_PAGE, one.path)


def _as_file(mapping: Mapping) -> FileMapping:
    return FileMapping(mapping.start, mapping.end, mapping.file_offset, mapping.path)


def _dynamic(one: _Mapped) -> tuple[int, bytes]:
    """Where the file's dynamic section is in the process, and what it holds; (0, b"") if it has none."""
    for segment in one.elf.segments:
        if segment.type == PT_DYNAMIC:
            return one.bias + segment.vaddr, one.elf.read(segment.offset, segment.filesz, 1 << 20)
    return 0, b""


def _dynamic_address(one: _Mapped) -> int:
    try:
        return _dynamic(one)[0]
    except ElfError:
        return 0


def _loader_list(program: _Mapped, mapped: Sequence[_Mapped]) -> list[Memory]:
    """``r_debug`` with its list of files, and the program's dynamic section that points at it."""
    try:
        address, dynamic = _dynamic(program)
    except ElfError:
        return []
    words = list(struct.iter_unpack("<QQ", dynamic[: len(dynamic) // 16 * 16]))
    if not any(tag == _DT_DEBUG for tag, _ in words):
        return []
    pointing = b"".join(struct.pack("<QQ", tag, _LISTED_AT if tag == _DT_DEBUG else to) for tag, to in words)
    libraries = [program, *(one for one in mapped if one is not program)]
    return [Memory(address, pointing), Memory(_LISTED_AT, _listed(libraries, program))]


def _listed(libraries: Sequence[_Mapped], program: _Mapped) -> bytes:
    first = _LISTED_AT + _R_DEBUG.size
    names_at = first + _LINK.size * len(libraries)
    links, names = b"", b""
    for at, one in enumerate(libraries):
        own = first + at * _LINK.size
        following = own + _LINK.size if at + 1 < len(libraries) else 0
        before = own - _LINK.size if at else 0
        links += _LINK.pack(one.bias, names_at + len(names), _dynamic_address(one), following, before)
        names += (b"" if one is program else one.path) + b"\0"
    return _R_DEBUG.pack(1, first, 0, 0, 0) + links + names


def _auxv(
    program: _Mapped | None, mapped: Sequence[_Mapped], mappings: Sequence[Mapping]
) -> list[tuple[int, int]]:
    pairs = [(_AT_PAGESZ, _PAGE)]
    pairs += [(_AT_SYSINFO_EHDR, one.start) for one in mappings if one.path == b"[vdso]"]
    if program is None:
        return pairs
    elf = program.elf
    pairs += [(_AT_ENTRY, program.bias + elf.entry), (_AT_PHENT, _PHDR_SIZE), (_AT_PHNUM, len(elf.segments))]
    pairs.append((_AT_PHDR, _segments_address(program)))
    with suppress(ElfError):
        loader = next((one for one in mapped if one.path.rpartition(b"/")[2] == _name(elf.interp)), None)
        if loader:
            pairs.append((_AT_BASE, loader.bias))
    return pairs


def _segments_address(program: _Mapped) -> int:
    """Where the program headers are in the process."""
    offset = program.elf.segments_offset
    for segment in program.elf.segments:
        if segment.type == PT_LOAD and segment.offset <= offset < segment.offset + segment.filesz:
            return program.bias + segment.vaddr + offset - segment.offset
    return 0


def _name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]


def _vdso(mapping: Mapping) -> Memory | None:
    """This kernel's vDSO, out of our own memory: the same in all its 64-bit processes (vdso(7))."""
    try:
        elf = own_vdso()
        return Memory(mapping.start, elf.read(0, elf.size))
    except (OSError, ElfError):
        return None


def _without_overlaps(memory: Sequence[Memory]) -> list[Memory]:
    """Sorted, the first of two that claim the same address kept whole."""
    kept: list[Memory] = []
    for piece in memory:
        if not any(_overlap(piece, one) for one in kept):
            kept.append(piece)
    return sorted(kept, key=lambda piece: piece.address)


def _overlap(one: Memory, other: Memory) -> bool:
    return one.address < other.address + len(other.data) and other.address < one.address + len(one.data)
