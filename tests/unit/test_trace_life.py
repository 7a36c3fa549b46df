"""Lifecycle records as the reader understands them."""

from __future__ import annotations

import numpy as np

from clew.trace.layout import LIFE
from clew.trace.reader import _life


def test_a_name_ends_where_the_kernel_ended_it() -> None:
    record = np.zeros(1, LIFE)
    record["comm"] = b"-n\0of-an-older"
    assert _life(memoryview(record.tobytes())).comm == b"-n"
