"""What a held task is, and where it stands: quickly, by the ELF symbols alone (``backtrace`` has lines)."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

from clew.code.demangle import demangle
from clew.code.elf import ElfFile
from clew.errors import ClewError
from clew.kernel import procfs, ptrace
from clew.model.frame import Frame, Mapping

_MOST_STACK = 1 << 20
_PAGE = os.sysconf("SC_PAGESIZE")
_IP_AT = 16 * 8
_SP_AT = 19 * 8
_PATIENCE_S = 1.0
_HANGS: set[bytes] = set()
"""Paths of files that were waited for once."""


def instruction_pointer(registers: bytes) -> int:
    """The program counter in a ``struct pt_regs``."""
    return int(struct.unpack_from("<Q", registers, _IP_AT)[0])


def stack_pointer(registers: bytes) -> int:
    """The stack pointer in a ``struct pt_regs``."""
    return int(struct.unpack_from("<Q", registers, _SP_AT)[0])


def standing(pid: int, address: int) -> Frame:
    """The place in the code that ``address`` is in process ``pid``; no file and line.

    Whoever asks holds tasks, and enforces their leases: a file that hangs (on FUSE, NFS) is not waited for,
    and its functions have no names.
    """
    for mapping in procfs.mappings(pid):
        if mapping.start <= address < mapping.end:
            return _in_time(pid, mapping, address)
    return Frame("", b"", address)


def _in_time(pid: int, mapping: Mapping, address: int) -> Frame:
    found: list[Frame] = []
    if mapping.path not in _HANGS:
        reader = threading.Thread(
            target=lambda: found.append(_in_mapping(pid, mapping, address)), name="clew-names", daemon=True
        )
        reader.start()
        reader.join(_PATIENCE_S)
    if found:
        return found[0]
    _HANGS.add(mapping.path)
    return Frame("", mapping.path, address - mapping.start + mapping.file_offset)


def mapped_file(pid: int, mapping: Mapping) -> Path:
    """The very file that is mapped, whatever its path leads to now, in any mount namespace (proc(5)).

    Without CAP_CHECKPOINT_RESTORE: what the process finds by that path, which nearly always is the same.
    """
    pid = procfs.alive(pid)
    exact = Path(f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}")
    if os.access(exact, os.R_OK):
        return exact
    return Path(f"/proc/{pid}/root{os.fsdecode(mapping.path)}")


def _in_mapping(pid: int, mapping: Mapping, address: int) -> Frame:
    try:
        code = _code(mapped_file(pid, mapping))
    except (OSError, ClewError):
        return Frame("", mapping.path, address - mapping.start + mapping.file_offset)
    return code.frame(mapping, address)


class _Code:
    """The symbols of one file."""

    def __init__(self, file: Path) -> None:
        self._elf = ElfFile.open(file)

    def frame(self, mapping: Mapping, address: int) -> Frame:
        bias = self._elf.bias(mapping.start, mapping.file_offset)
        offset = address - (mapping.start - mapping.file_offset if bias is None else bias)
        return Frame(self._name(offset), mapping.path, offset)

    def _name(self, offset: int) -> str:
        symbol = self._elf.symtab.at(offset) or self._elf.dynsym.at(offset)
        if symbol is not None:
            return demangle(symbol.name)
        return "_start" if offset == self._elf.entry else ""


_CODES: dict[tuple[int, int, int], _Code] = {}
_MOST_CODES = 64


def _code(file: Path) -> _Code:
    status = file.stat()
    identity = (status.st_dev, status.st_ino, status.st_mtime_ns)
    if identity not in _CODES:
        if len(_CODES) == _MOST_CODES:
            _CODES.clear()
        _CODES[identity] = _Code(file)
    return _CODES[identity]


def stack_at(pid: int, sp: int) -> bytes:
    """A copy of the stack from ``sp`` to the end of its mapping, at most 1 MiB, or what of it can be read.

    Raises TaskGone or PermissionMissing if its memory cannot be read.
    """
    pid = procfs.alive(pid)
    end = next((end for start, end in _ranges(pid) if start <= sp < end), sp)
    try:
        return ptrace.read_memory(pid, sp, min(end - sp, _MOST_STACK)) if end > sp else b""
    except ClewError:
        return ptrace.read_memory(pid, sp, -sp % _PAGE or _PAGE)


def _ranges(pid: int) -> list[tuple[int, int]]:
    found = []
    for line in procfs.shared(pid, "maps").splitlines():
        low, _, high = line.split(b" ", 1)[0].partition(b"-")
        found.append((int(low, 16), int(high, 16)))
    return found
