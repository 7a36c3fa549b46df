"""What an ELF file says of itself: segments, build id, where its functions are.  See elf(5).

Files of traced programs are hostile input: every offset and size is checked against the file, tables are
read with a limit, and all that does not fit raises ``ElfError``.  Files are read (pread), not mapped: a
mapped file that somebody cuts short kills its reader with SIGBUS.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from clew.code import opening
from clew.code.elf_symbols import SymbolTable
from clew.errors import ClewError

PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_GNU_EH_FRAME = 1, 2, 3, 4, 0x6474E550
PF_X = 1
SHT_SYMTAB, SHT_NOBITS, SHT_DYNSYM = 2, 8, 11
SHF_EXECINSTR, SHF_COMPRESSED = 4, 0x800
ET_EXEC, ET_DYN = 2, 3
EM_X86_64 = 62

_DT_NEEDED, _DT_SONAME, _DT_FLAGS_1, _DF_1_PIE = 1, 14, 0x6FFFFFFB, 0x08000000
_NT_GNU_BUILD_ID = 3
_PAGE = 4096
# The largest real string tables (browsers with symbols) are near 300 MiB; a sparse file can claim any size.
_MAX_TABLE = 512 << 20
_MAX_SMALL = 1 << 20
# Of headers, and of notes all together: what is read here must be read in a moment, whatever the file says.
_MAX_HEADERS = 8 << 20
_MAX_PROGRAM_HEADERS = 1 << 16  # as the kernel's (fs/binfmt_elf.c, load_elf_phdrs)
_LONGEST_SECTION_NAME = 256
_IDENTITY = ("st_dev", "st_ino", "st_size", "st_mtime_ns")


class ElfError(ClewError):
    """A file that is no ELF file, or one whose tables contradict themselves.  ``name`` says which."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(f"{name}: {cause}")
        self.name = name


@dataclass(frozen=True, slots=True)
class Segment:
    """A program header: ``filesz`` bytes at ``offset`` of the file appear at ELF address ``vaddr``."""

    type: int
    flags: int
    offset: int
    vaddr: int
    filesz: int
    memsz: int


@dataclass(frozen=True, slots=True)
class Section:
    """A section header.  ``size`` is as the file claims; ``ElfFile.read`` checks it."""

    name: bytes
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True, slots=True)
class _Class:
    """How one ELF class (32 or 64 bits) lays out its headers."""

    ehdr: str
    phdr: str
    shdr: str
    dyn: str


_CLASSES = {
    1: _Class("<HHIIIIIHHHHHH", "<IIIIIIII", "<IIIIIIIIII", "<II"),
    2: _Class("<HHIQQQIHHHHHH", "<IIQQQQQQ", "<IIQQQQIIQQ", "<QQ"),
}


class ElfFile:
    """One little-endian ELF file.  Headers are read at once, everything else when it is asked for.

    ``read_at(offset, size)`` gives up to ``size`` bytes of it; ``size`` is its length in bytes.  No
    descriptor is kept between reads, so thousands may be held at a time; as a context manager it only
    marks how long it is used.
    """

    def __init__(self, name: str, size: int, read_at: Callable[[int, int], bytes]) -> None:
        self.name = name
        self.size = size
        self._read_at = read_at
        self.fd = -1
        self._parse_header()

    @classmethod
    def open(cls, path: Path) -> ElfFile:
        """Raises OSError if the file cannot be opened, ElfError if it is not a regular ELF file."""
        fd = opening.opener(path)
        try:
            first = os.fstat(fd)
        finally:
            os.close(fd)
        if not stat.S_ISREG(first.st_mode):
            raise ElfError(str(path), "not a regular file.")
        return cls(str(path), first.st_size, lambda offset, size: _read_same(path, first, offset, size))

    @classmethod
    def from_fd(cls, fd: int, name: str) -> ElfFile:
        """The ELF file behind a descriptor, which stays the caller's and has to stay open."""
        elf = cls(name, os.fstat(fd).st_size, lambda offset, size: os.pread(fd, size, offset))
        elf.fd = fd
        return elf

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> ElfFile:
        """An ELF file that is in memory (the vDSO, an unpacked ``.gnu_debugdata``)."""
        return cls(name, len(data), lambda offset, size: data[offset : offset + size])

    def __enter__(self) -> ElfFile:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, offset: int, size: int, limit: int = _MAX_TABLE) -> bytes:
        """Exactly ``size`` bytes from ``offset``, or ElfError (past the end, above the limit, unreadable)."""
        if not 0 <= size <= limit or not 0 <= offset <= self.size - size:
            raise ElfError(self.name, f"says it has {size} bytes at {offset:#x}, which it cannot have.")
        try:
            data = self._read_at(offset, size)
        except OSError as error:
            raise ElfError(self.name, f"cannot be read: {error.strerror}.") from error
        if len(data) != size:
            raise ElfError(self.name, "became shorter while it was read.")
        return data

    def _parse_header(self) -> None:
        ident = self.read(0, 16)
        if ident[:4] != b"\x7fELF":
            raise ElfError(self.name, "not an ELF file.")
        if ident[4] not in _CLASSES or ident[5] != 1:
            raise ElfError(self.name, "neither 32 nor 64 bits little-endian ELF.")
        self.bits = 32 * ident[4]
        self._layout = _CLASSES[ident[4]]
        header = self.read(16, struct.calcsize(self._layout.ehdr))
        (
            self.type,
            self.machine,
            _version,
            self.entry,
            self._phoff,
            self._shoff,
            _flags,
            _ehsize,
            self._phentsize,
            self._phnum,
            self._shentsize,
            self._shnum,
            self._shstrndx,
        ) = struct.unpack(self._layout.ehdr, header)

    def _rows(
        self, offset: int, count: int, entsize: int, layout: str, limit: int = _MAX_HEADERS
    ) -> list[tuple[int, ...]]:
        if count and entsize != struct.calcsize(layout):
            raise ElfError(self.name, f"has header entries of {entsize} bytes.")
        return list(struct.iter_unpack(layout, self.read(offset, count * entsize, limit)))

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """Program headers, in file order."""
        layout = self._layout.phdr
        rows = self._rows(self._phoff, self._phnum, self._phentsize, layout, _MAX_PROGRAM_HEADERS)
        if self.bits == 32:
            return tuple(Segment(t, flags, off, va, fsz, msz) for t, off, va, _, fsz, msz, flags, _ in rows)
        return tuple(Segment(t, flags, off, va, fsz, msz) for t, flags, off, va, _, fsz, msz, _ in rows)

    @property
    def segments_offset(self) -> int:
        """Where the file holds its program headers."""
        return int(self._phoff)

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """Section headers, in file order; () where they were stripped."""
        if not self._shoff:
            return ()
        first = self._rows(self._shoff, 1, self._shentsize, self._layout.shdr)[0]
        # More than 0xff00 sections: the true numbers are in the first header (elf(5)).
        count = self._shnum or first[5]
        names_at = first[6] if self._shstrndx == 0xFFFF else self._shstrndx
        rows = self._rows(self._shoff, count, self._shentsize, self._layout.shdr)
        if names_at >= len(rows):
            raise ElfError(self.name, "names its sections by a table that it does not have.")
        names = self.read(rows[names_at][4], rows[names_at][5], _MAX_HEADERS)
        return tuple(
            Section(_name_at(names, row[0]), row[1], row[2], row[3], row[4], row[5], row[6]) for row in rows
        )

    def section(self, name: bytes) -> Section | None:
        """The first section of that name."""
        return next((section for section in self.sections if section.name == name), None)

    def section_bytes(self, section: Section) -> bytes:
        """What the section holds in the file: b"" for NOBITS.  Not decompressed."""
        return b"" if section.type == SHT_NOBITS else self.read(section.offset, section.size)

    def _segment_bytes(self, kind: int) -> Iterator[bytes]:
        """The segments of a kind, up to ``_MAX_SMALL`` bytes all together."""
        left = _MAX_SMALL
        for segment in self.segments:
            if segment.type == kind:
                yield self.read(segment.offset, segment.filesz, left)
                left -= segment.filesz

    @cached_property
    def build_id(self) -> bytes:
        """The GNU build id; b"" if it has none."""
        for note in self._segment_bytes(PT_NOTE):
            if found := _build_id_in(note):
                return found
        # Separate debug files, and some linkers' output, keep the note in a section alone.
        section = self.section(b".note.gnu.build-id")
        return _build_id_in(self.read(section.offset, section.size, _MAX_SMALL)) if section else b""

    @cached_property
    def interp(self) -> bytes:
        """Path of the program interpreter (the dynamic loader); b"" if it asks for none."""
        return next((path.partition(b"\0")[0] for path in self._segment_bytes(PT_INTERP)), b"")

    @cached_property
    def _dynamic(self) -> dict[int, int]:
        data = b"".join(self._segment_bytes(PT_DYNAMIC))
        size = struct.calcsize(self._layout.dyn)
        return dict(struct.iter_unpack(self._layout.dyn, data[: len(data) // size * size]))

    @property
    def is_pie(self) -> bool:
        """A program that can be loaded anywhere.  Libraries are not; some of them have an interpreter."""
        if self.type != ET_DYN:
            return False
        says_so = bool(self._dynamic.get(_DT_FLAGS_1, 0) & _DF_1_PIE)
        return says_so or (bool(self.interp) and _DT_SONAME not in self._dynamic)

    @property
    def is_static(self) -> bool:
        """A program that no dynamic loader starts: its own entry is the first instruction that runs."""
        return (self.type == ET_EXEC or self.is_pie) and not self.interp

    def bias(self, start: int, file_offset: int) -> int | None:
        """Run-time address minus ELF address, for this file mapped at ``start`` from ``file_offset`` on.

        None if no segment of the file can have been mapped so.
        """
        executable = [s for s in self.segments if s.type == PT_LOAD and s.flags & PF_X]
        for s in executable:
            if s.offset & -_PAGE <= file_offset < s.offset + s.filesz:
                return start - file_offset - s.vaddr + s.offset
        return None

    def file_offset(self, address: int) -> int | None:
        """Where the file holds what is at ELF ``address`` (what a uprobe takes); None if nowhere."""
        for s in self.segments:
            if s.type == PT_LOAD and s.vaddr <= address < s.vaddr + s.filesz:
                return address - s.vaddr + s.offset
        return None

    def code_at(self, address: int, size: int) -> bytes:
        """Up to ``size`` bytes of the file at ELF ``address``; b"" where it has none."""
        offset = self.file_offset(address)
        if offset is None or offset >= self.size:
            return b""
        return self.read(offset, min(size, self.size - offset), _MAX_SMALL)

    @cached_property
    def symtab(self) -> SymbolTable:
        """The full symbol table, which ``strip`` removes; empty then."""
        return self._symbols(SHT_SYMTAB)

    @cached_property
    def dynsym(self) -> SymbolTable:
        """The symbols exported to, and imported by, the dynamic linker.  They survive ``strip``."""
        return self._symbols(SHT_DYNSYM)

    def _symbols(self, kind: int) -> SymbolTable:
        table = next((s for s in self.sections if s.type == kind), None)
        if table is None or table.link >= len(self.sections):
            return SymbolTable(b"", b"", self.bits, ())
        strings = self.sections[table.link]
        code = tuple(
            (index, section.address, section.address + section.size)
            for index, section in enumerate(self.sections)
            if section.flags & SHF_EXECINSTR
        )
        return SymbolTable(self.section_bytes(table), self.section_bytes(strings), self.bits, code)


def _read_same(path: Path, first: os.stat_result, offset: int, size: int) -> bytes:
    """Read the file at ``path`` if it is still the one that ``first`` describes."""
    fd = opening.opener(path)
    try:
        now = os.fstat(fd)
        if any(getattr(now, what) != getattr(first, what) for what in _IDENTITY):
            raise ElfError(str(path), "was replaced while it was read.")
        return os.pread(fd, size, offset)
    finally:
        os.close(fd)


def _name_at(names: bytes, at: int) -> bytes:
    return names[at : at + _LONGEST_SECTION_NAME].partition(b"\0")[0]


def _build_id_in(notes: bytes) -> bytes:
    """The build id among the notes of one PT_NOTE segment or note section, else b""."""
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, at)
        name_at = at + 12
        data_at = name_at + (name_size + 3 & ~3)
        if kind == _NT_GNU_BUILD_ID and notes[name_at : name_at + name_size] == b"GNU\0":
            return notes[data_at : data_at + size]
        at = data_at + (size + 3 & ~3)
    return b""
