"""Puts events in the order of their times, in place.

A recorder takes the time of an event before its place in the ring, so events of two CPUs may lie the wrong
way round: one in some hundreds, and never far from where it belongs.  Sorting the whole table would copy all
of it; here only the rows between which the order is broken are touched, so that a private mapping keeps the
pages of the others as they are in the file.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def put_in_order(table: NDArray[np.void]) -> None:
    """Sort the rows of ``table`` by their ``t``; rows of the same time keep their order.

    ``table`` must be writable.
    """
    rows = misplaced(np.ascontiguousarray(table["t"]))
    if len(rows):
        table[rows] = table[rows[np.argsort(table["t"][rows], kind="stable")]]


def misplaced(times: NDArray[np.uint64]) -> NDArray[np.intp]:
    """The rows, in their order, that must change places among themselves for ``times`` to be sorted."""
    if not np.any(times[1:] < times[:-1]):
        return np.empty(0, np.intp)
    latest_before = np.maximum.accumulate(times)[:-1]
    earliest_after = np.minimum.accumulate(times[::-1])[::-1][1:]
    broken = latest_before > earliest_after
    touched = np.zeros(len(times), np.bool_)
    touched[:-1] |= broken
    touched[1:] |= broken
    return np.flatnonzero(touched)
