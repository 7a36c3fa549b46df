"""The reader's side of the rings that ``tracer/ring.c`` writes: whole byte ranges, taken as they lie.

A page of positions (per ring: bytes written, bytes taken, size, where it begins; then the lost records per
kind), then the rings.  Bytes are framed as a BPF ring buffer's; a record may go on at the ring's beginning.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable

from clew.model.event import EventKind

_HEADER = 4096
_WORDS = 4  # of a ring, in the header
_KINDS = 64
_LIFECYCLE_BYTES, _STACKS_BYTES, _MAPS_BYTES = 1 << 23, 1 << 25, 1 << 22
NAMES = ("events", "lifecycle", "stacks", "maps")

Sink = Callable[[memoryview], None]


def _power_of_two(size: int) -> int:
    return 1 << max(12, (size - 1).bit_length())


class Rings:
    """Shared memory with one ring for each of NAMES.  ``fd`` is for the tracer."""

    def __init__(self, events_bytes: int) -> None:
        sizes = (_power_of_two(events_bytes), _LIFECYCLE_BYTES, _STACKS_BYTES, _MAPS_BYTES)
        self.fd = os.memfd_create("clew-rings", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, _HEADER + sum(sizes))
        self._map = mmap.mmap(self.fd, _HEADER + sum(sizes))
        self._bytes = memoryview(self._map)
        self._header = self._bytes[:_HEADER].cast("Q")
        at = _HEADER
        for i, size in enumerate(sizes):
            self._header[i * _WORDS + 2] = size
            self._header[i * _WORDS + 3] = at
            at += size

    def drain(self, name: str, sink: Sink) -> int:
        """Give ``sink`` what ring ``name`` holds, then free it.  Returns how many bytes.

        If ``sink`` raises, nothing is freed.
        """
        ring = NAMES.index(name) * _WORDS
        head, tail, size, at = self._header[ring : ring + _WORDS]
        for start, end in _ranges(tail, head, size):
            sink(self._bytes[at + start : at + end])
        self._header[ring + 1] = head
        return int(head - tail)

    def lost(self) -> dict[str, int]:
        """Records for which there was no room, per kind."""
        counts = self._header[len(NAMES) * _WORDS : len(NAMES) * _WORDS + _KINDS + 1]
        lost = {kind.name.lower(): counts[kind] for kind in EventKind if counts[kind]}
        if counts[_KINDS]:
            lost["mapping"] = counts[_KINDS]
        return lost

    def close(self) -> None:
        """Unmap; the tracer keeps its own view for as long as it writes."""
        self._header.release()
        self._bytes.release()
        self._map.close()
        os.close(self.fd)


def _ranges(tail: int, head: int, size: int) -> list[tuple[int, int]]:
    """Where the bytes from ``tail`` to ``head`` lie in a ring of ``size``: none, one or two ranges."""
    if head == tail:
        return []
    start, length = tail & (size - 1), head - tail
    if start + length <= size:
        return [(start, start + length)]
    return [(start, size), (0, length - (size - start))]
