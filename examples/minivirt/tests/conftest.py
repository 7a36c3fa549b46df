"""Every test gets a minivirt of its own: as root both daemons, as a user the session daemon."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from minivirt_world import USER, World, a_world, python_for

IS_ROOT = os.geteuid() == 0
WHO = {"root-system": ("system", 0), "root-session": ("session", 0), "user-session": ("session", USER)}


def _world(who: str, emulator: str) -> Iterator[World]:
    kind, uid = WHO[who]
    if not IS_ROOT:
        if uid == 0:
            pytest.skip("needs root")
        uid = os.geteuid()
    if emulator == "qemu" and not shutil.which("qemu-system-x86_64"):
        pytest.skip("QEMU is not installed")
    if (python := python_for(uid)) is None:
        pytest.skip(f"no Python >= 3.11 that uid {uid} can run")
    with a_world(kind, uid, emulator, python) as world:
        if kind == "system":
            world.daemonise("--grace", "20")
        else:
            world.env["MINIVIRT_TIMEOUT"] = "600"  # no test may depend on how fast it runs
        yield world


@pytest.fixture(params=[*WHO])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """With the stand-in: quick, and there everywhere. The system daemon runs already."""
    yield from _world(request.param, "stand-in")


@pytest.fixture(params=["qemu", "stand-in"])
def emulator(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[*WHO])
def any_world(request: pytest.FixtureRequest, emulator: str) -> Iterator[World]:
    """With either emulator."""
    yield from _world(request.param, emulator)


@pytest.fixture
def session() -> Iterator[World]:
    """A user's session daemon, not started yet."""
    yield from _world("user-session", "stand-in")


@pytest.fixture
def root_system() -> Iterator[World]:
    """The system daemon, running."""
    yield from _world("root-system", "stand-in")
