"""Which files are mapped executable, by every process, as it happens: perf's side-band records.

A "dummy" software event (perf_event_open(2)) on each CPU reports PERF_RECORD_MMAP2 with the full path and
the build id, stamped with CLOCK_MONOTONIC, at no cost to anything but mmap itself.
"""

from __future__ import annotations

import ctypes as C
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from clew.errors import PermissionMissing
from clew.model.frame import Mapping

_SYS_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
_ATTR_SIZE = 136
_TYPE_SOFTWARE = 1
_COUNT_SW_DUMMY = 9
_SAMPLE_TID_TIME = 1 << 1 | 1 << 2
_FLAGS = 1 << 8 | 1 << 18 | 1 << 23 | 1 << 25 | 1 << 34  # mmap, sample_id_all, mmap2, use_clockid, build_id
_FLAG_FD_CLOEXEC = 8
_CLOCK_MONOTONIC = 1
_RECORD_LOST, _RECORD_MMAP2 = 2, 10
_MISC_BUILD_ID = 1 << 14
_PROT_EXEC = 4
# Pages of data: as many as a stall of seconds needs (a disk that does not take what the recorder writes),
# shared by the CPUs of a large machine.
_PAGES_TOGETHER, _PAGES_LEAST, _PAGES_MOST = 8192, 64, 1024


def _open(cpu: int) -> int:
    attr = bytearray(_ATTR_SIZE)
    struct.pack_into(
        "<IIQQQQQ", attr, 0, _TYPE_SOFTWARE, _ATTR_SIZE, _COUNT_SW_DUMMY, 0, _SAMPLE_TID_TIME, 0, _FLAGS
    )
    struct.pack_into("<i", attr, 92, _CLOCK_MONOTONIC)
    libc = C.CDLL(None, use_errno=True)
    buffer = (C.c_char * _ATTR_SIZE).from_buffer(attr)
    fd = libc.syscall(_SYS_PERF_EVENT_OPEN[os.uname().machine], buffer, -1, cpu, -1, _FLAG_FD_CLOEXEC)
    if fd < 0:
        raise PermissionMissing(
            f"The kernel does not report file mappings: {os.strerror(C.get_errno())}.",
            "Run as root, or with CAP_PERFMON.",
        )
    return int(fd)


def _pages(cpus: int) -> int:
    """Pages of data for each of so many CPUs; perf_event_open(2) takes powers of two."""
    share = max(_PAGES_LEAST, min(_PAGES_MOST, _PAGES_TOGETHER // cpus))
    return 1 << (share.bit_length() - 1)


def online_cpus() -> list[int]:
    """Numbers of the CPUs that are online now."""
    cpus: list[int] = []
    for part in Path("/sys/devices/system/cpu/online").read_text().strip().split(","):
        low, _, high = part.partition("-")
        cpus.extend(range(int(low), int(high or low) + 1))
    return cpus


class _CpuBuffer:
    """One CPU's ring: a control page (data_head at 1024, data_tail at 1032), then the records."""

    def __init__(self, cpu: int, pages: int) -> None:
        self._fd = _open(cpu)
        self._size = pages * mmap.PAGESIZE
        self._map = mmap.mmap(self._fd, self._size + mmap.PAGESIZE)
        # One machine word each: a position half read or half written would be another position.
        self._head = C.c_uint64.from_buffer(self._map, 1024)
        self._tail = C.c_uint64.from_buffer(self._map, 1032)

    def records(self) -> Iterator[tuple[int, int, bytes]]:
        """Each new record: (type, misc, the bytes after its 8-byte header)."""
        head, tail = self._head.value, self._tail.value
        while tail < head:
            kind, misc, size = struct.unpack("<IHH", self._take(tail, 8))
            yield kind, misc, self._take(tail + 8, size - 8)
            tail += size
        self._tail.value = tail

    def _take(self, position: int, size: int) -> bytes:
        at = position % self._size
        first = self._map[mmap.PAGESIZE + at : mmap.PAGESIZE + min(at + size, self._size)]
        return first + self._map[mmap.PAGESIZE : mmap.PAGESIZE + size - len(first)]

    def close(self) -> None:
        del self._head, self._tail
        self._map.close()
        os.close(self._fd)


class MappingWatch:
    """Executable file mappings of the whole machine from now on.  ``lost`` counts what was not kept."""

    def __init__(self) -> None:
        self.lost = 0
        self._buffers: list[_CpuBuffer] = []
        try:
            cpus = online_cpus()
            self._buffers.extend(_CpuBuffer(cpu, _pages(len(cpus))) for cpu in cpus)
        except BaseException:
            self.close()
            raise

    def drain(self) -> Iterator[tuple[int, Mapping]]:
        """(pid, mapping) of each file mapped executable since the last call."""
        for buffer in self._buffers:
            for kind, misc, body in buffer.records():
                if kind == _RECORD_MMAP2:
                    found = _parse(misc, body)
                    if found:
                        yield found
                elif kind == _RECORD_LOST:
                    self.lost += struct.unpack_from("<QQ", body)[1]

    def close(self) -> None:
        """Stop watching."""
        for buffer in self._buffers:
            buffer.close()
        self._buffers.clear()


def _parse(misc: int, body: bytes) -> tuple[int, Mapping] | None:
    pid, _tid, start, length, offset = struct.unpack_from("<IIQQQ", body)
    (prot,) = struct.unpack_from("<I", body, 56)
    if not prot & _PROT_EXEC:
        return None
    build_id = body[36 : 36 + body[32]] if misc & _MISC_BUILD_ID else b""
    path = body[64:-16].split(b"\0", 1)[0]
    (when,) = struct.unpack_from("<Q", body, len(body) - 8)
    if not path.startswith((b"/", b"[vdso]")):
        return None
    return pid, Mapping(start, start + length, offset, path, build_id, when)
