"""Every test gets a minivirt of its own: as root both daemons, as a user the session daemon."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from minivirt_world import WHO, World, open_world


@pytest.fixture(params=[*WHO])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """With the stand-in: quick, and there everywhere. The system daemon runs already."""
    yield from open_world(request.param, "stand-in")


@pytest.fixture(params=["qemu", "stand-in"])
def emulator(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[*WHO])
def any_world(request: pytest.FixtureRequest, emulator: str) -> Iterator[World]:
    """With either emulator."""
    yield from open_world(request.param, emulator)


@pytest.fixture
def session() -> Iterator[World]:
    """A user's session daemon, not started yet."""
    yield from open_world("user-session", "stand-in")


@pytest.fixture
def root_system() -> Iterator[World]:
    """The system daemon, running."""
    yield from open_world("root-system", "stand-in")
