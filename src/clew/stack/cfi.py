"""The call frame information of an ELF file, as a small ELF file of our own.

drgn unwinds by ``.eh_frame``.  Giving it the traced program's file would put all of that (hostile) file
before libelf, map it (SIGBUS if it is cut short meanwhile), and miss files whose section is of type
SHT_X86_64_UNWIND or whose section headers were stripped.  It gets ``.eh_frame`` alone instead, in a file
that we wrote.
"""

from __future__ import annotations

import os
import struct

from clew.code.elf import PT_GNU_EH_FRAME, PT_LOAD, ElfError, ElfFile

_DW_EH_PE_PCREL, _DW_EH_PE_DATAREL, _SDATA4, _ABSPTR = 0x10, 0x30, 0x0B, 0x00
_SHT_PROGBITS, _SHT_STRTAB, _SHF_ALLOC = 1, 3, 2
_NAMES = b"\0.text\0.got\0.eh_frame\0.shstrtab\0"
_MOST_ADDRESS = 1 << 48
# Browsers have some 20 MiB; a sparse file can claim any size, and each byte is copied twice.
_LARGEST = 64 << 20
_EHDR_SIZE, _PHDR_SIZE, _SHDR_SIZE = 64, 56, 64


def frame_table(elf: ElfFile) -> tuple[int, bytes] | None:
    """ELF address and bytes of ``.eh_frame``, found by its section or else by its search table.

    Raises ElfError if it is too large, or cannot be read.
    """
    try:
        section = elf.section(b".eh_frame")
        if section is not None and 0 < section.size <= _LARGEST:
            return section.address, elf.section_bytes(section)
    except ElfError:
        section = None  # programs run without section headers: the loader never reads them
    if section is not None and section.size:
        raise ElfError(elf.name, f"says its frame table has {section.size} bytes, which is too large.")
    address = _frames_by_header(elf)
    for s in elf.segments:
        if s.type == PT_LOAD and address and s.vaddr <= address < s.vaddr + s.filesz:
            # The terminating entry of length 0 ends the table; the segment may go on.
            size = min(s.vaddr + s.filesz - address, _LARGEST)
            return address, elf.read(s.offset + address - s.vaddr, size)
    return None


def _frames_by_header(elf: ElfFile) -> int:
    """Address of ``.eh_frame`` as PT_GNU_EH_FRAME (``.eh_frame_hdr``) tells it; 0 if it does not."""
    header = next((s for s in elf.segments if s.type == PT_GNU_EH_FRAME), None)
    if header is None or header.filesz < 12:
        return 0
    version, encoding = struct.unpack_from("<BB", elf.read(header.offset, 12))
    if version != 1 or encoding & 0x0F != _SDATA4:
        return 0
    (value,) = struct.unpack_from("<i", elf.read(header.offset, 12), 4)
    base = {_DW_EH_PE_PCREL: header.vaddr + 4, _DW_EH_PE_DATAREL: header.vaddr, _ABSPTR: 0}
    return int(base.get(encoding & 0x70, 0) + value) if encoding & 0x70 in base else 0


def write_frame_file(elf: ElfFile, address: int, frames: bytes) -> int:
    """An ELF file with nothing but the frame table: a memfd, the caller's to close.

    Its one segment begins at address 0, so that drgn's bias for it is where its module begins.  Raises
    ElfError if the table is at an address that cannot be.
    """
    if not 0 <= address <= address + len(frames) < _MOST_ADDRESS:
        raise ElfError(elf.name, "has its frame table at an address that no process has.")
    text, got = elf.section(b".text"), elf.section(b".got")
    frames_at = _EHDR_SIZE + _PHDR_SIZE
    names_at = frames_at + len(frames)
    table_at = (names_at + len(_NAMES) + 7) & -8
    sections = [
        bytes(_SHDR_SIZE),
        _section(b".text", _SHT_PROGBITS, text.address if text else 0, frames_at, 0),
        _section(b".got", _SHT_PROGBITS, got.address if got else 0, frames_at, 0),
        _section(b".eh_frame", _SHT_PROGBITS, address, frames_at, len(frames)),
        _section(b".shstrtab", _SHT_STRTAB, 0, names_at, len(_NAMES)),
    ]
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    counts = (_EHDR_SIZE, _PHDR_SIZE, 1, _SHDR_SIZE, len(sections), len(sections) - 1)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 3, elf.machine, 1, 0, _EHDR_SIZE, table_at, 0, *counts)
    extent = max(address + len(frames), names_at)
    segment = struct.pack("<IIQQQQQQ", PT_LOAD, 5, 0, 0, 0, names_at, extent, 4096)
    body = header + segment + frames + _NAMES
    fd = os.memfd_create("clew-frames", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(body.ljust(table_at, b"\0"))
        file.write(b"".join(sections))
    return fd


def _section(name: bytes, kind: int, address: int, offset: int, size: int) -> bytes:
    flags = _SHF_ALLOC if kind == _SHT_PROGBITS else 0
    name_at = _NAMES.index(name + b"\0")
    return struct.pack("<IIQQQQIIQQ", name_at, kind, flags, address & (2**64 - 1), offset, size, 0, 0, 1, 0)
