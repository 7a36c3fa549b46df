"""The bytes of a recording: numpy's view of ``engine/bpf/probes/record.h``.

Every engine writes these records, the ``bpf`` one in the kernel, the ``ptrace`` one from Python.  In the
spool each is preceded by the 8-byte header of a BPF ring buffer (its length in the low 30 bits of the first
word) and padded to 8 bytes, so that the ring's bytes are copied as they are.
tests/unit/test_record_layout.py compares sizes and offsets with the compiled probe's BTF.
"""

from __future__ import annotations

import numpy as np

RING_HEADER = 8
BUSY = 1 << 31
DISCARD = 1 << 30
LENGTH_MASK = DISCARD - 1

_EVENT_FIELDS = [
    ("t0", "<u8"),
    ("t", "<u8"),
    ("tid", "<u4"),
    ("pid", "<u4"),
    ("kind", "u1"),
    ("channel", "u1"),
    ("nr", "<u2"),
    ("ret", "<i4"),
    ("sp", "<u8"),
    ("chan", "<u8"),
    ("peer", "<u8"),
    ("stack", "<u4"),
    ("flags", "<u2"),
    ("count", "<u2"),
]

EVENT = np.dtype(_EVENT_FIELDS)

LIFE = np.dtype(
    [
        ("t", "<u8"),
        ("start", "<u8"),
        ("sp", "<u8"),
        ("chan", "<u8"),
        ("peer", "<u8"),
        ("peer2", "<u8"),
        ("local", "<u8"),
        ("kind", "<u4"),
        ("tid", "<u4"),
        ("pid", "<u4"),
        ("other_tid", "<u4"),
        ("other_pid", "<u4"),
        ("stack", "<u4"),
        ("code", "<i4"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("ns_mnt", "<u4"),
        ("ns_pid", "<u4"),
        ("ns_net", "<u4"),
        ("flags", "<u4"),
        ("channel", "<u2"),
        ("blob_len", "<u2"),
        ("comm", "S16"),
    ]
)

REGISTERS = 168

STACK = np.dtype(
    [
        ("t", "<u8"),
        ("id", "<u8"),
        ("sp", "<u8"),
        ("kind", "<u4"),
        ("tid", "<u4"),
        ("pid", "<u4"),
        ("len", "<u4"),
        ("regs", f"V{REGISTERS}"),
    ]
)

FRAMED_EVENT = np.dtype([("header", "<u4"), ("page", "<u4"), *_EVENT_FIELDS])
"""One event as it lies in the spool, header included: 72 bytes."""


def framed(record: bytes) -> bytes:
    """``record`` with a ring buffer's header before it and its padding after it."""
    return len(record).to_bytes(8, "little") + record + bytes(-len(record) % 8)
