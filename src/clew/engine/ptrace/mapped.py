"""Mapped files as the tracer reports them, with the build ids that the files themselves hold."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from clew.code.elf import ElfError, ElfFile
from clew.model.frame import Mapping

_HEAD = struct.Struct("<QQQQII")
_FRAME = 8


class MappedFiles:
    """Reads the ``maps`` ring.  A file's build id is read once per path."""

    def __init__(self) -> None:
        self._build_ids: dict[bytes, bytes] = {}
        self._pending = bytearray()

    def take(self, data: memoryview) -> Iterator[tuple[int, Mapping]]:
        """(pid, mapping) for each record in ``data``; one cut off by the ring's end waits for the rest."""
        self._pending += data
        at = 0
        while len(self._pending) - at >= _FRAME:
            length = int.from_bytes(self._pending[at : at + _FRAME], "little")
            end = at + _FRAME + (length + 7 & ~7)
            if end > len(self._pending):
                break
            yield self._parse(bytes(self._pending[at + _FRAME : at + _FRAME + length]))
            at = end
        del self._pending[:at]

    def _parse(self, record: bytes) -> tuple[int, Mapping]:
        t, start, end, offset, pid, path_len = _HEAD.unpack_from(record)
        path = record[_HEAD.size : _HEAD.size + path_len]
        return pid, Mapping(start, end, offset, path, self._build_id(pid, path), t)

    def _build_id(self, pid: int, path: bytes) -> bytes:
        if path not in self._build_ids:
            self._build_ids[path] = _read_build_id(pid, path)
        return self._build_ids[path]


def _read_build_id(pid: int, path: bytes) -> bytes:
    """As the process itself sees the path, while it lives; then as we do."""
    if not path.startswith(b"/"):
        return b""
    for place in (b"/proc/%d/root%s" % (pid, path), path):
        try:
            with ElfFile.open(Path(os.fsdecode(place))) as elf:
                return elf.build_id
        except (OSError, ElfError):
            continue
    return b""
