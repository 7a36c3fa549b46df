"""The records' bytes: what Python reads is what both engines write."""

from __future__ import annotations

import numpy as np
import pytest

from clew.engine.described import header
from clew.model.event import EventKind
from clew.trace.layout import EVENT, FRAMED_EVENT, LENGTH_MASK, LIFE, RING_HEADER, STACK, framed


def test_what_c_is_given_is_what_python_has() -> None:
    told = header()
    assert f"KIND_RECV = {int(EventKind.RECV)}," in told
    assert f'sizeof(struct clew_event) == {EVENT.itemsize}, "padded"' in told
    assert (EVENT.itemsize, LIFE.itemsize, STACK.itemsize) == (64, 128, 208)
    assert max(EventKind) < 64  # KIND_MAX: what the tables of losses hold


def test_an_event_in_the_spool_is_the_event_behind_its_header() -> None:
    record = np.zeros(1, EVENT)
    record["t0"], record["tid"], record["kind"], record["count"] = 1 << 63, 7, EventKind.RECV, 65535
    (read,) = np.frombuffer(framed(record.tobytes()), FRAMED_EVENT)
    assert read["header"] & LENGTH_MASK == EVENT.itemsize
    assert all(read[name] == record[name][0] for name in EVENT.names or ())
    assert FRAMED_EVENT.itemsize == RING_HEADER + EVENT.itemsize


@pytest.mark.parametrize("length", range(1, 18))
def test_records_are_padded_as_the_kernel_pads_them(length: int) -> None:
    # kernel/bpf/ringbuf.c: round_up(len + BPF_RINGBUF_HDR_SZ, 8)
    whole = framed(b"x" * length)
    assert len(whole) == -(-(length + RING_HEADER) // 8) * 8
    assert int.from_bytes(whole[:4], "little") & LENGTH_MASK == length
    assert whole[RING_HEADER : RING_HEADER + length] == b"x" * length
