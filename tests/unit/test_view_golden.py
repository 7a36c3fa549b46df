"""Whole outputs, as a person found them good."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.view.golden import GOLDEN, shown


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_view_is_what_it_was(path: Path) -> None:
    assert shown(path) == path.read_text(), f"look at it; python -m tests.golden.view writes {path.name} anew"


def test_no_golden_file_is_left_over() -> None:
    kept = {path for path in GOLDEN[0].parent.iterdir() if path.suffix not in (".py", "") and path.is_file()}
    assert kept == set(GOLDEN)
