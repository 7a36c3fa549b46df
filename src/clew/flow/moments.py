"""When calls were made: columns of the events table, read where needed only (it may not fit in memory)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def left_at(events: NDArray[np.void], rows: NDArray[Any]) -> Rows:
    """When the calls in ``rows`` were entered (or, before the recording, when they returned)."""
    entered: Rows = events["t0"][rows].astype(np.int64)
    unknown = np.flatnonzero(entered == 0)
    entered[unknown] = events["t"][rows[unknown]]
    return entered
