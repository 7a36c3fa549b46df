"""The user's side of a BPF ring buffer: whole byte ranges, taken as they lie, never decoded.

The layout is kernel/bpf/ringbuf.c's: a page with the consumer's position, a page with the producer's, then
the data mapped twice in a row, so that every range is contiguous.  A record whose header has the BUSY bit is
still being written: we stop before it.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable

import numpy as np

from clew.engine.bpf.libbpf import Map
from clew.trace.layout import BUSY, LENGTH_MASK, RING_HEADER

PAGE = mmap.PAGESIZE


class Ring:
    """One ring buffer map.  ``stride`` is the framed size if all its records have the same, else 0."""

    def __init__(self, bpf_map: Map, stride: int = 0) -> None:
        self._size = bpf_map.max_entries
        self._stride = stride
        fd = bpf_map.fd
        self._consumer = mmap.mmap(fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._producer = mmap.mmap(fd, PAGE + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=PAGE)
        self._view = memoryview(self._producer)
        self._position = struct.unpack_from("<Q", self._consumer, 0)[0]

    def drain(self, sink: Callable[[memoryview], None]) -> int:
        """Give ``sink`` the finished bytes there are, then free them.  Returns how many.

        If ``sink`` raises, nothing is freed.
        """
        produced = struct.unpack_from("<Q", self._producer, 0)[0]
        if produced == self._position:
            return 0
        start = PAGE + (self._position & (self._size - 1))
        ready = self._finished(start, produced - self._position)
        if ready:
            sink(self._view[start : start + ready])
            self._position += ready
            struct.pack_into("<Q", self._consumer, 0, self._position)
        return ready

    def _finished(self, start: int, length: int) -> int:
        """How many of ``length`` bytes at ``start`` hold records that are complete."""
        if self._stride:
            headers = np.frombuffer(self._view, "<u4", length // 4, start)[:: self._stride // 4]
            busy = np.flatnonzero(headers & BUSY)
            return int(busy[0]) * self._stride if len(busy) else length
        at = 0
        while at < length:
            header = struct.unpack_from("<I", self._view, start + at)[0]
            if header & BUSY:
                break
            at += (RING_HEADER + (header & LENGTH_MASK) + 7) & ~7
        return at

    def close(self) -> None:
        """Unmap."""
        self._view.release()
        self._producer.close()
        self._consumer.close()
