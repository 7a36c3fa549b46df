"""Part of a minute of the soak: ``./x bench hold-soak`` is ten minutes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).resolve().parents[2]


@pytest.mark.requires("root", "bpf", "ptrace", "gdb")
@pytest.mark.xfail(
    strict=False,
    reason="a known fault: killed with -9, the ptrace engine now and then leaves a breakpoint (SIGTRAP)",
)
def test_no_round_of_the_soak_leaves_anything_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.hold_soak", "60"],
        cwd=_HERE,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
