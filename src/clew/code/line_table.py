"""The addresses of a source line: the line number programs of an ELF file (DWARF 5, section 6.2; 2 to 4 too).

drgn and libdw answer "which line is this address"; a breakpoint needs the opposite.  The tables are hostile
input: every read is checked against the section, and a unit that does not make sense is left out.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from clew.code.elf import SHF_COMPRESSED, ElfError, ElfFile
from clew.model.rules.rule import SourceLine

_LIMIT = 512 << 20
_LONGEST_TEXT = 1 << 16
_FORM_STRING, _FORM_BLOCK, _FORM_STRP, _FORM_LINE_STRP = 0x08, 0x09, 0x0E, 0x1F
_FORM_DATA1, _FORM_DATA2, _FORM_DATA4, _FORM_DATA8, _FORM_DATA16 = 0x0B, 0x05, 0x06, 0x07, 0x1E
_FORM_UDATA = 0x0F
_FIXED = {_FORM_DATA1: 1, _FORM_DATA2: 2, _FORM_DATA4: 4, _FORM_DATA8: 8, _FORM_DATA16: 16}
_PATH, _DIRECTORY = 1, 2  # DW_LNCT_*


class BadTable(Exception):
    """A table that contradicts itself."""


class Bytes:
    """A place in a section, moving on with each read.  Raises BadTable past the end."""

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self._data, self.at = data, at
        self.end = len(data) if end is None else min(end, len(data))

    def elsewhere(self, at: int) -> Bytes:
        """Another place in the same data, with the same end."""
        return Bytes(self._data, at, self.end)

    def number(self, size: int) -> int:
        """An unsigned number of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little")

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if size < 0 or self.at + size > self.end:
            raise BadTable
        self.at += size
        return self._data[self.at - size : self.at]

    def text(self) -> bytes:
        """A string that ends in NUL."""
        stop = self._data.find(b"\0", self.at, min(self.end, self.at + _LONGEST_TEXT))
        if stop < 0:
            raise BadTable
        found = self._data[self.at : stop]
        self.at = stop + 1
        return found

    def leb(self, signed: bool = False) -> int:
        """A LEB128 number."""
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value - (1 << shift) if signed and byte & 0x40 else value
            if shift > 70:
                raise BadTable


@dataclass(slots=True)
class Unit:
    """One line number program: its header, and where its instructions are."""

    program: Bytes
    minimum: int
    default_is_stmt: bool
    line_base: int
    line_range: int
    opcode_base: int
    lengths: tuple[int, ...]
    first_file: int
    address_size: int
    files: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: the code from ``address`` on belongs to this line."""

    address: int
    file: int
    line: int
    is_stmt: bool
    end: bool


@dataclass(slots=True)
class Found:
    """Addresses where the line begins; if there are none, lines near it that have code."""

    addresses: list[int] = field(default_factory=list)
    other_lines: set[int] = field(default_factory=set)


def find_line(elf: ElfFile, wanted: SourceLine) -> Found:
    """ELF addresses at which the code of ``wanted`` begins, each inlined copy's too."""
    found = Found()
    strings = {name: _section(elf, name) for name in (b".debug_str", b".debug_line_str")}
    data = _section(elf, b".debug_line")
    name = wanted.file.rpartition(b"/")[2]
    if name not in data and name not in strings[b".debug_line_str"]:
        return found
    for unit in _units(data, strings):
        files = {index for index, path in enumerate(unit.files, unit.first_file) if _is_file(wanted, path)}
        if files:
            _search(unit, files, wanted.line, found)
    found.addresses = sorted(set(found.addresses))
    return found


def _is_file(wanted: SourceLine, path: bytes) -> bool:
    return wanted.matches(path, wanted.line)


def _search(unit: Unit, files: set[int], line: int, found: Found) -> None:
    before: Row | None = None
    try:
        for row in _rows(unit):
            if row.file in files and not row.end and row.is_stmt:
                same = before is not None and not before.end and before.file == row.file
                if row.line != line:
                    found.other_lines.add(row.line)
                elif not (same and before is not None and before.line == line):
                    found.addresses.append(row.address)
            before = row
    except BadTable:
        return


def _section(elf: ElfFile, name: bytes) -> bytes:
    try:
        section = elf.section(name)
        if section is None:
            return b""
        data = elf.section_bytes(section)
        if not section.flags & SHF_COMPRESSED:
            return data
        kind, _pad, size, _align = struct.unpack_from("<IIQQ", data)
        # ELFCOMPRESS_ZLIB; zstd (2) is not in Python's standard library.
        if kind != 1 or size > _LIMIT:
            return b""
        return zlib.decompressobj().decompress(data[24:], size)
    except (ElfError, zlib.error, struct.error):
        return b""


def _units(data: bytes, strings: dict[bytes, bytes]) -> Iterator[Unit]:
    at = 0
    while at + 4 < len(data):
        start, head = at, Bytes(data, at)
        try:
            length, wide = head.number(4), False
            if length == 0xFFFFFFFF:
                length, wide = head.number(8), True
            at = head.at + length
            head.end = min(at, len(data))
            unit = _header(head, wide, strings)
        except BadTable:
            if at <= start:
                return
            continue
        yield unit


def _header(head: Bytes, wide: bool, strings: dict[bytes, bytes]) -> Unit:
    version = head.number(2)
    if not 2 <= version <= 5:
        raise BadTable
    address_size = 8
    if version >= 5:
        address_size = head.number(1)
        head.number(1)
    header_length = head.number(8 if wide else 4)
    program_at = head.at + header_length
    minimum = head.number(1)
    if version >= 4:
        head.number(1)
    default_is_stmt = bool(head.number(1))
    line_base = int.from_bytes(head.take(1), "little", signed=True)
    line_range, opcode_base = head.number(1), head.number(1)
    if not line_range or not opcode_base:
        raise BadTable
    lengths = (0, *(head.number(1) for _ in range(opcode_base - 1)))
    program = head.elsewhere(program_at)
    first = 0 if version >= 5 else 1
    unit = Unit(
        program, minimum, default_is_stmt, line_base, line_range, opcode_base, lengths, first, address_size
    )
    unit.files = _files_5(head, wide, strings) if version >= 5 else _files_2(head)
    return unit


def _files_2(head: Bytes) -> list[bytes]:
    folders = [b""]
    while folder := head.text():
        folders.append(folder)
    files = []
    while name := head.text():
        folder_at = head.leb()
        head.leb()
        head.leb()
        files.append(_joined(folders[folder_at] if folder_at < len(folders) else b"", name))
    return files


def _files_5(head: Bytes, wide: bool, strings: dict[bytes, bytes]) -> list[bytes]:
    folders = [path for path, _ in _entries(head, wide, strings)]
    return [
        _joined(folders[folder] if folder < len(folders) else b"", path)
        for path, folder in _entries(head, wide, strings)
    ]


def _entries(head: Bytes, wide: bool, strings: dict[bytes, bytes]) -> list[tuple[bytes, int]]:
    formats = [(head.leb(), head.leb()) for _ in range(head.number(1))]
    entries = []
    count = head.leb()
    # Each entry takes a byte or more, but for those of no format, of which there can be any number.
    if count > head.end - head.at or (count and not formats):
        raise BadTable
    for _ in range(count):
        path, folder = b"", 0
        for content, form in formats:
            value = _value(head, form, wide, strings)
            if content == _PATH and isinstance(value, bytes):
                path = value
            elif content == _DIRECTORY and isinstance(value, int):
                folder = value
        entries.append((path, folder))
    return entries


def _value(head: Bytes, form: int, wide: bool, strings: dict[bytes, bytes]) -> bytes | int:
    if form in _FIXED:
        return head.number(_FIXED[form])
    match form:
        case 0x08:
            return head.text()
        case 0x0E | 0x1F:
            table = strings[b".debug_str" if form == _FORM_STRP else b".debug_line_str"]
            return Bytes(table, head.number(8 if wide else 4)).text()
        case 0x0F:
            return head.leb()
        case 0x09:
            return head.take(head.leb())
    raise BadTable


def _joined(folder: bytes, name: bytes) -> bytes:
    return name if name.startswith(b"/") or not folder else folder + b"/" + name


def _rows(unit: Unit) -> Iterator[Row]:
    """Run the program (DWARF 5, 6.2.5)."""
    code = unit.program
    address, file, line, is_stmt = 0, 1, 1, unit.default_is_stmt
    while code.at < code.end:
        opcode = code.number(1)
        if opcode >= unit.opcode_base:
            step, delta = divmod(opcode - unit.opcode_base, unit.line_range)
            address += step * unit.minimum
            line += unit.line_base + delta
            yield Row(address, file, line, is_stmt, False)
        elif opcode == 0:
            size = code.leb()
            stop = code.at + size
            kind = code.number(1)
            if kind == 1:
                yield Row(address, file, line, is_stmt, True)
                address, file, line, is_stmt = 0, 1, 1, unit.default_is_stmt
            elif kind == 2:
                address = code.number(size - 1)
            code.at = stop
        elif opcode == 1:
            yield Row(address, file, line, is_stmt, False)
        elif opcode == 2:
            address += code.leb() * unit.minimum
        elif opcode == 3:
            line += code.leb(signed=True)
        elif opcode == 4:
            file = code.leb()
        elif opcode == 6:
            is_stmt = not is_stmt
        elif opcode == 8:
            address += (255 - unit.opcode_base) // unit.line_range * unit.minimum
        elif opcode == 9:
            address += code.number(2)
        else:
            for _ in range(unit.lengths[opcode]):
                code.leb()
