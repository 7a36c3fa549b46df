"""No program takes more stack than the strictest kernel allows, whichever kernel the tests run on."""

from __future__ import annotations

from pathlib import Path

import pytest

import clew.engine.bpf
from tests.support.bpf_frames import MOST_BYTES, MOST_FRAMES, functions, worst

PROBES = Path(clew.engine.bpf.__file__).parent / "probes"
OBJECTS = sorted(PROBES.glob("*.bpf.o"))


@pytest.mark.requires("probes")
@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_every_chain_of_calls_fits_the_stack(path: Path) -> None:
    known = functions(path)
    called = {callee for function in known.values() for callee in function.calls}
    for program in known.keys() - called:
        taken, chain = worst(known, program)
        assert taken <= MOST_BYTES, chain
        assert len(chain) <= MOST_FRAMES, chain


@pytest.mark.requires("probes")
def test_frames_and_calls_are_read() -> None:
    known = functions(PROBES / "hold.bpf.o")
    assert "hold_decide" in known["hold_exec"].calls
    assert known["clew_glob_feed_at"].frame >= 128
    assert worst(known, "hold_text_matches")[0] > worst(known, "hold_component")[0]
