"""What a held task is, and where it stands: quickly, by the ELF symbols alone (``backtrace`` has lines)."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

from clew.code import reader
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
        asking = threading.Thread(
            target=lambda: found.append(_in_mapping(pid, mapping, address)), name="clew-names", daemon=True
        )
        asking.start()
        asking.join(_PATIENCE_S)
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
    offset = address - mapping.start + mapping.file_offset
    try:
        name, place = _known(mapped_file(pid, mapping), offset)
    except OSError:
        return Frame("", mapping.path, offset)
    return Frame(name, mapping.path, place)


_KNOWN: dict[tuple[int, int, int, int], tuple[str, int]] = {}
_MOST_KNOWN = 4096


def _known(file: Path, offset: int) -> tuple[str, int]:
    """Name and ELF address of the code at ``offset`` of the file; asked once: many tasks stand alike."""
    status = file.stat()
    place = (status.st_dev, status.st_ino, status.st_mtime_ns, offset)
    if place not in _KNOWN:
        if len(_KNOWN) == _MOST_KNOWN:
            _KNOWN.clear()
        # Others wait meanwhile: a name is worth no more than a moment.
        (answer,) = reader.ask(f"{reader.NAMES}:standing", [reader.Question((file,), (offset,))], seconds=1)
        name, address = answer.value or ("", offset)
        _KNOWN[place] = (str(name), int(address))
    return _KNOWN[place]


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
