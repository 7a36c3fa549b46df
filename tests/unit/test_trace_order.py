"""Events are put in the order of their times, and no row is touched that need not be."""

from __future__ import annotations

import numpy as np
import pytest

from clew.trace.layout import FRAMED_EVENT
from clew.trace.order import misplaced, put_in_order


def table_of(times: list[int]) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """Events of these times, each with its row as its ``sp``."""
    table = np.zeros(len(times), FRAMED_EVENT)
    table["t"] = times
    table["sp"] = np.arange(len(times))
    return table


@pytest.mark.parametrize(
    ("times", "rows"),
    [
        ([], []),
        ([7], []),
        ([1, 2, 2, 3], []),
        ([1, 3, 2, 4], [1, 2]),
        ([2, 1], [0, 1]),
        ([1, 5, 2, 3, 6, 9, 8], [1, 2, 3, 5, 6]),
        ([3, 3, 1, 3], [0, 1, 2]),
    ],
)
def test_only_rows_out_of_place_are_named(times: list[int], rows: list[int]) -> None:
    assert misplaced(np.array(times, np.uint64)).tolist() == rows


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("reach", [1, 3, 50, 2000])
def test_it_is_the_stable_sort(seed: int, reach: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.arange(2000) // 2 + rng.integers(0, reach + 1, 2000)
    table = table_of(times.tolist())
    expected = table[np.argsort(table["t"], kind="stable")]
    put_in_order(table)
    assert np.array_equal(table, expected)


def test_times_beyond_half_the_range_are_times_too() -> None:
    table = table_of([1 << 63, 5, (1 << 64) - 1, 1 << 63])
    put_in_order(table)
    assert table["t"].tolist() == [5, 1 << 63, 1 << 63, (1 << 64) - 1]
    assert table["sp"].tolist() == [1, 0, 3, 2]
