"""The bytes of a recording: numpy's view of ``clew.trace.records``.

In the spool each record is preceded by the 8-byte header of a BPF ring buffer (its length in the low 30 bits
of the first word) and padded to 8 bytes, so that the ring's bytes are copied as they are.
"""

from __future__ import annotations

import numpy as np

from clew.trace import records

RING_HEADER = 8
BUSY = 1 << 31
DISCARD = 1 << 30
LENGTH_MASK = DISCARD - 1

_NUMPY = {"u8": "u1", "u16": "<u2", "u32": "<u4", "s32": "<i4", "u64": "<u8"}


def _fields(described: tuple[records.Field, ...]) -> list[tuple[str, str]]:
    """The fields as numpy has them: a text as bytes, other arrays as they lie."""
    return [(field.name, _type(field)) for field in described]


def _type(field: records.Field) -> str:
    if field.type == "char":
        return f"S{field.count}"
    return _NUMPY[field.type] if field.count == 1 else f"V{records.SIZES[field.type] * field.count}"


EVENT = np.dtype(_fields(records.EVENT))
LIFE = np.dtype(_fields(records.LIFE))
STACK = np.dtype(_fields(records.STACK))
REGISTERS = STACK["regs"].itemsize

FRAMED_EVENT = np.dtype([("header", "<u4"), ("page", "<u4"), *_fields(records.EVENT)])
"""One event as it lies in the spool, header included: 72 bytes."""


def framed(record: bytes) -> bytes:
    """``record`` with a ring buffer's header before it and its padding after it."""
    return len(record).to_bytes(8, "little") + record + bytes(-len(record) % 8)
