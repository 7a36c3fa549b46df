"""Both engines, for tests that record or follow with each in turn."""

from __future__ import annotations

import pytest

from tests.support.prerequisites import require


@pytest.fixture(params=["bpf", "ptrace"])
def engine(request: pytest.FixtureRequest) -> str:
    """The engine to follow with; skipped where it cannot be had."""
    name: str = request.param
    require(*(("root", "bpf") if name == "bpf" else ("ptrace",)))
    return name
