"""The folder in which sessions of holds are found (``clew.kernel.runtime_dir``), one for each test."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder of our own, which is returned: other tests, and people, may hold too."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("CLEW_RUNTIME_DIR", str(folder))
    return folder
