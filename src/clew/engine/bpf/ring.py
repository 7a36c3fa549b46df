"""The user's side of a BPF ring buffer: whole byte ranges, taken as they lie, never decoded.

The layout is kernel/bpf/ringbuf.c's: a page with the consumer's position, a page with the producer's, then
the data mapped twice in a row, so that every range is contiguous.  A record whose header has the BUSY bit is
still being written: we stop before it.

The positions are read and written as one machine word (ctypes does; struct.pack_into goes byte by byte, and a
half-written position makes the kernel believe that the ring is full).
"""

from __future__ import annotations

import ctypes as C
import mmap
import struct
from collections.abc import Callable
from contextlib import suppress

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
        self._consumed = C.c_uint64.from_buffer(self._consumer)
        self._produced = np.frombuffer(self._view, "<u8", 1)
        self._position = self._consumed.value

    def drain(self, sink: Callable[[memoryview], None]) -> int:
        """Give ``sink`` the finished bytes there are, then free them.  Returns how many.

        If ``sink`` raises, nothing is freed.
        """
        produced = int(self._produced[0])
        if produced == self._position:
            return 0
        start = PAGE + (self._position & (self._size - 1))
        ready = self._finished(start, produced - self._position)
        if ready:
            sink(self._view[start : start + ready])
            self._position += ready
            self._consumed.value = self._position
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
        """Unmap; what an exception on its way still holds goes with it."""
        del self._consumed, self._produced
        with suppress(BufferError):
            self._view.release()
            self._producer.close()
        self._consumer.close()
